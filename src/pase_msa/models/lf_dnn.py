"""Late fusion of small networks (LF-DNN): each modality has a network of its own, and only their results are joined.

The usual baseline of multimodal sentiment analysis (used as such by Yu et al. 2020, "CH-SIMS"). It differs from plain
concatenation by a subnetwork of two layers per modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.data.inputs import InputSpec
from pase_msa.fusion.base import mixer
from pase_msa.models.base import head
from pase_msa.models.fused import FusedModel
from pase_msa.ranges import SIZE, check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors and of the fused one.
        hidden: size of the layers of each modality's subnetwork.
        dropout: in subnetworks, fusion and head.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "lf_dnn"
    width: int = 128
    hidden: int = 64
    dropout: float = 0.4
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, hidden=SIZE)


class LateFusionDNN(FusedModel):
    """Encoders, a subnetwork per modality, concatenation, a layer and the head.

    An absent modality is masked after its subnetwork, so that not even the subnetwork's biases have an effect.
    """

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.subnetworks = nn.ModuleDict(
            {
                name: nn.Sequential(
                    mixer(config.width, config.hidden, config.dropout),
                    mixer(config.hidden, config.hidden, config.dropout),
                )
                for name in task.modalities
            }
        )
        self.mix = mixer(config.hidden * len(task.modalities), config.width, config.dropout)
        self.head = head(config.width, task.num_classes, config.dropout)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """Subnetworks, then the layer over their concatenation."""
        hidden = [network(parts[name]) * present[name].unsqueeze(1) for name, network in self.subnetworks.items()]
        fused: Tensor = self.mix(torch.cat(hidden, dim=1))
        return fused

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Parameters of the encoder and of the subnetwork."""
        return [*self.encoders[modality].parameters(), *self.subnetworks[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> LateFusionDNN:
    """The plug-in's entry point."""
    return LateFusionDNN(task, inputs, config)
