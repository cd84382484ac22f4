"""Means of the losses of an epoch, over its steps and over processes."""

from __future__ import annotations

from collections import defaultdict

import torch
from lightning import Trainer
from torch import Tensor


class EpochSums:
    """Sums of named scalars over the steps of an epoch; not every scalar is part of every step."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._means: dict[str, float] | None = None

    def reset(self) -> None:
        """Begin an epoch."""
        self._sums, self._means = {}, None

    @torch.no_grad()
    def add(self, values: dict[str, Tensor]) -> None:
        """Add the scalars of a step. One tensor per set of names, so that a step costs one addition."""
        # the last entry is 1 and counts the steps, since not every loss is part of every step
        names, stacked = tuple(values), torch.stack([*values.values(), torch.ones_like(next(iter(values.values())))])
        self._sums[names] = self._sums[names] + stacked if names in self._sums else stacked

    def means(self, trainer: Trainer) -> dict[str, float]:
        """The means over the steps of the epoch and over processes."""
        if self._means is None:
            sums: dict[str, float] = defaultdict(float)
            counts: dict[str, float] = defaultdict(float)
            for names, stacked in self._sums.items():
                joint = trainer.strategy.reduce(stacked, reduce_op="sum")
                assert isinstance(joint, Tensor)
                *values, count = joint.tolist()
                for name, value in zip(names, values, strict=True):
                    sums[name] += value
                    counts[name] += count
            self._means = {name: value / counts[name] for name, value in sums.items()}
        return self._means
