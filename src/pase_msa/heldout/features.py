"""What the ridge regressions read of a coalition of modalities: linear components, Fourier features and products.

A coalition's regression has up to three blocks of features:

1. linear: the principal components of the pooled features of every member;
2. Fourier: `sqrt(2 / F) cos(z w + b)` of the components z of all members together, with random frequencies w and
   offsets b (Rahimi and Recht 2007); they approximate a Gaussian kernel over the coalition;
3. products: of the top components of every two members.

Blocks 2 and 3 depend on several members jointly, so that they represent what modalities tell only together; products
also where that hides among many components.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

#: some of the columns of a design
Columns = slice | Tensor
#: number of Fourier features
FOURIER = 128
# Up to three modalities keep this many components each, whoever they are combined with; more modalities, whose
# coalitions are many, share this number.
_COMPONENTS = 384
_LEAST_COMPONENTS = 24
_FEW = 3
# components of a modality whose products with those of another are taken: of up to three modalities, of more
_TOP = (12, 3)


@dataclass(frozen=True)
class Projection:
    """How the pooled features of a modality, [p], become inputs of a regression.

    Attributes:
        components: to the principal components, scaled to a mean square norm of 1 per training row, [p, c].
        frequencies: of the Fourier features, by component, [c, FOURIER].
        top_components: to the few components whose products are taken, of variance 1 each, [p, q].
    """

    components: Float[Tensor, "p c"]
    frequencies: Float[Tensor, "c f"]
    top_components: Float[Tensor, "p q"]


def fit_projections(
    features: Mapping[str, NDArray[np.float64]], training: int, seed: int
) -> tuple[dict[str, Projection], Float[Tensor, " f"]]:
    """The projection of every modality, from the first `training` rows, and the offsets of the Fourier features.

    Args:
        features: modality -> pooled features [n, p], standardised, training rows first.
        training: number of training rows.
        seed: of frequencies and offsets.
    """
    generator = torch.Generator().manual_seed(seed)
    most = _COMPONENTS if len(features) <= _FEW else max(_COMPONENTS // len(features), _LEAST_COMPONENTS)
    top = _TOP[len(features) > _FEW]
    projections = {}
    for name, values in features.items():
        train = torch.from_numpy(values[:training])
        variances, axes = _principal_axes(train)
        components = _components(train, axes[:, -most:])
        # two rows are about sqrt(2) apart at a norm of 1, so that frequencies of unit variance suit any number of
        # components
        frequencies = torch.randn(components.shape[1], FOURIER, generator=generator, dtype=components.dtype)
        projections[name] = Projection(components, frequencies, _whitened(variances[-top:], axes[:, -top:]))
    return projections, 2 * torch.pi * torch.rand(FOURIER, generator=generator, dtype=torch.float64)


def fourier_features(phases: Sequence[Float[Tensor, "n f"]], offsets: Float[Tensor, " f"]) -> Float[Tensor, "n f"]:
    """Fourier features of a coalition, from the phases `z w` of its members, which add up."""
    features: Tensor = torch.cos(torch.stack(list(phases)).sum(0) + offsets) * (2 / FOURIER) ** 0.5
    return features


def products(top_components: Sequence[Float[Tensor, "n q"]]) -> list[Float[Tensor, "n f"]]:
    """Products of the top components of every two members, a block per pair.

    Components have variance 1, so a block of f products is divided by sqrt(f), which gives its rows a norm of about 1.
    """
    return [
        (first.unsqueeze(2) * second.unsqueeze(1)).flatten(1) / max(first.shape[1] * second.shape[1], 1) ** 0.5
        for first, second in itertools.combinations(top_components, 2)
    ]


def without_fourier(linear: int, pairs: Sequence[int]) -> Iterator[Columns]:
    """Sets of columns to choose from besides linear and Fourier features: the linear ones, alone and with products.

    Args:
        linear: number of linear features.
        pairs: number of products of every two members.
    """
    if linear:
        yield slice(linear)
    blocks = torch.arange(linear + FOURIER, linear + FOURIER + sum(pairs)).split_with_sizes(list(pairs))
    if sum(pairs):
        yield torch.cat([torch.arange(linear), *blocks])
    # the products of the pair that matters should not be drowned by those of the other pairs
    if 1 < len(pairs) <= _FEW:
        yield from (torch.cat([torch.arange(linear), block]) for block in blocks)


def _principal_axes(train: Float[Tensor, "n p"]) -> tuple[Float[Tensor, " p"], Float[Tensor, "p p"]]:
    """Variances along the principal axes, and these axes, in ascending order."""
    variances, axes = torch.linalg.eigh(train.T @ train)
    return variances / max(len(train), 1), axes


def _whitened(variances: Float[Tensor, " q"], axes: Float[Tensor, "p q"]) -> Float[Tensor, "p q"]:
    """Projection to principal components of variance 1 each; those that are constant are left out."""
    varying = variances > 1e-6 * variances[-1:].clamp(min=1e-12)
    return torch.div(axes[:, varying], variances[varying].sqrt())


def _components(train: Float[Tensor, "n p"], axes: Float[Tensor, "p c"]) -> Float[Tensor, "p c"]:
    """Projection to principal components, at a mean square norm of 1 per training row."""
    # where all components are kept, a rotation changes no ridge regression: the features stay as they are
    matrix = axes if axes.shape[1] < train.shape[1] else torch.eye(train.shape[1], dtype=train.dtype)
    norm = float((train @ matrix).square().sum(1).mean().sqrt())
    # a modality that is constant gets no columns at all: they would tell nothing, but count in the penalty
    return matrix / norm if norm > 0 else matrix[:, :0]
