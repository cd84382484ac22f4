"""Seconds per epoch against MMSA 2.2.1 on the same files, in turn, one thread each.

    python -m benchmarks.peers [--folder build/peers] [--rounds 2] [--epochs 4] [--models lmf lf_dnn tfn]

Makes an environment of its own for MMSA from PyPI (minutes, once) and two files of MOSI's size in MMSA's layout,
aligned (50 steps each) and unaligned (50, 500 and 375 steps). Epochs include validation; the first is left out. The
figure is the median over all rounds, of wall time and of processor time; the second one hardly depends on what else the
machine does. Each library trains with its own options, batch size included. Below: PaSE against our concatenation.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import time
import venv
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from pase_msa.data.opening import open_data
from pase_msa.data.table import FeatureTable
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare

SIZES = {"text": 768, "audio": 5, "vision": 20}
COUNTS = {"train": 1284, "valid": 229, "test": 686}
STEPS = {"aligned": {"text": 50, "audio": 50, "vision": 50}, "unaligned": {"text": 50, "audio": 500, "vision": 375}}
OURS = {"concat": "none", "pase": "held_out"}
_TORCH = ("torch==2.13.0", "--extra-index-url", "https://download.pytorch.org/whl/cpu", "--retries", "1")


def features(kind: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Data of MOSI's size in MMSA's layout: noise with a little of the label in it, lengths drawn evenly."""
    rng = np.random.default_rng(seed)
    directions = {name: rng.standard_normal(size) for name, size in SIZES.items()}
    return {split: _split(kind, split, count, rng, directions) for split, count in COUNTS.items()}


def _split(
    kind: str, split: str, count: int, rng: np.random.Generator, directions: dict[str, np.ndarray[Any, Any]]
) -> dict[str, Any]:
    scores = np.clip(np.round(rng.normal(0.2, 1.6, count), 1), -3, 3).astype(np.float32)
    words = rng.integers(5, 51, count)
    names = np.where(scores < 0, "Negative", np.where(scores > 0, "Positive", "Neutral")).tolist()
    result: dict[str, Any] = {
        "id": [f"{split}{row // 4}$_${row % 4}" for row in range(count)],
        "raw_text": [f"utterance {row}" for row in range(count)],
        "annotations": names,
        "regression_labels": scores,
        "classification_labels": np.sign(scores) + 1,
    }
    for name, steps in STEPS[kind].items():
        lengths = words if steps == 50 else rng.integers(20, steps + 1, count)
        values = rng.standard_normal((count, steps, SIZES[name]), dtype=np.float32)
        values += (0.2 * scores[:, None, None] * directions[name]).astype(np.float32)
        values[np.arange(steps) >= lengths[:, None]] = 0.0
        result[name] = values
        if steps != 50:
            result[f"{name}_lengths"] = lengths.tolist()
    mask = np.arange(50) < words[:, None]
    result["text_bert"] = np.stack([rng.integers(1000, 20000, mask.shape) * mask, mask, 0 * mask], 1).astype(np.float32)
    return result


def environment(folder: Path) -> Path:
    """The interpreter of MMSA's environment, which is made where it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        for packages in (_TORCH, ("MMSA==2.2.1",)):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return python


class Clock(lightning.Callback):
    """Wall and processor time of each epoch, the first left out."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the time at the end of the epoch, validation included."""
        self.ends.append((time.perf_counter(), time.process_time()))

    @property
    def seconds(self) -> dict[str, list[float]]:
        """By kind of time."""
        pairs = list(zip(self.ends, self.ends[1:], strict=False))
        return {kind: [after[i] - before[i] for before, after in pairs] for i, kind in enumerate(("wall", "cpu"))}


def ours(table: FeatureTable, model: str, epochs: int) -> dict[str, list[float]]:
    """Seconds per epoch of a model of this library."""
    training = TrainingConfig(epochs=epochs + 1, patience=epochs + 1, threads=1)
    config = RunConfig(training=training, model={"name": model}, balancing={"name": OURS.get(model, "none")})
    clock = Clock()
    fit(config, prepare(config, table), None, progress=False, extra=[clock])
    return clock.seconds


def theirs(python: Path, file: Path, model: str, epochs: int, folder: Path) -> dict[str, list[float]]:
    """Seconds per epoch of a model of MMSA."""
    driver = Path(__file__).with_name("mmsa_driver.py")
    command = [str(python), str(driver), model, str(file), str(epochs), str(folder)]
    # its home is where it would write logs
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    done = subprocess.run(command, check=True, env=settings, capture_output=True, text=True)
    seconds: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds


def compare(folder: Path, kind: str, models: list[str], rounds: int, epochs: int) -> list[dict[str, Any]]:
    """One row per model: median seconds of both libraries, and the ratio."""
    file = folder / f"{kind}.pkl"
    if not file.exists():
        file.write_bytes(pickle.dumps(features(kind), 4))
    table, python = open_data(str(file)), environment(folder / "mmsa")
    measured: dict[tuple[str, str], dict[str, list[float]]] = {}
    for _ in range(rounds):
        for model in models:
            _add(measured, ("MMSA", model), theirs(python, file, model, epochs, folder))
            _add(measured, ("ours", model), ours(table, model, epochs))
        for model in OURS:
            _add(measured, ("ours", model), ours(table, model, epochs))
    medians = {key: {name: statistics.median(v) for name, v in values.items()} for key, values in measured.items()}
    rows = [
        {"data": kind, "first": f"MMSA {m}", "second": f"ours {m}", "a": medians["MMSA", m], "b": medians["ours", m]}
        for m in models
    ]
    pase, concat = medians["ours", "pase"], medians["ours", "concat"]
    return [*rows, {"data": kind, "first": "ours PaSE", "second": "ours concat", "a": pase, "b": concat}]


def _add(measured: dict[Any, dict[str, list[float]]], key: Any, seconds: dict[str, list[float]]) -> None:
    for kind, values in seconds.items():
        measured.setdefault(key, {}).setdefault(kind, []).extend(values)


def main() -> None:
    """Print a line per model and file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/peers"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--models", nargs="*", default=["lmf", "lf_dnn", "tfn"])
    parser.add_argument("--data", nargs="*", default=list(STEPS), choices=list(STEPS))
    options = parser.parse_args()
    torch.set_num_threads(1)  # as in the driver of MMSA
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    for kind in options.data:
        for row in compare(options.folder, kind, options.models, options.rounds, options.epochs):
            times = "; ".join(
                f"{name} {row['a'][name]:.2f} s / {row['b'][name]:.2f} s = {row['a'][name] / row['b'][name]:.2f}"
                for name in ("wall", "cpu")
            )
            print(f"{row['data']}: {row['first']} / {row['second']}: {times}", flush=True)


if __name__ == "__main__":
    main()
