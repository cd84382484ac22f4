"""A small model that reads clips, and a spoken video."""

import pytest
import torch

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.media.config import ExtractConfig
from pase_msa.media.example_clip import write_example
from pase_msa.media.pipeline import Extractor
from pase_msa.models.base import build_model
from pase_msa.serve.clips import ClipPredictor
from pase_msa.task import Task
from tests.toys import train_steps

SENTENCE = "I really love this movie, the story is wonderful."


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run folder, as far as prediction needs one."""
    folder = tmp_path_factory.mktemp("run")
    record = Extractor(ExtractConfig(["text", "audio"])).record
    inputs = {name: InputSpec(item["dim"], "sequence", {}) for name, item in record["modalities"].items()}
    task = Task.regression(["text", "audio"], -3, 3, label="sentiment")
    torch.manual_seed(0)
    model = build_model("pase", task, inputs, {"width": 8, "dropout": 0.0})
    there = torch.ones(14, dtype=torch.bool)
    features = {name: torch.randn(14, 3, spec.dim) for name, spec in inputs.items()}
    labels = torch.arange(14).float() % 7 - 3
    batch = Batch(features, {name: 3 * there.long() for name in inputs}, dict.fromkeys(inputs, there), labels)
    train_steps(model, [batch] * 80)
    model.extraction = record
    model.save_pretrained(folder / "model")
    (folder / "model" / "README.md").write_text("# A toy\n\n- **Text: nothing <b>real</b>.** Untrained.\n")
    (folder / "examples").mkdir()
    write_example(folder / "examples" / "delighted.mp4", SENTENCE)
    return folder


@pytest.fixture(scope="session")
def video(run):
    return run / "examples" / "delighted.mp4"


@pytest.fixture(scope="session")
def clip_predictor(run):
    return ClipPredictor(run)


@pytest.fixture(scope="session")
def utterances(clip_predictor, video):
    """The video, read."""
    return clip_predictor.extract(video)
