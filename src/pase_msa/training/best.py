"""The best epoch's weights and the log, kept in memory: what a run folder has on disk."""

from __future__ import annotations

import math
from typing import Literal

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from pase_msa.models.base import Model
from pase_msa.training.module import SentimentModule


class BestWeights(Callback):
    """Remembers the model's weights at the epoch of the best validation metric (the first of equals).

    Args:
        metric: name of the logged validation metric.
        mode: whether a small or a large one is good.

    Attributes:
        epoch: number of the best epoch so far, or None before the first.
        weights: the model's state then, on the CPU.
    """

    def __init__(self, metric: str, mode: Literal["min", "max"]) -> None:
        super().__init__()
        self.metric = metric
        self.sign = 1.0 if mode == "max" else -1.0
        self.value = -math.inf
        self.epoch: int | None = None
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare and keep."""
        found = trainer.callback_metrics.get(self.metric)
        value = -math.inf if found is None else self.sign * float(found)
        if self.epoch is None or value > self.value:
            assert isinstance(pl_module, SentimentModule)
            self.epoch, self.value = trainer.current_epoch, -math.inf if math.isnan(value) else value
            self.weights = {
                name: tensor.detach().cpu().clone() for name, tensor in pl_module.model.state_dict().items()
            }

    def restore(self, model: Model) -> None:
        """Give the model the weights back."""
        if self.weights:
            model.load_state_dict(self.weights)


def best_epoch(trainer: Trainer) -> int | None:
    """The epoch whose weights a finished trainer has kept in memory."""
    return next((kept.epoch for kept in trainer.callbacks if isinstance(kept, BestWeights)), None)  # type: ignore[attr-defined]


class History(Callback):
    """One row an epoch: mean training losses, validation metrics, what the balancing method says.

    Attributes:
        rows: {"epoch", "train/...", "intra/...", "val/...", ...} each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row."""
        assert isinstance(pl_module, SentimentModule)
        measured = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        row = {"epoch": trainer.current_epoch} | pl_module.epoch_means | measured
        self.rows.append(row | pl_module.modulation.log_values())
