"""Plain concatenation with the same encoders: the baseline that every balancing method is compared with.

With one modality it is that modality alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from pase_msa.data.inputs import InputSpec
from pase_msa.fusion.concat import ConcatFusion
from pase_msa.models.base import head
from pase_msa.models.fused import FusedModel
from pase_msa.ranges import check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors and of the fused one.
        dropout: in fusion and head.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "concat"
    width: int = 128
    dropout: float = 0.4
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self)


class Concat(FusedModel):
    """Encoders, concatenation, a feed-forward layer and the head. An absent modality is zero."""

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.fusion = ConcatFusion(task.modalities, config.width, config.dropout)
        self.head = head(config.width, task.num_classes, config.dropout)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The fused vector of the concatenation."""
        fused: Tensor = self.fusion(parts, {}, {}, present).vector
        return fused


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> Concat:
    """The plug-in's entry point."""
    return Concat(task, inputs, config)
