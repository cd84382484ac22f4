"""What a network predicts on the validation split from every coalition of modalities, after an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pase_msa.batch import Batch, Outputs
from pase_msa.task import Task


@dataclass(frozen=True)
class CoalitionPredictions:
    """Predictions of the n validation utterances from c coalitions, over k classes.

    Attributes:
        probabilities: of the classes, by coalition, [c, n, k].
        reference: those of the closed-form reference with all modalities, [n, k], where the model has one.
        membership: class membership of the labels, [n, k].
        videos: of each utterance, [n].
        halves: half of the validation videos that each utterance belongs to, 0 or 1, [n]. Weights that are fitted on
            one half can be judged on the other.
    """

    probabilities: Float[Tensor, "c n k"]
    reference: Float[Tensor, "n k"] | None
    membership: Float[Tensor, "n k"]
    videos: Int[Tensor, " n"]
    halves: Int[Tensor, " n"]


class ValidationCoalitions:
    """Collects the predictions of some coalitions over a validation pass.

    Args:
        task: what is predicted.
        coalitions: in the order of their outputs.

    Attributes:
        reference: predictions of the model's reference in the first pass. It is not trained, so that they stay as they
            are and need not be computed again.
    """

    def __init__(self, task: Task, coalitions: Sequence[frozenset[str]]) -> None:
        self.task = task
        self.coalitions = list(coalitions)
        self.reference: Float[Tensor, "n k"] | None = None
        self.reset()

    def reset(self) -> None:
        """Begin a pass."""
        self._probabilities: list[Float[Tensor, "c n k"]] = []
        self._reference: list[Float[Tensor, "n k"]] = []
        self._labels: list[Float[Tensor, " n"]] = []
        self._videos: list[Int[Tensor, " n"]] = []

    def add(self, outputs: Sequence[Outputs], batch: Batch, reference: Float[Tensor, "n k"] | None = None) -> None:
        """Add a batch: the outputs of every coalition, and class probabilities of the model's reference."""
        assert batch.labels is not None
        self._probabilities.append(torch.stack([output.probabilities.float() for output in outputs]).cpu())
        self._labels.append(batch.labels.cpu())
        # an utterance of unknown video counts as a video of its own: negative numbers, which no table has
        start = -sum(len(part) for part in self._videos) - 1
        own = torch.arange(start, start - len(batch), -1)
        self._videos.append(own if batch.videos is None else batch.videos.cpu())
        if reference is not None:
            self._reference.append(reference.float().cpu())

    def gather(self) -> None:
        """Put together what the processes of a run have collected, in their order."""
        own = (
            torch.cat(self._probabilities, dim=1),
            torch.cat(self._reference) if self._reference else None,
            torch.cat(self._labels),
            torch.cat(self._videos),
        )
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, own)
        probabilities, reference, labels, videos = ([*column] for column in zip(*parts, strict=True))
        start = 0  # unknown videos are numbered in each process from -1 on
        for number, part in enumerate(videos):
            videos[number] = torch.where(part < 0, part - start, part)
            start += len(part)
        self._probabilities, self._labels, self._videos = probabilities, labels, videos
        self._reference = [] if reference[0] is None else reference

    @property
    def labels(self) -> Float[Tensor, " n"]:
        """Of all utterances of the pass."""
        return torch.cat(self._labels)

    def predictions(self) -> CoalitionPredictions:
        """Those of the whole pass."""
        videos = torch.cat(self._videos)
        if self._reference:
            self.reference = torch.cat(self._reference)
        distinct = np.unique(videos.numpy())
        # at random, since video numbers may follow an order that means something; with a fixed seed, so that the halves
        # are the same after every epoch
        half = np.random.default_rng(0).permutation(len(distinct)) % 2
        halves = torch.as_tensor(half)[torch.as_tensor(np.searchsorted(distinct, videos.numpy()))]
        return CoalitionPredictions(
            torch.cat(self._probabilities, dim=1),
            self.reference,
            self.task.membership(self.labels),
            videos,
            halves,
        )


def outputs_of(task: Task, probabilities: Float[Tensor, "n k"]) -> Outputs:
    """Outputs with nothing but class probabilities, and the score that follows from them."""
    score = task.score(probabilities) if task.kind == "regression" else None
    return Outputs(probabilities.clamp(min=1e-30).log(), probabilities, score, probabilities)
