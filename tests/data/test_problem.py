"""From a table to a problem, and to what a trained model predicts from; what each of them may load and read."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from pase_msa.data.inputs import InputSpec
from pase_msa.data.problem import Problem, ProblemOptions, task_from_table
from pase_msa.data.synthetic import ModalitySpec, SyntheticSpec, synthetic_table
from pase_msa.data.table import FeatureTable
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.models.base import build_model
from pase_msa.training.config import RunConfig


@pytest.fixture(scope="module")
def table():
    modalities = {"audio": ModalitySpec(dim=5, length=(1, 3)), "vision": ModalitySpec(dim=4, missing=0.4)}
    return synthetic_table(SyntheticSpec(modalities, train=30, valid=10, test=8, utterances_per_video=5))


def changed(table, change):
    """The table with every utterance changed."""
    rows = [change(table.utterance(row)) for row in range(len(table))]
    return FeatureTable.build(rows, table.schema, meta=table.meta)


def unlabelled_test(row):
    return dataclasses.replace(row, labels={"sentiment": None}) if row.split == "test" else row


def model_of(table):
    problem = Problem.from_table(table)
    return build_model("concat", problem.task, problem.inputs, {"width": 4})


def test_a_problem_has_task_inputs_and_two_datasets(table):
    problem = Problem.from_table(table)
    assert problem.task.modalities == ("audio", "vision")
    assert problem.task.label == "sentiment"
    assert problem.inputs == {"audio": InputSpec(5, steps=3), "vision": InputSpec(4, steps=12)}
    assert problem.train.rows.tolist() == table.rows("train").tolist()
    assert problem.valid.rows.tolist() == table.rows("valid").tolist()
    values = table.labels("sentiment")
    assert problem.valid.targets().tolist() == pytest.approx([values[row] for row in table.rows("valid")])
    assert not problem.fine_tunes
    assert problem.frozen() is problem


def test_labels_of_the_test_split_are_never_part_of_a_problem(table):
    problem = Problem.from_table(table)
    assert np.isnan(problem.train.labels[table.rows("test")]).all()
    other = Problem.from_table(changed(table, unlabelled_test))
    np.testing.assert_array_equal(other.train.labels, problem.train.labels)


def test_options_choose_modalities_kind_and_encoders(table):
    options = ProblemOptions(kind="classification", modalities=["vision"], encoders={"vision": {"hidden": 3}})
    numbered = changed(
        table, lambda row: dataclasses.replace(row, labels={"sentiment": round(row.labels["sentiment"])})
    )
    problem = Problem.from_table(numbered, options)
    assert problem.task.kind == "classification"
    assert problem.task.modalities == ("vision",)
    assert problem.inputs["vision"].options == {"hidden": 3}
    assert (problem.train.columns["vision"].present[problem.train.rows]).all()
    assert task_from_table(numbered, options) == problem.task


def test_options_come_from_a_run_or_from_the_options_of_one():
    run = RunConfig(label="x", modalities=["a"], text=TextConfig(frozen=False), encoders={"a": {"hidden": 2}})
    assert run.problem == ProblemOptions("x", "auto", None, ["a"], TextConfig(frozen=False), {"a": {"hidden": 2}})
    mapping = {
        "label": "x",
        "modalities": ["a"],
        "text": {"frozen": False},
        "encoders": {"a": {"hidden": 2}},
        "seed": 3,
    }
    assert ProblemOptions.from_mapping(mapping) == run.problem


def test_a_large_dataset_is_sampled_by_whole_videos(table):
    train = Problem.from_table(table).train
    assert train.subsample(len(train), seed=0) is train
    part = train.subsample(12, seed=0)
    assert len(part) == 10
    chosen = set(part.videos[part.rows])
    assert part.rows.tolist() == [row for row in train.rows if train.videos[row] in chosen]
    assert len(train.subsample(1, seed=0)) == 5  # one video at least
    assert train.subsample(12, seed=1).rows.tolist() != part.rows.tolist()


def test_a_model_reads_any_table_as_it_was_trained(table):
    model = model_of(table)
    everything = model.dataset(table)
    assert len(everything) == len(table)
    with pytest.raises(PaSEError, match="without labels"):
        everything.targets()
    assert model.dataset(table, "test").rows.tolist() == table.rows("test").tolist()
    labelled = model.dataset(table, "test", labels=True)
    assert torch.isfinite(labelled.targets()).all()
    assert np.isnan(labelled.labels[table.rows("train")]).all()
    lacking = FeatureTable.build(
        [
            dataclasses.replace(table.utterance(row), features={"audio": table.sequences("audio")[row]})
            for row in range(4)
        ],
        dataclasses.replace(table.schema, modalities={"audio": 5}),
    )
    assert not model.dataset(lacking).columns["vision"].present.any()


def test_a_model_refuses_a_table_that_it_cannot_read(table):
    model = model_of(table)
    with pytest.raises(PaSEError, match="no split 'dev'; the data have test, train, valid"):
        model.dataset(table, "dev")
    with pytest.raises(PaSEError, match="test split has no utterance with both a label 'sentiment'"):
        model.dataset(changed(table, unlabelled_test), "test", labels=True)
    other = synthetic_table(SyntheticSpec({"audio": ModalitySpec(dim=6), "vision": ModalitySpec(dim=4)}, train=8))
    with pytest.raises(PaSEError, match="audio features of size 5, the data have 6"):
        model.dataset(other)


def test_a_model_always_compares_the_records_of_the_extraction(table):
    def record(window):
        settings = dict.fromkeys(("align", "recogniser", "language", "voice", "pause", "longest"))
        return {"settings": {**settings, "window": window}, "modalities": {}, "words": {"weights": []}}

    model, meta = model_of(table), dict(table.meta)
    recorded = FeatureTable(table.dataset, table.schema, {**meta, "extraction": record(0.5)})
    assert len(model.dataset(recorded)) == len(table)  # a model without a record accepts any
    model.extraction = record(0.5)
    assert len(model.dataset(recorded)) == len(table)
    assert len(model.dataset(table)) == len(table)
    model.extraction = record(0.25)
    with pytest.raises(PaSEError, match=r"extracted otherwise: window was 0\.25 in training and is 0\.5 here"):
        model.dataset(recorded)


PREDICT = """
import sys
from pase_msa.data.opening import open_table
from pase_msa.evaluation.inference import infer
from pase_msa.models.base import Model
from pase_msa.serve.predictor import Predictor

model = Model.from_pretrained(sys.argv[1])
infer(model, model.dataset(open_table(sys.argv[2]), "test", labels=True))
list(Predictor(sys.argv[1]).predict(sys.argv[2]))
print("\\n".join(sys.modules))
"""


def test_a_prediction_loads_neither_lightning_nor_training(table, tmp_path):
    model_of(table).save_pretrained(tmp_path / "model")
    table.save(tmp_path / "table")
    command = [sys.executable, "-c", PREDICT, str(tmp_path / "model"), str(tmp_path / "table")]
    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "pase_msa.models.base" in modules
    unwanted = ("lightning", "pytorch_lightning", "transformers", "sklearn", "matplotlib", "pase_msa.training")
    unwanted += ("pase_msa.media", "pase_msa.data.synthetic")
    assert [
        name for name in modules if name.startswith(tuple(f"{part}." for part in unwanted)) or name in unwanted
    ] == []
