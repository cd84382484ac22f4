"""Checkpoints that a kill at any point leaves whole, and an early stop that a resumed run remembers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO


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
    """Early stopping that stops at once where the run had stopped already before it was cut short."""

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
