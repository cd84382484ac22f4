"""What a network predicts of a training batch from only some of the modalities."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.task import Task


class CoalitionNetwork(Protocol):
    """The part of a model (`pase_msa.models.base.Model`) that is needed here."""

    task: Task

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities, one per coalition."""


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Neither dropout nor gradients; afterwards the model is in the mode that it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def responses(model: CoalitionNetwork, batch: Batch, coalitions: Sequence[frozenset[str]]) -> Float[Tensor, "c n k"]:
    """Logits of each coalition, without dropout; the model is left in the mode that it was in."""
    assert isinstance(model, nn.Module)
    with evaluating(model):
        return torch.stack([outputs.logits.float() for outputs in model.network_coalitions(batch, coalitions)])


class PresentMeans:
    """Means over the utterances that have the modality, over micro-batches and processes.

    Args:
        names: of the modalities.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sums: Tensor | None = None

    def add(self, values: Float[Tensor, "m n"], batch: Batch) -> None:
        """Add one value per modality and utterance."""
        here = torch.stack([batch.present[name] for name in self.names]).to(values.dtype)
        newest = torch.stack([(values * here).sum(1), here.sum(1)])
        self.sums = newest if self.sums is None else self.sums + newest

    def take(self, trainer: object) -> dict[str, float]:
        """The means since the last call, of the modalities that some utterance has."""
        if self.sums is None:
            return {}
        joint = trainer.strategy.reduce(self.sums, reduce_op="sum")  # type: ignore[attr-defined]
        self.sums = None
        totals, counts = joint.tolist()
        return {n: total / count for n, total, count in zip(self.names, totals, counts, strict=True) if count}
