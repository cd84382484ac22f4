"""Callbacks of a run: when training stops, which weights are kept, and what is measured on the way.

In the order of a run: `LossBeforeAfter` (losses before and after training), `Patience` (early stopping),
`checkpoints` with `WholeCheckpoints` (best and last epoch in a run folder) or `BestWeights` (best epoch in memory),
`EpochLog` and `History` (one row per epoch, in the run folder's logs and in memory).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from pase_msa.balancing.base import LossMeasurement
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.files import make_folder, replacing
from pase_msa.models.base import Model
from pase_msa.objective import soft_cross_entropy
from pase_msa.training.data_module import SentimentData
from pase_msa.training.module import PROGRESS, SentimentModule, log_now


class LossBeforeAfter(Callback):
    """Measures the cross-entropy on both splits before the first epoch and after the last.

    Args:
        batch_size: utterances per pass.

    Attributes:
        measured: the losses before training, and those after it once it is over.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.measured: list[LossMeasurement] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the losses of the untrained model."""
        self._measure(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the losses of the trained model."""
        self._measure(trainer, pl_module)

    @torch.no_grad()
    def _measure(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, SentimentModule)
        data: SentimentData = trainer.datamodule  # type: ignore[attr-defined]
        training = module.model.training
        module.model.eval()
        losses = [self._loss(module, dataset) for dataset in (data.train, data.valid)]
        module.model.train(training)
        self.measured.append(LossMeasurement(*losses))

    def _loss(self, module: SentimentModule, dataset: UtteranceDataset) -> float:
        """Mean cross-entropy of the network on a labelled dataset, in nats per utterance."""
        model, total = module.model, 0.0
        for batch in evaluation_loader(dataset, self.batch_size):
            moved = batch.to(module.device)
            assert moved.labels is not None
            logits = model.network(moved).logits.float()
            total += float(soft_cross_entropy(logits, model.task.membership(moved.labels)).sum())
        return total / len(dataset)


class Patience(EarlyStopping):
    """Early stopping that waits for a network that is still getting better by itself.

    A balancing method may report `PROGRESS` (see `MixtureWeights`): while it rises, predictions may yet gain from it. A
    resumed run stops at once where it had already stopped before it was cut short.

    Attributes:
        best_progress: the largest `PROGRESS` so far.
    """

    best_progress = -math.inf

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the epochs in which neither the metric nor the network's own progress got better."""
        progress = trainer.callback_metrics.get(PROGRESS)
        if progress is not None and float(progress) > self.best_progress:
            self.best_progress = float(progress)
            self.wait_count = -1  # the call below adds one where the metric did not get better
        super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The state of the checkpoint."""
        return {**super().state_dict(), "best_progress": self.best_progress}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        super().load_state_dict(state_dict)
        self.best_progress = state_dict["best_progress"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train no epoch more than the run that was not cut short."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it, so that a kill leaves no half file.

    Lightning itself writes to the temporary folder first. That may be on another disk, where a move is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint whole or not at all."""
        target = Path(path)
        make_folder(target.parent)
        with replacing(target) as partial:
            torch.save(checkpoint, partial)


def checkpoints(folder: Path, monitor: str, mode: Literal["min", "max"]) -> list[Callback]:
    """The callbacks that write `best.ckpt`, the best epoch, and `last.ckpt`, the last complete one.

    The best one is written first. A kill between the two repeats the epoch, which writes the best one again.
    """
    options: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    return [
        ModelCheckpoint(folder, filename="best", monitor=monitor, mode=mode, **options),
        ModelCheckpoint(folder, filename="last", **options),
    ]


class BestWeights(Callback):
    """Keeps the model's weights at the epoch of the best validation metric (the first of equals) in memory.

    Args:
        metric: name of the logged validation metric.
        mode: whether a small or a large value is good.

    Attributes:
        epoch: number of the best epoch so far, or None before the first.
        value: the metric then, with its sign changed where a small one is good.
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
        """Copy the weights where the epoch is the best so far."""
        metric = trainer.callback_metrics.get(self.metric)
        value = -math.inf if metric is None else self.sign * float(metric)
        if self.epoch is None or value > self.value:
            assert isinstance(pl_module, SentimentModule)
            self.epoch, self.value = trainer.current_epoch, -math.inf if math.isnan(value) else value
            self.weights = {
                name: tensor.detach().cpu().clone() for name, tensor in pl_module.model.state_dict().items()
            }

    def restore(self, model: Model) -> None:
        """Give the model the kept weights."""
        if self.weights:
            model.load_state_dict(self.weights)


def best_weights(trainer: Trainer) -> BestWeights:
    """The callback with the best epoch of a finished trainer that wrote no checkpoints."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, BestWeights))  # type: ignore[attr-defined]


class History(Callback):
    """One row per epoch: mean training losses, validation metrics, and the log values of the balancing method.

    Attributes:
        rows: {"epoch", "train/...", "intra/...", "val/...", ...} each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of the epoch."""
        assert isinstance(pl_module, SentimentModule)
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        row = {"epoch": trainer.current_epoch} | pl_module.epoch_means | metrics
        self.rows.append(row | pl_module.balancing.log_values())


class EpochLog(Callback):
    """Logs the values of the balancing method, the phase and the model's fusion weights at the end of an epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the values of the epoch."""
        assert isinstance(pl_module, SentimentModule)
        values = pl_module.balancing.log_values()
        values["phase"] = float(pl_module.balancing.active)
        weighting = getattr(pl_module.model, "weighting", None)
        if weighting is not None:
            values |= {f"weight/{name}": float(value) for name, value in weighting().items()}
        log_now(pl_module, values)
