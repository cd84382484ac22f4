"""A reference model that is solved, not trained: ridge regression on pooled features, for every coalition of modalities.

What a modality can tell should not depend on how soon a network finds it, so the diagnosis asks a model with a closed
form. A coalition's features are the leading principal components of each member's mean and deviation over time, and
random Fourier features (Rahimi and Recht 2007) of all members jointly: their kernel is the product of the members'
kernels, which sees what modalities tell only together. Every coalition is predicted in sample, on random folds, on folds
by video and on validation, with the penalty that its folds by video prefer (in sample: the least one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pase_msa.data.columns import SequenceColumn

Array = NDArray[np.float64]
PENALTIES = tuple(10.0**exponent for exponent in (-3.0, -2.0, -1.0, 0.0, 1.0))
_FOURIER = 128
_COMPONENTS = 384  # of all modalities together
_CLIP = 5.0


@dataclass(frozen=True)
class Predictions:
    """What the reference says of a coalition, for targets of size o, centred on the training mean.

    Attributes:
        sample: in sample at the least penalty, so what can be learned by heart, [n, o].
        random: out of fold, folds drawn at random, [n, o].
        grouped: out of fold, folds of whole videos, [n, o].
        valid: of the validation split, trained on the training split, [v, o].
    """

    sample: Array
    random: Array
    grouped: Array
    valid: Array


def pooled(column: SequenceColumn, rows: NDArray[np.int64], training: int) -> Float[Array, "n p"]:
    """Mean and (of sequences) deviation over time, standardised on the first `training` rows, zero where absent."""
    lengths = column.lengths[rows]
    frames = column.frames(rows).astype(np.float64)
    finite = np.isfinite(frames)
    frames[~finite] = 0.0
    owner = np.repeat(np.arange(len(rows)), lengths)
    counts, sums, squares = (np.zeros((len(rows), column.dim)) for _ in range(3))
    np.add.at(counts, owner, finite)
    np.add.at(sums, owner, frames)
    with np.errstate(invalid="ignore"):
        means = sums / counts
        np.add.at(squares, owner, np.where(finite, (frames - means[owner]) ** 2, 0.0))
        spreads = np.sqrt(squares / counts)
    features = means if lengths.max(initial=0) <= 1 else np.concatenate([means, spreads], axis=1)
    known = np.isfinite(features[:training])
    count = np.maximum(known.sum(0), 1)
    center = np.where(known, features[:training], 0.0).sum(0) / count
    scale = np.sqrt(np.where(known, features[:training] - center, 0.0).__pow__(2).sum(0) / count)
    constant = scale <= 1e-6 * np.maximum(np.abs(center), 1e-6)
    scaled = (features - center) / np.where(constant, 1.0, scale)
    return np.where(np.isfinite(scaled) & ~constant, np.clip(scaled, -_CLIP, _CLIP), 0.0)


class Reference:
    """Solves the reference model for any coalition.

    Args:
        features: modality -> pooled features [n + v, p], training rows first.
        targets: [n, o], of the training rows.
        random: fold of each training row, drawn at random, [n].
        grouped: fold of each training row, whole videos together, [n].
        seed: of the Fourier features.
    """

    def __init__(
        self,
        features: Mapping[str, Array],
        targets: Float[Array, "n o"],
        random: NDArray[np.int64],
        grouped: NDArray[np.int64],
        seed: int = 0,
    ) -> None:
        self.count = len(targets)
        self.targets = torch.from_numpy(targets - targets.mean(0))
        self.folds = {"random": random, "grouped": grouped}
        generator = torch.Generator().manual_seed(seed)
        most = max(_COMPONENTS // max(len(features), 1), 24)
        self.linear: dict[str, Tensor] = {}
        self.phases: dict[str, Tensor] = {}
        for name, values in features.items():
            components = _components(torch.from_numpy(values), self.count, most)
            self.linear[name] = components
            # distances of two samples in a modality are about sqrt(2) at this scale, whatever its size
            waves = torch.randn(components.shape[1], _FOURIER, generator=generator, dtype=components.dtype)
            self.phases[name] = components @ waves
        self.offset = 2 * torch.pi * torch.rand(_FOURIER, generator=generator, dtype=torch.float64)

    def predict(self, coalition: Sequence[str]) -> Predictions:
        """Predictions with the named modalities."""
        joint = torch.cos(torch.stack([self.phases[name] for name in coalition]).sum(0) + self.offset)
        joint = joint * (2 / _FOURIER) ** 0.5
        joint = joint - joint[: self.count].mean(0)
        design = torch.cat([*(self.linear[name] for name in coalition), joint], dim=1)
        train, valid = design[: self.count], design[self.count :]
        gram, moment = train.T @ train, train.T @ self.targets
        grouped = self._out_of_fold(train, gram, moment, self.folds["grouped"], PENALTIES)  # [l, n, o]
        best = int(((grouped - self.targets) ** 2).mean((1, 2)).argmin())
        chosen = PENALTIES[best]
        random = self._out_of_fold(train, gram, moment, self.folds["random"], [chosen])
        least, preferred = _solve(gram, moment, self.count, [PENALTIES[0], chosen])
        return Predictions(
            (train @ least).numpy(), random[0].numpy(), grouped[best].numpy(), (valid @ preferred).numpy()
        )

    def _out_of_fold(
        self, train: Tensor, gram: Tensor, moment: Tensor, folds: NDArray[np.int64], penalties: Sequence[float]
    ) -> Tensor:
        """Predictions for every penalty from the other folds, [l, n, o]."""
        result = torch.empty(len(penalties), *self.targets.shape, dtype=train.dtype)
        for fold in np.unique(folds):
            rows = torch.from_numpy(np.flatnonzero(folds == fold))
            part, own = train[rows], self.targets[rows]
            # the training mean of the other folds, so that nothing of this one is in the prediction
            others = self.count - len(rows)
            shift = -own.sum(0) / max(others, 1)
            weights = _solve(gram - part.T @ part, moment - part.T @ own, others, penalties)
            result[:, rows] = part @ weights + shift
        return result


def _solve(gram: Tensor, moment: Tensor, count: int, penalties: Sequence[float]) -> Tensor:
    """Ridge weights for every penalty, [l, d, o]; features have about unit norm, so penalties are per sample."""
    eye = torch.eye(len(gram), dtype=gram.dtype)
    systems = torch.stack([gram + penalty * count / len(gram) * eye for penalty in penalties])
    return torch.cholesky_solve(moment.expand(len(systems), -1, -1), torch.linalg.cholesky(systems))


def _components(values: Tensor, training: int, most: int) -> Tensor:
    """Leading principal components of the training rows, scaled to a mean square norm of 1."""
    train = values[:training]
    if values.shape[1] > most:
        _, vectors = torch.linalg.eigh(train.T @ train)
        values = values @ vectors[:, -most:]
        train = values[:training]
    norm = train.square().sum(1).mean().sqrt()
    return values / norm if float(norm) > 0 else values
