"""Balancing methods that act at every step, and report the means of an epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from torch import Tensor

from pase_msa.balancing.base import BalancingMethod


class EpochMeans(BalancingMethod):
    """Keeps the means of an epoch's steps.

    Attributes:
        history: one entry per epoch, {"epoch", "active", and the means by name}.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: list[dict[str, Any]] = []
        self._sums: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0.0])

    def count(self, values: Mapping[str, float | Tensor]) -> None:
        """Add the values of a step. A tensor is read at the end of the epoch only, so that no step waits for it."""
        for name, value in values.items():
            self._sums[name][0] += value
            self._sums[name][1] += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch to the history."""
        means = {name: float(total) / steps for name, (total, steps) in self._sums.items()}
        self._sums.clear()
        self.history.append({"epoch": trainer.current_epoch, "active": self.active} | means)

    def log_values(self) -> dict[str, float]:
        """The newest means."""
        newest = self.history[-1] if self.history else {}
        return {name: float(value) for name, value in newest.items() if name not in ("epoch", "active")}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"active": self.active, "history": self.history}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.active, self.history = bool(state_dict["active"]), list(state_dict["history"])
