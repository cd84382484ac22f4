"""What every coalition of modalities says of the validation split after an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pase_msa.balancing.base import CoalitionPredictions
from pase_msa.batch import Batch, Outputs
from pase_msa.task import Task


class ValidationCoalitions:
    """Collects the outputs of some coalitions over a validation pass.

    Args:
        task: what is predicted.
        games: coalitions, in the order of their outputs.

    Attributes:
        reference: what the model's reference said in the first pass; it does not learn, so it is not asked again.
    """

    def __init__(self, task: Task, games: Sequence[frozenset[str]]) -> None:
        self.task = task
        self.games = list(games)
        self.reference: Float[Tensor, "n k"] | None = None
        self.reset()

    def reset(self) -> None:
        """Begin a pass."""
        self._probabilities: list[Float[Tensor, "c n k"]] = []
        self._reference: list[Float[Tensor, "n k"]] = []
        self._labels: list[Float[Tensor, " n"]] = []
        self._videos: list[Int[Tensor, " n"]] = []

    def take(self, outputs: Sequence[Outputs], batch: Batch, reference: Float[Tensor, "n k"] | None = None) -> None:
        """Add a batch: the outputs of every game, and what the model's reference says."""
        assert batch.labels is not None
        self._probabilities.append(torch.stack([output.probabilities.float() for output in outputs]).cpu())
        self._labels.append(batch.labels.cpu())
        # utterances of unknown video count as videos of their own
        start = -sum(len(part) for part in self._videos) - 1
        own = torch.arange(start, start - len(batch), -1)
        self._videos.append(own if batch.videos is None else batch.videos.cpu())
        if reference is not None:
            self._reference.append(reference.float().cpu())

    @property
    def labels(self) -> Float[Tensor, " n"]:
        """Of all utterances taken."""
        return torch.cat(self._labels)

    def played(self) -> CoalitionPredictions:
        """All of it."""
        videos = torch.cat(self._videos)
        if self._reference:
            self.reference = torch.cat(self._reference)
        known = np.unique(videos.numpy())
        # video numbers may follow an order that means something
        order = np.random.default_rng(0).permutation(len(known)) % 2
        halves = torch.as_tensor(order)[torch.as_tensor(np.searchsorted(known, videos.numpy()))]
        return CoalitionPredictions(
            torch.cat(self._probabilities, dim=1),
            self.reference,
            self.task.membership(self.labels),
            videos,
            halves,
        )


def outputs_of(task: Task, probabilities: Float[Tensor, "n k"]) -> Outputs:
    """Outputs that have nothing but probabilities."""
    score = task.score(probabilities) if task.kind == "regression" else None
    return Outputs(probabilities.clamp(min=1e-30).log(), probabilities, score, probabilities)
