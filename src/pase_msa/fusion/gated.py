"""Prototype-gated fusion (PGF), equations 12 and 13 of He et al., "PaSE"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.fusion.base import Fused, Fusion, mixer

_OPEN = 2.0  # sigmoid(2) = 0.88


class GatedFusion(Fusion):
    """g_m = sigmoid(W_m [alpha_m h_m ; c_m]); FFN over the concatenated g_m * h_m."""

    def __init__(self, modalities: Sequence[str], width: int, dropout: float) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({name: nn.Linear(2 * width, width) for name in modalities})
        for gate in self.gates.values():
            # gates begin open: closed by half, they would slow every encoder from the first step on
            nn.init.constant_(gate.bias, _OPEN)  # type: ignore[arg-type]
        self.mix = mixer(width * len(modalities), width, dropout)

    def forward(
        self,
        vectors: Mapping[str, Float[Tensor, "n d"]],
        weights: Mapping[str, Float[Tensor, ""]],
        prototypes: Mapping[str, Float[Tensor, "n d"]],
        present: Mapping[str, Bool[Tensor, " n"]],
    ) -> Fused:
        """Fuse."""
        gates = {
            name: torch.sigmoid(gate(torch.cat([weights[name] * vectors[name], prototypes[name]], dim=1)))
            for name, gate in self.gates.items()
        }
        gated = torch.cat([gates[name] * vectors[name] for name in gates], dim=1)
        return Fused(self.mix(gated), gates)


def build(modalities: Sequence[str], width: int, dropout: float) -> GatedFusion:
    """The plug-in's entry point."""
    return GatedFusion(modalities, width, dropout)
