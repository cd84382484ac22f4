"""What a training epoch costs on a GPU: `python -m benchmarks.gpu [--utterances 16000] [--fine-tuned] [--json]`.

One row per model (concat and PaSE), precision, batch size, and with and without `torch.compile`: seconds per epoch,
utterances per second, the part of the time that steps wait for data and its way to the device, how busy the device is,
its peak memory, and whether a step waits for the device (`torch.cuda.set_sync_debug_mode("error")` around one). PaSE's
overhead is its seconds over those of concat in the same setting. `--fine-tuned` reads transcripts with a language model
that is trained (`--text-model`: "minilm", or a folder or hub name, such as MPNet's). Data are made here, with the sizes
of CMU-MOSEI. Without a GPU the same runs on the CPU, which shows that it works and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from typing import Any

import lightning
import numpy as np
import torch

from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.data.transcripts import TextConfig
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare

SIZES = {"text": 768, "audio": 74, "vision": 35}
MODELS: dict[str, dict[str, Any]] = {"concat": {"model": {"name": "concat"}}, "pase": {}}
_WORDS = np.array(["the", "film", "was", "not", "very", "good", "bad", "dull", "story", "end", "music", "face"])
_CHECKED = 5  # the step around which waiting for the device is an error; the first ones set things up


def make_table(utterances: int, *, transcripts: bool) -> FeatureTable:
    """Random utterances, a tenth of them for validation, with features or transcripts as text."""
    random = np.random.default_rng(0)
    sizes = {name: size for name, size in SIZES.items() if not (transcripts and name == "text")}
    valid = max(utterances // 10, 8)

    def rows() -> Any:
        for i in range(utterances + valid):
            score = float(random.uniform(-3, 3))
            features = {
                name: random.standard_normal(size, dtype=np.float32) + 0.1 * score for name, size in sizes.items()
            }
            text = " ".join(random.choice(_WORDS, random.integers(8, 40))) if transcripts else None
            split = "train" if i < utterances else "valid"
            yield Utterance(f"u{i}", f"{split}{i // 5}", split, {"sentiment": score}, features, text)

    return FeatureTable.build(rows(), Schema(sizes, {"sentiment": "real"}, text=transcripts))


class Meter(lightning.Callback):
    """Seconds of epochs and of waiting for batches; looks into one step for what waits for the device."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.waits: list[float] = []
        self.busy: list[float] = []
        self.synchronises: str | None = None
        self._epoch = self._ended = self._wait = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clocks."""
        _finish()
        self._epoch = self._ended = time.perf_counter()
        self._wait = 0.0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the wait for this batch."""
        self._wait += time.perf_counter() - self._ended
        if torch.cuda.is_available() and trainer.global_step == _CHECKED:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """The step is over."""
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
        self._ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clocks; the first epoch has costs of its own."""
        try:
            if torch.cuda.is_available():
                self.busy.append(float(torch.cuda.utilization()))
        except ModuleNotFoundError:  # pynvml is not installed
            pass
        _finish()
        if trainer.current_epoch:
            seconds = time.perf_counter() - self._epoch
            self.epochs.append(seconds)
            self.waits.append(self._wait / seconds)


def _finish() -> None:
    """Let the device finish what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(
    table: FeatureTable, model: str, *, batch_size: int, precision: str, compiled: bool, text: TextConfig, epochs: int
) -> dict[str, Any]:
    """One setting."""
    training = TrainingConfig(epochs=epochs, patience=epochs, batch_size=batch_size, precision=precision)
    config = RunConfig(text=text, training=training, **MODELS[model])
    prepared = prepare(config, table)
    if compiled:
        prepared.model.compile()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    meter = Meter()
    waits_for_device = None if not torch.cuda.is_available() else False
    try:
        fit(config, prepared, None, progress=False, extra=[meter])
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        waits_for_device = True
    seconds = statistics.median(meter.epochs) if meter.epochs else float("nan")
    return {
        "model": model,
        "batch_size": batch_size,
        "precision": precision,
        "compiled": compiled,
        "seconds_an_epoch": seconds,
        "utterances_a_second": len(prepared.train) / seconds,
        "waiting": statistics.median(meter.waits) if meter.waits else None,
        "busy_percent": statistics.median(meter.busy) if meter.busy else None,
        "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None,
        "step_waits_for_device": waits_for_device,
    }


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--utterances", type=int, default=16000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--precisions", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--compile", choices=["no", "yes", "both"], default="both")
    parser.add_argument("--fine-tuned", action="store_true", help="train a language model on transcripts")
    parser.add_argument("--text-model", default="minilm")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    table = make_table(options.utterances, transcripts=options.fine_tuned)
    text = TextConfig(model=options.text_model, frozen=not options.fine_tuned)
    compiled = {"no": [False], "yes": [True], "both": [False, True]}[options.compile]
    rows = []
    for batch_size, precision, each in itertools.product(options.batch_sizes, options.precisions, compiled):
        setting = {"batch_size": batch_size, "precision": precision, "compiled": each}
        pair = [measure(table, model, text=text, epochs=options.epochs, **setting) for model in MODELS]
        pair[1]["overhead"] = pair[1]["seconds_an_epoch"] / pair[0]["seconds_an_epoch"]
        rows += pair
    if options.json:
        print(json.dumps({"device": device, "torch": torch.__version__, "rows": rows}))
        return
    print(f"{device}, torch {torch.__version__}, {options.utterances} training utterances")
    for row in rows:
        print(
            ", ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )


if __name__ == "__main__":
    main()
