"""Seconds per epoch of PaSE, by balancing method, against plain concatenation with the same encoders, side by side.

    python -m benchmarks.epoch [--data FOLDER] [--epochs 12] [--rounds 3] [--json]

Epochs include the validation pass and everything the trainer does. Rounds alternate between the models, so that a busy
machine slows both alike; the figure is the median epoch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import lightning
import torch

from pase_msa.data.opening import open_data
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare


class Clock(lightning.Callback):
    """Duration of each epoch, the first left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock, except in the first epoch, which has costs of its own."""
        if trainer.current_epoch:
            self.seconds.append(time.perf_counter() - self._start)


def measure(data: str | None, epochs: int, rounds: int) -> dict[str, Any]:
    """Median seconds per epoch by model, and their ratios to concatenation."""
    table = open_data(data)
    models = {
        "concat": {"model": {"name": "concat"}},
        "paper": {"balancing": {"name": "sgm"}},
        "held-out": {"balancing": {"name": "held_out"}},
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, options in models.items():
            training = TrainingConfig(epochs=epochs, patience=epochs, threads=1)
            config = RunConfig(data=data, training=training, **options)
            clock = Clock()
            fit(config, prepare(config, table), None, progress=False, extra=[clock])
            seconds[name] += clock.seconds
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = len(table.rows("train"))
    return {
        "data": str(table.meta.get("source", "synthetic")),
        "training_utterances": rows,
        "seconds_an_epoch": medians,
        "ratios": {name: value / medians["concat"] for name, value in medians.items()},
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=None, help="feature table or folder; the synthetic benchmark if left out")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(options.data, options.epochs, options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['data']}, {result['training_utterances']} training utterances, one thread")
    for name, value in result["seconds_an_epoch"].items():
        print(f"{name:8s} {1e3 * value:8.1f} ms per epoch {result['ratios'][name]:6.2f} times concatenation")


if __name__ == "__main__":
    main()
