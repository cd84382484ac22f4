"""A masked sequence encoder that is fast on two CPU cores and on a GPU.

Frames are projected, optionally convolved in time, pooled by masked attention (Bahdanau et al. 2015, with one learned
query) or by their masked mean, and mapped to the vector. A sequence of one step is an ordinary multilayer perceptron.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.base import Encoder
from pase_msa.ranges import PROPER_SHARE, SIZE, Range, check_ranges


@dataclass
class Config:
    """Options of the sequence encoder.

    Attributes:
        hidden: size of the projected frames.
        convolutions: residual temporal convolutions of kernel 3; 0 treats frames as a bag.
        pooling: "attention" or "mean".
        dropout: on the projected frames and before the output.
    """

    hidden: int = 128
    convolutions: int = 1
    pooling: Literal["attention", "mean"] = "attention"
    dropout: float = 0.4

    def __post_init__(self) -> None:
        check_ranges(self, "encoders", hidden=SIZE, convolutions=Range(0, 64, whole=True), dropout=PROPER_SHARE)


def step_mask(lengths: Int[Tensor, " n"], steps: int | torch.SymInt) -> Bool[Tensor, "n t"]:
    """True at the valid steps of sequences padded to `steps`."""
    # A symbolic number of steps is torch.export's; the stub of arange does not name it.
    return torch.arange(cast(int, steps), device=lengths.device) < lengths.unsqueeze(1)


class SequenceEncoder(Encoder):
    """Project, convolve, pool; see the module. A sequence of length 0 has a finite vector, which the model masks."""

    def __init__(self, dim: int, width: int, config: Config) -> None:
        super().__init__()
        self.project = nn.Linear(dim, config.hidden)
        convolutions = [nn.Conv1d(config.hidden, config.hidden, 3, padding=1) for _ in range(config.convolutions)]
        self.convolutions = nn.ModuleList(convolutions)
        self.attention = nn.Linear(config.hidden, 1) if config.pooling == "attention" else None
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, width)

    def forward(self, features: Float[Tensor, "n t f"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """One vector per sequence, [N, width], from padded frames [N, T, dim] and lengths [N]."""
        hidden = self.dropout(F.gelu(self.project(features)))
        if features.shape[1] == 1:
            # with one step, pooling is the identity and a convolution is its centre alone
            for convolution in self.convolutions:
                assert isinstance(convolution, nn.Conv1d)
                hidden = hidden + F.gelu(F.linear(hidden, convolution.weight[:, :, 1], convolution.bias))
            return self._vector(hidden[:, 0])
        mask = step_mask(lengths, features.shape[1]).unsqueeze(2)
        for convolution in self.convolutions:
            # masked before each convolution, so that padding equals the zeros at the end of a sequence
            masked = (hidden * mask).transpose(1, 2)
            hidden = hidden + F.gelu(convolution(masked)).transpose(1, 2)
        return self._vector(self._pool(hidden, mask))

    def _vector(self, pooled: Float[Tensor, "n h"]) -> Float[Tensor, "n d"]:
        vector: Tensor = self.output(self.dropout(pooled))
        return vector

    def _pool(self, hidden: Float[Tensor, "n t h"], mask: Bool[Tensor, "n t 1"]) -> Float[Tensor, "n h"]:
        if self.attention is None:
            return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        scores: Tensor = self.attention(hidden).masked_fill(~mask, torch.finfo(hidden.dtype).min)
        return (scores.softmax(1) * mask * hidden).sum(1)


def build(spec: InputSpec, width: int, config: Config) -> SequenceEncoder:
    """The plug-in's entry point."""
    return SequenceEncoder(spec.dim, width, config)
