"""Concatenation and a feed-forward layer: "Con" of the paper's Table 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pase_msa.fusion.base import Fused, Fusion, mixer


class ConcatFusion(Fusion):
    """FFN over the concatenated vectors; weights and prototypes are not used."""

    def __init__(self, modalities: Sequence[str], width: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.mix = mixer(width * len(modalities), width, dropout)

    def forward(
        self,
        vectors: Mapping[str, Float[Tensor, "n d"]],
        weights: Mapping[str, Float[Tensor, ""]],
        prototypes: Mapping[str, Float[Tensor, "n d"]],
        present: Mapping[str, Bool[Tensor, " n"]],
    ) -> Fused:
        """Fuse the vectors of a batch, see `Fusion`."""
        return Fused(self.mix(torch.cat([vectors[name] for name in self.modalities], dim=1)))


def build(modalities: Sequence[str], width: int, dropout: float) -> ConcatFusion:
    """The plug-in's entry point."""
    return ConcatFusion(modalities, width, dropout)
