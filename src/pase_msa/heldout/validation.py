"""What a network predicts on the validation split from every coalition of modalities, after an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pase_msa.batch import Batch, Outputs
from pase_msa.heldout.presence import presence_patterns, stacked_presence
from pase_msa.heldout.reference import RidgeReference
from pase_msa.task import Task


@dataclass(frozen=True)
class CoalitionPredictions:
    """Predictions of the n validation utterances from c coalitions, over k classes.

    Attributes:
        probabilities: of the classes, by coalition, [c, n, k].
        reference: those of the closed-form reference, where the model has one, [1 + p, n, k]: with all modalities, and
            as if only those of each pattern were there.
        membership: class membership of the labels, [n, k].
        videos: of each utterance, [n].
        halves: half of the validation videos that each utterance belongs to, 0 or 1, [n]. Weights that are fitted on
            one half can be judged on the other.
        present: the modalities that each utterance has, [n, m]; all of them where None.
    """

    probabilities: Float[Tensor, "c n k"]
    reference: Float[Tensor, "r n k"] | None
    membership: Float[Tensor, "n k"]
    videos: Int[Tensor, " n"]
    halves: Int[Tensor, " n"]
    present: Bool[Tensor, "n m"] | None = None


class ValidationCoalitions:
    """Collects the predictions of some coalitions over a validation pass.

    Args:
        task: what is predicted.
        coalitions: in the order of their outputs.

    Attributes:
        patterns: sets of modalities of utterances that lack one, for which the reference is asked as well.
        reference: predictions of the model's reference in the first pass. It is not trained, so that they stay as they
            are and need not be computed again.
    """

    def __init__(self, task: Task, coalitions: Sequence[frozenset[str]]) -> None:
        self.task = task
        self.coalitions = list(coalitions)
        self.reference: Float[Tensor, "r n k"] | None = None
        self.patterns = presence_patterns(task.modalities)
        self.reset()

    def reset(self) -> None:
        """Begin a pass."""
        self._probabilities: list[Float[Tensor, "c n k"]] = []
        self._reference: list[Float[Tensor, "r n k"]] = []
        self._present: list[Bool[Tensor, "n m"]] = []
        self._labels: list[Float[Tensor, " n"]] = []
        self._videos: list[Int[Tensor, " n"]] = []

    def add(self, outputs: Sequence[Outputs], batch: Batch, reference: RidgeReference | None = None) -> None:
        """Add a batch: the outputs of every coalition, and what the model's reference predicts, if it is given."""
        assert batch.labels is not None
        self._probabilities.append(torch.stack([output.probabilities.float() for output in outputs]).cpu())
        self._labels.append(batch.labels.cpu())
        # an utterance of unknown video counts as a video of its own: negative numbers, which no table has
        start = -sum(len(part) for part in self._videos) - 1
        own = torch.arange(start, start - len(batch), -1)
        self._videos.append(own if batch.videos is None else batch.videos.cpu())
        self._present.append(stacked_presence(batch.present, self.task.modalities).cpu())
        if reference is not None:
            everything = frozenset(self.task.modalities)
            rows = reference(batch, [everything, *self.patterns], lost=True)
            self._reference.append(torch.stack(rows).float().cpu())

    def gather(self) -> None:
        """Put together what the processes of a run have collected, in their order."""
        own = (
            torch.cat(self._probabilities, dim=1),
            torch.cat(self._reference, dim=1) if self._reference else None,
            torch.cat(self._labels),
            torch.cat(self._videos),
            torch.cat(self._present),
        )
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, own)
        probabilities, reference, labels, videos, present = ([*column] for column in zip(*parts, strict=True))
        start = 0  # unknown videos are numbered in each process from -1 on
        for number, part in enumerate(videos):
            videos[number] = torch.where(part < 0, part - start, part)
            start += len(part)
        self._probabilities, self._labels, self._videos, self._present = probabilities, labels, videos, present
        self._reference = [] if reference[0] is None else reference

    @property
    def labels(self) -> Float[Tensor, " n"]:
        """Of all utterances of the pass."""
        return torch.cat(self._labels)

    def predictions(self) -> CoalitionPredictions:
        """Those of the whole pass."""
        videos = torch.cat(self._videos)
        if self._reference:
            self.reference = torch.cat(self._reference, dim=1)
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
            torch.cat(self._present),
        )


def outputs_of(task: Task, probabilities: Float[Tensor, "n k"]) -> Outputs:
    """Outputs with nothing but class probabilities, and the score that follows from them."""
    score = task.score(probabilities) if task.kind == "regression" else None
    return Outputs(probabilities.clamp(min=1e-30).log(), probabilities, score, probabilities)
