"""Callbacks of a run: whole checkpoints, early stopping, the best weights, losses before and after, the history."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from pase_msa.balancing.base import LossMeasurement
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.models.base import Model
from pase_msa.objective import soft_cross_entropy
from pase_msa.training.module import SentimentModule

#: how far the network is by itself
PROGRESS = "val/progress"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target and renames: Lightning's own way goes through the temporary folder, which may be on
    another disk, where a move is a copy that a kill cuts in half."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint whole or not at all."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        torch.save(checkpoint, partial)
        os.replace(partial, target)


class Patience(EarlyStopping):
    """Early stopping that waits for a network that is still getting better by itself, and that stops at once where the
    run had stopped already before it was cut short.

    A balancing method may report "val/progress" (see `MixtureWeights`): while it rises, predictions may yet gain from
    it.
    """

    furthest = -math.inf

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the epochs in which neither the metric nor the network's own progress got better."""
        progress = trainer.callback_metrics.get(PROGRESS)
        if progress is not None and float(progress) > self.furthest:
            self.furthest = float(progress)
            self.wait_count = -1
        super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {**super().state_dict(), "furthest": self.furthest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        super().load_state_dict(state_dict)
        self.furthest = state_dict["furthest"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not train an epoch more than the run that was not cut short."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def checkpoints(folder: Path, monitor: str, mode: Literal["min", "max"]) -> list[Callback]:
    """`best.ckpt`, the best epoch, and `last.ckpt`, the last complete one.

    The best one is written first: where a kill comes between the two, the epoch is repeated and writes it again.
    """
    options: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    return [
        ModelCheckpoint(folder, filename="best", monitor=monitor, mode=mode, **options),
        ModelCheckpoint(folder, filename="last", **options),
    ]


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
        self.rows.append(row | pl_module.balancing.log_values())


class LossBeforeAfter(Callback):
    """Measures the losses before the first epoch and after the last.

    Attributes:
        found: both, once training is over.
    """

    def __init__(self, train: UtteranceDataset, valid: UtteranceDataset, batch_size: int) -> None:
        super().__init__()
        self.datasets, self.batch_size = (train, valid), batch_size
        self.found: list[LossMeasurement] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before."""
        self._measure(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After."""
        self._measure(pl_module)

    @torch.no_grad()
    def _measure(self, module: LightningModule) -> None:
        assert isinstance(module, SentimentModule)
        model, training, means = module.model, module.model.training, []
        model.eval()
        for dataset in self.datasets:
            total = 0.0
            for batch in evaluation_loader(dataset, self.batch_size):
                moved = batch.to(module.device)
                assert moved.labels is not None
                said = model.network(moved).logits.float()
                total += float(soft_cross_entropy(said, model.task.membership(moved.labels)).sum())
            means.append(total / len(dataset))
        model.train(training)
        self.found.append(LossMeasurement(*means))
