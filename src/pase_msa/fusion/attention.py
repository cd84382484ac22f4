"""Attention over modalities: "Att" of the paper's Table 3.

One head of scaled dot-product attention (Vaswani et al. 2017) in which every modality attends to all; the modality axis
is the sequence, and the attended vectors are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.fusion.base import Fused, Fusion, mixer


class AttentionFusion(Fusion):
    """Self-attention over the modality axis, then the FFN; the "gates" are the attention that a modality receives."""

    def __init__(self, modalities: Sequence[str], width: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True)
        self.mix = mixer(width, width, dropout)

    def forward(
        self,
        vectors: Mapping[str, Float[Tensor, "n d"]],
        weights: Mapping[str, Float[Tensor, ""]],
        prototypes: Mapping[str, Float[Tensor, "n d"]],
        present: Mapping[str, Bool[Tensor, " n"]],
    ) -> Fused:
        """Fuse the vectors of a batch, see `Fusion`."""
        stacked = torch.stack([vectors[name] for name in self.modalities], dim=1)
        attended, received = self.attention(stacked, stacked, stacked)
        gates = received.mean(1).unsqueeze(2).unbind(1)
        return Fused(self.mix((stacked + attended).mean(1)), dict(zip(self.modalities, gates, strict=True)))


def build(modalities: Sequence[str], width: int, dropout: float) -> AttentionFusion:
    """The plug-in's entry point."""
    return AttentionFusion(modalities, width, dropout)
