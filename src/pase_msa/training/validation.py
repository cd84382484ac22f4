"""What every coalition of modalities says of the validation split after an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pase_msa.batch import Batch, Outputs
from pase_msa.objective import soft_cross_entropy
from pase_msa.task import Task


class ValidationGames:
    """Collects the outputs of some coalitions over a validation pass.

    Args:
        task: what is predicted.
        games: coalitions, in the order of their outputs.
    """

    def __init__(self, task: Task, games: Sequence[frozenset[str]]) -> None:
        self.task = task
        self.games = list(games)
        self.reset()

    def reset(self) -> None:
        """Begin a pass."""
        self._logits: list[Float[Tensor, "c n k"]] = []
        self._labels: list[Float[Tensor, " n"]] = []
        self._videos: list[Int[Tensor, " n"]] = []

    def take(self, outputs: Sequence[Outputs], batch: Batch) -> None:
        """Add a batch."""
        assert batch.labels is not None
        self._logits.append(torch.stack([output.logits.float() for output in outputs]).cpu())
        self._labels.append(batch.labels.cpu())
        # utterances of unknown video count as videos of their own
        start = -sum(len(part) for part in self._videos) - 1
        own = torch.arange(start, start - len(batch), -1)
        self._videos.append(own if batch.videos is None else batch.videos.cpu())

    @property
    def labels(self) -> Float[Tensor, " n"]:
        """Of all utterances taken."""
        return torch.cat(self._labels)

    @property
    def videos(self) -> Int[Tensor, " n"]:
        """Of all utterances taken."""
        return torch.cat(self._videos)

    @property
    def halves(self) -> Int[Tensor, " n"]:
        """Half of the videos, 0 or 1, that each utterance belongs to; fixed, since video numbers are arbitrary."""
        videos = np.unique(self.videos.numpy())
        order = np.random.default_rng(0).permutation(len(videos))
        half = dict(zip(videos.tolist(), (order % 2).tolist(), strict=True))
        return torch.tensor([half[video] for video in self.videos.tolist()])

    def likelihoods(self) -> Float[Tensor, "c n"]:
        """Log-likelihood of every game and utterance, nats."""
        membership = self.task.membership(self.labels)
        return -soft_cross_entropy(torch.cat(self._logits, dim=1), membership)

    def mixture(self, weights: Float[Tensor, "c n"], device: torch.device | str = "cpu") -> Outputs:
        """Outputs of every utterance by its own weights of the games, on a device."""
        logits = torch.cat(self._logits, dim=1)
        probabilities = (weights.unsqueeze(2) * logits.softmax(2).double()).sum(0).float().to(device)
        score = self.task.score(probabilities) if self.task.kind == "regression" else None
        return Outputs(probabilities.clamp(min=1e-30).log(), probabilities, score, probabilities)
