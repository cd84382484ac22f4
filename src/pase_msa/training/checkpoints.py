"""Checkpoints that a kill at any point leaves whole, and an early stop that a resumed run remembers."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

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

    A balancing method may report "val/progress" (see `Settlement`): while it rises, predictions may yet gain from it.
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
