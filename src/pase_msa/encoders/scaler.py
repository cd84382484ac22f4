"""Standardisation, fitted on the training split and saved with the model."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from pase_msa.errors import PaSEError


class Standardizer(nn.Module):
    """Zero mean and unit deviation per feature dimension, over the valid frames of the training split.

    NaN and infinite values never enter a statistic and are replaced by the training mean. Standardised values are
    clipped to +-`clip` deviations, so that one outlier cannot dominate. A constant dimension becomes zero. Padding
    never enters a statistic: `fit` takes frames without padding.
    """

    mean: Tensor
    inverse_scale: Tensor

    def __init__(self, dim: int, clip: float = 5.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("inverse_scale", torch.ones(dim))

    def fit(self, frames: NDArray[np.float32]) -> None:
        """Take mean and deviation from frames [T, dim].

        Errors:
            PaSEError: frames of another shape.
        """
        if frames.ndim != 2 or frames.shape[1] != len(self.mean):
            raise PaSEError(f"Frames of shape (steps, {len(self.mean)}) were wanted, found {frames.shape}.")
        finite = np.isfinite(frames)
        counts = np.maximum(finite.sum(0), 1)
        values = np.where(finite, frames, 0).astype(np.float64)
        mean = values.sum(0) / counts
        deviation = np.sqrt((np.where(finite, values - mean, 0) ** 2).sum(0) / counts)
        # a deviation as small as the rounding of float32 is a constant with noise
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        inverse = np.where(constant, 0, 1 / np.where(constant, 1, deviation))
        self.mean.copy_(torch.from_numpy(mean))
        self.inverse_scale.copy_(torch.from_numpy(inverse))

    def forward(self, features: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The standardised values; 0 where a value is not finite."""
        if torch.compiler.is_compiling() or features.device.type != "cpu" or features.requires_grad:
            scaled = ((features - self.mean) * self.inverse_scale).clamp(-self.clip, self.clip)
            return torch.where(features.isfinite(), scaled, 0.0)
        scaled = (features - self.mean).mul_(self.inverse_scale).clamp_(-self.clip, self.clip)
        # a sum tells in one pass whether anything is to be replaced; a GPU would have to wait for it
        return scaled if math.isfinite(features.sum()) else torch.where(features.isfinite(), scaled, 0.0)
