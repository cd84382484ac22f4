"""Where the time of a training epoch goes: the shares of the operators, by their own processor time.

    python -m benchmarks.profile [--data FILE] [--model concat] [--text minilm] [--precision 32-true] [--rows 8]

One thread. The first epoch is left out; the second one is profiled with its validation. With `--text` a language model
is fine-tuned on the transcripts of the data. The profiler makes an epoch longer, so shares count, not seconds.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning
import torch
from torch.profiler import ProfilerActivity, profile

from pase_msa.data.opening import open_data
from pase_msa.training.config import RunConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare


class SecondEpoch(lightning.Callback):
    """Profiles the second epoch."""

    def __init__(self) -> None:
        self.profiler = profile(activities=[ProfilerActivity.CPU])

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin."""
        if trainer.current_epoch == 1:
            self.profiler.start()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """End."""
        self.profiler.stop()


def shares(
    data: str | None, model: str, text: str | None, precision: str
) -> tuple[float, list[tuple[str, float, int]]]:
    """Seconds in operators, and by operator, largest first: name, share of these seconds, calls."""
    training: dict[str, Any] = {"epochs": 2, "patience": 2, "threads": 1, "precision": precision}
    options: dict[str, Any] = {"model": {"name": model}, "training": training}
    if text is not None:
        options["text"] = {"model": text, "frozen": False}
    config, second = RunConfig.from_options(options, data=data), SecondEpoch()
    fit(config, prepare(config, open_data(data)), None, progress=False, extra=[second])
    found = [(row.key, row.self_cpu_time_total, row.count) for row in second.profiler.key_averages()]
    total = sum(time for _, time, _ in found)
    ordered = sorted(found, key=lambda row: -row[1])
    return total / 1e6, [(name, time / total, calls) for name, time, calls in ordered]


def main() -> None:
    """Print the largest shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="feature table, folder or file; the synthetic benchmark if left out")
    parser.add_argument("--model", default="concat")
    parser.add_argument("--text", help="language model to fine-tune")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--rows", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    total, rows = shares(options.data, options.model, options.text, options.precision)
    print(f"{options.model}: {total:.2f} s in operators")
    for name, share, calls in rows[: options.rows]:
        print(f"  {100 * share:5.1f} %  {name}, {calls} calls")


if __name__ == "__main__":
    main()
