"""Seconds per epoch in one process and in several on one machine, one thread each: `python -m benchmarks.distributed`.

    python -m benchmarks.distributed [--utterances 16000] [--frames 1] [--epochs 4] [--batch-size 64] [--json]

Features of the sizes of CMU-MOSEI (768 / 74 / 35), made here; `--frames 50` makes sequences of 5 to 50 steps of them.
Every model goes over the same utterances with the same joint batch: of two processes, each has half of it. An epoch
includes the validation pass and everything else that the trainer does; the figure is the median of all but the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.epoch import Clock
from pase_msa.data.opening import open_data
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit, run_threads
from pase_msa.training.processes import rank
from pase_msa.training.run import prepare

MODELS: dict[str, dict[str, Any]] = {"concat": {"model": {"name": "concat"}}, "pase": {}}
SIZES = {"text": 768, "audio": 74, "vision": 35}


def write_data(folder: Path, utterances: int, frames: int) -> None:
    """A table of random features; one in ten utterances is for validation."""
    length = (1, 1) if frames == 1 else (max(frames // 10, 1), frames)
    modalities = {name: ModalitySpec(dim=size, length=length) for name, size in SIZES.items()}
    valid = max(utterances // 10, 20)
    spec = SyntheticSpec(modalities, train=utterances, valid=valid, test=20)
    synthetic_table(spec, path=folder)


def train_one(data: str, model: str, processes: int, epochs: int, batch_size: int) -> None:
    """Train, and print the seconds of the epochs; the other processes print nothing."""
    own = batch_size // processes  # of each process
    training = TrainingConfig(
        epochs=epochs, patience=epochs, batch_size=own, threads=1, accelerator="cpu", devices=processes
    )
    config = RunConfig(data=data, training=training, **MODELS[model])
    clock = Clock()
    prepared = prepare(config, open_data(data))
    with run_threads(config, prepared.model):
        trainer, _ = fit(config, prepared, None, progress=False, extra=[clock])
    if rank() == 0:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name == "val/nll"}
        print(json.dumps({"seconds": clock.seconds, **metrics}))


def measure(data: str, model: str, processes: int, epochs: int, batch_size: int) -> dict[str, Any]:
    """The same in a Python process of its own, which starts the others."""
    words = ["--worker", data, "--model", model, "--processes", str(processes), "--epochs", str(epochs)]
    words += ["--batch-size", str(batch_size)]
    command = [sys.executable, "-m", "benchmarks.distributed", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"seconds": statistics.median(result["seconds"]), "nll": result["val/nll"]}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--utterances", type=int, default=16000, help="of the training split")
    parser.add_argument("--frames", type=int, default=1, help="largest number of steps of an utterance")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--model", choices=list(MODELS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", metavar="DATA", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        train_one(options.worker, options.model, options.processes, options.epochs, options.batch_size)
        return
    results: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        data = str(Path(folder) / "data")
        write_data(Path(data), options.utterances, options.frames)
        for model in [options.model] if options.model else MODELS:
            counts, rest = (1, options.processes), (options.epochs, options.batch_size)
            one, several = (measure(data, model, count, *rest) for count in counts)
            results[model] = {"one": one, "several": several, "speedup": one["seconds"] / several["seconds"]}
    if options.json:
        print(json.dumps(results))
        return
    for model, row in results.items():
        print(
            f"{model:8} {row['one']['seconds']:7.2f} s in one process, {row['several']['seconds']:7.2f} s in "
            f"{options.processes}: {row['speedup']:.2f} times as fast; validation nll {row['one']['nll']:.4f} and "
            f"{row['several']['nll']:.4f}"
        )


if __name__ == "__main__":
    main()
