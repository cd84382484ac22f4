"""Seconds per epoch and peak memory of training on a feature table of the size of CMU-MOSEI, or any other.

    python -m benchmarks.scale [--folder build/scale] [--utterances 22856] [--models concat pase] [--epochs 2] [--keep]
    python -m benchmarks.scale --utterances 1000000 --steps 1              # one vector per modality
    python -m benchmarks.scale --stream 4096                               # from shards, with a shuffle buffer

Writes a table of noise with a little of the label in it: aligned, up to 50 steps (`--steps`) of 768 / 74 / 35, five in
seven utterances for training. Training runs in a process of its own, so that its peak is its own; anonymous memory is
shown, since pages of the mapped table count as resident although they can be dropped at any time. The table is
removed unless `--keep` is given: 100 kB an utterance with 50 steps, as much again for shards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers import Clock
from pase_msa.data.opening import open_data, training_part
from pase_msa.data.shards import write_shards
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare

SIZES = {"text": 768, "audio": 74, "vision": 35}
STEPS = 50
_SPLITS = ("train",) * 5 + ("valid", "test")


def utterances(count: int, most: int, seed: int = 0) -> Iterator[Utterance]:
    """Utterances of at most so many steps, one by one, seven to a video; of seven videos one is for validation, one for
    the test.
    """
    rng = np.random.default_rng(seed)
    directions = {name: rng.standard_normal(size).astype(np.float32) for name, size in SIZES.items()}
    for row in range(count):
        score = float(np.clip(np.round(rng.normal(0.2, 1.1), 1), -3, 3))
        steps = int(rng.integers(min(5, most), most + 1))
        features = {
            name: rng.standard_normal((steps, size), dtype=np.float32) + np.float32(0.1 * score) * directions[name]
            for name, size in SIZES.items()
        }
        video = row // 7
        yield Utterance(f"u{row}", f"v{video}", _SPLITS[video % 7], {"sentiment": score}, features)


class Peak(threading.Thread):
    """The largest anonymous memory of this process, read ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0

    def run(self) -> None:
        """Read on until the process ends."""
        while True:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            self.largest = max(self.largest, int(line.split()[1]))
            time.sleep(0.1)


def measure(folder: str, model: str, epochs: int, stream: int | None, precision: str) -> dict[str, object]:
    """Seconds per epoch and peak memory in GB; also the seconds before the first epoch."""
    torch.set_num_threads(1)
    peak, began = Peak(), time.perf_counter()
    peak.start()
    training = TrainingConfig(
        epochs=epochs + 1, patience=epochs + 1, threads=1, shuffle_buffer=stream, precision=precision
    )
    config = RunConfig(training=training, model={"name": model})
    prepared = prepare(config, open_data(folder, part=training_part(config.to_dict())))
    ready, clock = time.perf_counter() - began, Clock()
    fit(config, prepared, None, progress=False, extra=[clock])
    return {"model": model, "prepared": ready, **clock.seconds, "anonymous_gb": peak.largest / 2**20}


def main() -> None:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/scale"))
    parser.add_argument("--utterances", type=int, default=22_856)
    parser.add_argument("--models", nargs="*", default=["concat", "pase"])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the longest utterance")
    parser.add_argument("--stream", type=int, help="utterances of the shuffle buffer; the whole table if left out")
    parser.add_argument("--precision", default="32-true", help="as for pase train, such as bf16-mixed")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(
            json.dumps(measure(str(options.folder), options.measure, options.epochs, options.stream, options.precision))
        )
        return
    if not options.folder.exists():
        rows = utterances(options.utterances, options.steps)
        FeatureTable.build(rows, Schema(SIZES, {"sentiment": "real"}), path=options.folder)
    data = options.folder
    if options.stream:
        data = options.folder.with_name(f"{options.folder.name}-shards")
        if not data.exists():
            write_shards(FeatureTable.load(options.folder), data, 16)
    for model in options.models:
        own = [sys.executable, "-m", "benchmarks.scale", "--folder", str(data)]
        own += ["--epochs", str(options.epochs), "--measure", model, "--precision", options.precision]
        own += ["--stream", str(options.stream)] if options.stream else []
        done = subprocess.run(own, check=True, capture_output=True, text=True)
        print(f"{options.utterances} utterances: {done.stdout.strip().splitlines()[-1]}", flush=True)
    if not options.keep:
        for folder in {options.folder, data}:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
