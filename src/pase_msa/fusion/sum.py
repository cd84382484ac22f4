"""Addition: "Sum" of the paper's Table 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pase_msa.fusion.base import Fused, Fusion, mixer


class SumFusion(Fusion):
    """FFN over the sum of the vectors; weights and prototypes are not used."""

    def __init__(self, modalities: Sequence[str], width: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.mix = mixer(width, width, dropout)

    def forward(
        self,
        vectors: Mapping[str, Float[Tensor, "n d"]],
        weights: Mapping[str, Float[Tensor, ""]],
        prototypes: Mapping[str, Float[Tensor, "n d"]],
        present: Mapping[str, Bool[Tensor, " n"]],
    ) -> Fused:
        """Fuse the vectors of a batch, see `Fusion`."""
        return Fused(self.mix(torch.stack([vectors[name] for name in self.modalities]).sum(0)))


def build(modalities: Sequence[str], width: int, dropout: float) -> SumFusion:
    """The plug-in's entry point."""
    return SumFusion(modalities, width, dropout)
