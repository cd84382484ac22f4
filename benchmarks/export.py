"""An exported model on ONNX Runtime against the same model in PyTorch, side by side on one core.

    python -m benchmarks.export [--run RUN] [--rounds 40] [--json]

Without a run, models of the usual size with random weights: three modalities (text one vector of 384, audio 40 steps
of 74, vision 40 steps of 35), three coalitions. Rounds alternate between the two, so that a busy machine slows both
alike; the figure is the median time of a prediction. Loading is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pase_msa.batch import Batch
from pase_msa.calibration import confidence
from pase_msa.data.inputs import InputSpec
from pase_msa.models.base import Model, build_model
from pase_msa.serve.export import export_onnx
from pase_msa.serve.onnx_model import FEATURES, LENGTH, OnnxModel
from pase_msa.serve.predictor import Predictor
from pase_msa.task import Task

SIZES = {"text": 384, "audio": 74, "vision": 35}
STEPS = {"text": 1}
LONG = 40


def usual(name: str) -> Model:
    """A model with random weights that predicts by coalitions."""
    torch.manual_seed(0)
    task = Task.regression(tuple(SIZES), -3, 3)
    model = build_model(name, task, {modality: InputSpec(dim) for modality, dim in SIZES.items()}, {}).eval()
    model.mixture.set({frozenset(SIZES): 0.6, frozenset(["text"]): 0.3, frozenset(["text", "audio"]): 0.1})
    return model


def compare(model: Model, rounds: int, count: int, folder: Path) -> dict[str, float]:
    """Median milliseconds of a prediction of `count` utterances."""
    file = folder / "model.onnx"
    exported = OnnxModel(file if file.is_file() else export_onnx(model, file), threads=1)
    features = {n: torch.randn(count, STEPS.get(n, LONG), spec.dim) for n, spec in model.inputs.items()}
    lengths = {n: torch.full((count,), value.shape[1]) for n, value in features.items()}
    batch = Batch(features, lengths, {n: torch.ones(count, dtype=torch.bool) for n in features})
    inputs = {FEATURES.format(n): value.numpy() for n, value in features.items()}
    inputs |= {LENGTH.format(n): value.numpy() for n, value in lengths.items()}
    temperature = float(model.temperature)

    @torch.inference_mode()
    def eager() -> None:
        confidence(model.task, model(batch).logits, temperature)

    seconds: dict[str, list[float]] = {"pytorch": [], "onnx": []}
    for _ in range(rounds + 3):
        for name, predict in {"pytorch": eager, "onnx": lambda: exported.run(inputs)}.items():
            seconds[name].append(_timed(predict))
    return {name: 1e3 * statistics.median(values[3:]) for name, values in seconds.items()}


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", default=None, help="run folder; models of random weights if left out")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.run is None:
        models = {name: usual(name) for name in ("pase", "concat")}
    else:
        models = {Path(options.run).name: Predictor(options.run).model}
    rows = []
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            for count in (1, 64):
                rows.append({"model": name, "batch": count, **compare(model, options.rounds, count, Path(folder))})
    if options.json:
        print(json.dumps(rows))
        return
    print("milliseconds per prediction, one thread")
    for row in rows:
        ratio = row["pytorch"] / row["onnx"]
        print(
            f"{row['model']:8s} batch {row['batch']:3d}: PyTorch {row['pytorch']:8.2f}, "
            f"ONNX Runtime {row['onnx']:8.2f}, {ratio:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
