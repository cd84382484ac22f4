"""HyCon (Mai, Zeng, Zheng, Hu 2022, "Hybrid Contrastive Learning of Tri-Modal Representation", IEEE TAFFC).

The losses of arXiv 2109.01797v1 as others describe them, since no code was published; the pair selection of the journal
version is not described anywhere and is not here. Similarities s of unit vectors are drawn to a target:

- within a modality ("within"): same class towards 1, other utterances;
- across modalities ("across"): same class towards the margin a, other utterances;
- modalities of one utterance ("together"): towards the margin a.

The first two are, per anchor, the mean of (s - target)^2 over the positives, minus the sum of s over the positives over
the sum of s over all candidates. They can be negative.

Ours: s is (1 + cosine) / 2, so that the ratio's denominator is positive. Of two utterances, the degree to which they
are of the same class is the overlap of their class memberships, which is equality for classes. Absent modalities are
neither anchors nor candidates, and an anchor without positives is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.base import head
from pase_msa.models.fused import FusedModel
from pase_msa.objective import Losses
from pase_msa.ranges import NOT_NEGATIVE, SHARE, check_model
from pase_msa.task import Task

REDUCED = "losses of arXiv v1, without the later selection of pairs"
_EPSILON = 1e-6


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors and of their sum.
        dropout: in the head.
        margin: a, the similarity that different modalities are drawn to.
        together: weight of the loss over the modalities of one utterance.
        within: weight of the loss within a modality.
        across: weight of the loss across modalities.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "hycon"
    width: int = 128
    dropout: float = 0.4
    margin: float = 0.8
    together: float = 0.1
    within: float = 0.1
    across: float = 0.1
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, margin=SHARE, together=NOT_NEGATIVE, within=NOT_NEGATIVE, across=NOT_NEGATIVE)


def ratio_loss(
    similarity: Float[Tensor, "n m"], positive: Float[Tensor, "n m"], candidate: Bool[Tensor, "n m"], target: float
) -> Float[Tensor, ""]:
    """Mean over the anchors that have positives, see the module.

    Args:
        similarity: of anchors and others, in [0, 1].
        positive: degree to which they are of the same class, in [0, 1].
        candidate: whether the anchor may look at the other one at all.
        target: similarity that positives are drawn to.
    """
    weight = positive * candidate
    count = weight.sum(1)
    anchors = count > _EPSILON
    pulled = (weight * (similarity - target).square()).sum(1) / count.clamp(min=_EPSILON)
    ratio = (weight * similarity).sum(1) / (candidate * similarity).sum(1).clamp(min=_EPSILON)
    return ((pulled - ratio) * anchors).sum() / anchors.sum().clamp(min=1)


class HyCon(FusedModel):
    """Encoders, the sum of the modality vectors, and the head. An absent modality adds nothing."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.head = head(config.width, task.num_classes, config.dropout)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The sum."""
        return torch.stack(list(parts.values())).sum(0)

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, "within", and for several modalities "across" and "together"."""
        assert batch.labels is not None
        losses, config, present = super().losses(outputs, batch), self.config, outputs.present
        membership = self.task.membership(batch.labels)
        same = membership @ membership.T
        other = ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        unit = {name: F.normalize(vector, dim=1, eps=_EPSILON) for name, vector in outputs.vectors.items()}

        def pairs(one: str, two: str, target: float) -> Tensor:
            candidate = present[one].unsqueeze(1) & present[two].unsqueeze(0) & other
            return ratio_loss((1 + unit[one] @ unit[two].T) / 2, same, candidate, target)

        losses["within"] = config.within * torch.stack([pairs(name, name, 1.0) for name in unit]).mean()
        if len(unit) > 1:
            across = torch.stack([pairs(one, two, config.margin) for one, two in permutations(unit, 2)])
            losses["across"] = config.across * across.mean()
            losses["together"] = config.together * self._together(unit, present)
        return losses

    def _together(self, unit: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Mean of (s - a)^2 over the pairs of present modalities of each utterance."""
        total, count = [], []
        for one, two in combinations(unit, 2):
            both = present[one] & present[two]
            similarity = (1 + (unit[one] * unit[two]).sum(1)) / 2
            total.append(((similarity - self.config.margin).square() * both).sum())
            count.append(both.sum())
        return torch.stack(total).sum() / torch.stack(count).sum().clamp(min=1)


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> HyCon:
    """The plug-in's entry point."""
    return HyCon(task, inputs, config)
