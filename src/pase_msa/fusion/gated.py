"""Prototype-gated fusion (PGF), equations 12 and 13 of He et al., "PaSE"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.fusion.base import Fused, Fusion, factors, mixer, stacked

_OPEN = 2.0  # sigmoid(2) = 0.88


class GatedFusion(Fusion):
    """g_m = sigmoid(W_m [alpha_m h_m ; c_m]); FFN over the concatenated g_m * h_m.

    The gates of all modalities are one batched product, since launching small operations takes most of the time. W_m is
    kept in two halves: c_m needs no gradient, and where it is a mix of K prototypes, its half of the product is the mix
    of K products. A saved state has one `gates.NAME.weight` [D, 2D] and one `gates.NAME.bias` [D] per modality.
    """

    def __init__(self, modalities: Sequence[str], width: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        # the usual distribution of a linear layer, here with 2D inputs in two halves
        bound = 1 / math.sqrt(2 * width)
        shape = (len(self.modalities), width, width)
        self.vector_weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.prototype_weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        # gates begin open: half open, they would halve the gradient of every encoder from the first step on
        self.bias = nn.Parameter(torch.full((len(self.modalities), 1, width), _OPEN))
        self.mix = mixer(width * len(modalities), width, dropout)

    def forward(
        self,
        vectors: Mapping[str, Float[Tensor, "n d"]],
        weights: Mapping[str, Float[Tensor, ""]],
        prototypes: Mapping[str, Float[Tensor, "n d"]],
        present: Mapping[str, Bool[Tensor, " n"]],
    ) -> Fused:
        """Fuse the vectors of a batch, see `Fusion`."""
        names = self.modalities
        features = stacked(vectors, names)
        scaled = features * stacked(weights, names).view(-1, 1, 1)
        logits = torch.baddbmm(self.bias, *factors(prototypes, names, self.prototype_weight))
        gates = torch.baddbmm(logits, scaled, self.vector_weight).sigmoid()
        gated = (gates * features).transpose(0, 1).flatten(1)
        return Fused(self.mix(gated), dict(zip(names, gates.unbind(), strict=True)))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        halves = [destination.pop(prefix + half) for half in ("vector_weight", "prototype_weight")]
        bias = destination.pop(f"{prefix}bias")
        for index, name in enumerate(self.modalities):
            destination[f"{prefix}gates.{name}.weight"] = torch.cat([half[index] for half in halves]).T.contiguous()
            destination[f"{prefix}gates.{name}.bias"] = bias[index, 0].clone()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        names = [f"{prefix}gates.{name}" for name in self.modalities]
        if all(f"{name}.{part}" in state_dict for name in names for part in ("weight", "bias")):
            whole = torch.stack([state_dict.pop(f"{name}.weight").T for name in names])
            halves = whole.chunk(2, dim=1)
            state_dict[f"{prefix}vector_weight"], state_dict[f"{prefix}prototype_weight"] = halves
            state_dict[f"{prefix}bias"] = torch.stack([state_dict.pop(f"{name}.bias") for name in names]).unsqueeze(1)
        super()._load_from_state_dict(state_dict, prefix, *args)


def build(modalities: Sequence[str], width: int, dropout: float) -> GatedFusion:
    """The plug-in's entry point."""
    return GatedFusion(modalities, width, dropout)
