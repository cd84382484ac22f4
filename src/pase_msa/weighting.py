"""Entropy-guided modality weights, equations 10 and 11 of He et al., "PaSE"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from pase_msa.distributed import is_distributed, sum_over_processes
from pase_msa.errors import PaSEError

EntropySign = Literal["confidence", "literal", "uniform"]
_UNKNOWN = "entropy_sign is 'confidence', 'literal' or 'uniform', not {!r}."


def certainty(
    posterior: Float[Tensor, "*m n k"], membership: Float[Tensor, "n k"], sign: EntropySign
) -> Float[Tensor, "*m n"]:
    """E of eq. 10, one value per utterance.

    "confidence": one minus the posterior's entropy over log K: 1 for a posterior on one class, 0 for a uniform one.
    "literal": as printed, 1 - p(y) log p(y) with the posterior of the labelled class, which gives the more uncertain
    modality the larger value.
    "uniform": zeros, so that all modalities have the same weight.
    """
    if sign == "confidence":
        entropy: Tensor = torch.special.entr(posterior).sum(-1)
        return 1 - entropy / math.log(posterior.shape[-1])
    if sign == "literal":
        labelled: Tensor = torch.special.entr((posterior * membership).sum(-1))
        return 1 + labelled
    if sign == "uniform":
        return torch.zeros_like(posterior[..., 0])
    raise PaSEError(_UNKNOWN.format(sign))


class EntropyWeighting(nn.Module):
    """Modality weights alpha, eq. 11: softmax over running averages of E, frozen in evaluation.

    Args:
        modalities: names, in the order of the buffer.
        sign: reading of eq. 10.
        momentum: of the running average over training batches.
    """

    level: Tensor
    seen: Tensor

    def __init__(self, modalities: Sequence[str], sign: EntropySign = "confidence", momentum: float = 0.9) -> None:
        super().__init__()
        if sign not in get_args(EntropySign):
            raise PaSEError(_UNKNOWN.format(sign))
        self.modalities = tuple(modalities)
        self.sign: EntropySign = sign
        self.momentum = momentum
        self.register_buffer("level", torch.zeros(len(self.modalities)))
        self.register_buffer("seen", torch.zeros(len(self.modalities), dtype=torch.bool))

    def update(
        self,
        posteriors: Mapping[str, Float[Tensor, "n k"]],
        membership: Float[Tensor, "n k"],
        present: Mapping[str, Bool[Tensor, " n"]],
    ) -> None:
        """Update the running averages by a training batch; rows without a modality do not count for it."""
        stacked = torch.stack([posteriors[name] for name in self.modalities])
        self.blend(stacked, membership, torch.stack([present[name] for name in self.modalities]))

    @torch.no_grad()
    def blend(
        self,
        posteriors: Float[Tensor, "m n k"],
        membership: Float[Tensor, "n k"],
        present: Shaped[Tensor, "m n"] | None,
    ) -> None:
        """`update` from stacked tensors, the modalities in their order; all rows count where `present` is None."""
        values = certainty(posteriors, membership, self.sign)
        if present is None:
            sums, counts = values.sum(1), values.new_full((len(values),), values.shape[1])
        else:
            sums, counts = (values * present).sum(1), present.sum(1).to(values.dtype)
        if is_distributed():
            sums, counts = sum_over_processes(torch.stack([sums, counts])).unbind()
        here = counts > 0
        share = here * torch.where(self.seen, 1 - self.momentum, 1.0)
        self.level.lerp_(sums / counts.clamp(min=1), share)
        self.seen.logical_or_(here)

    @property
    def alpha(self) -> Float[Tensor, " m"]:
        """Weights that add up to 1, in the order of the modalities."""
        return self.level.softmax(0)

    def forward(self) -> dict[str, Float[Tensor, ""]]:
        """Weights that add up to 1, by modality."""
        return dict(zip(self.modalities, self.alpha.unbind(), strict=True))
