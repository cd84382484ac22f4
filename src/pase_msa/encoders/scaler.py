"""Standardisation, fitted on the training split and saved with the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.scaling import Scale, column_scale, scale_of
from pase_msa.errors import PaSEError


class Standardizer(nn.Module):
    """Zero mean and unit deviation per feature dimension, over the valid frames of the training split.

    Mean and deviation are those of the values within `data.scaling.REACH` robust deviations of the median, so that a
    few wild values do not set them. NaN and infinite values never enter a statistic and are replaced by the training
    mean. Standardised values are clipped to +-`clip` deviations. A constant dimension becomes zero. Padding never
    enters a statistic.
    """

    mean: Tensor
    inverse_scale: Tensor

    def __init__(self, dim: int, clip: float = 5.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("inverse_scale", torch.ones(dim))

    def fit(self, frames: NDArray[np.float32]) -> Scale:
        """Take mean and deviation from frames [T, dim], without padding.

        Errors:
            PaSEError: frames of another shape.
        """
        if frames.ndim != 2 or frames.shape[1] != len(self.mean):
            raise PaSEError(f"Frames of shape (steps, {len(self.mean)}) were wanted, found {frames.shape}.")
        return self.take(scale_of(frames))

    def fit_column(self, column: SequenceColumn, rows: Sequence[int]) -> Scale:
        """Take mean and deviation from the valid steps of some rows, which are never in memory all at once.

        Errors:
            PaSEError: features of another size.
        """
        if column.dim != len(self.mean):
            raise PaSEError(f"Features of size {len(self.mean)} were wanted, found {column.dim}.")
        return self.take(column_scale(column, rows))

    def take(self, scale: Scale) -> Scale:
        """Take mean and deviation from a measured scale, which is returned."""
        self.mean.copy_(torch.from_numpy(scale.mean))
        self.inverse_scale.copy_(torch.from_numpy(scale.inverse))
        return scale

    def forward(self, features: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The standardised values; 0 where a value is not finite."""
        if torch.compiler.is_compiling() or features.device.type != "cpu" or features.requires_grad:
            scaled = ((features - self.mean) * self.inverse_scale).clamp(-self.clip, self.clip)
            return torch.where(features.isfinite(), scaled, 0.0)
        scaled = (features - self.mean).mul_(self.inverse_scale).clamp_(-self.clip, self.clip)
        # a sum tells in one pass whether anything is to be replaced; a GPU would have to wait for it
        return scaled if math.isfinite(features.sum()) else torch.where(features.isfinite(), scaled, 0.0)
