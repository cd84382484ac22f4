"""A reference model that is solved, not trained: ridge regression on pooled features, for every coalition.

What a modality can tell should not depend on how soon a network finds it, so the diagnosis asks a model with a closed
form. A coalition's features are the leading principal components of each member's mean and deviation over time, and
either nothing else, or random Fourier features (Rahimi and Recht 2007) of all members jointly, or the products of the
leading components of every two members: both see what modalities tell only together, the second also where it hides
among many components. Every coalition is predicted in sample, on random folds, on folds by video and on validation,
with the penalty and the further features that its folds by video prefer (in sample: the least penalty and the Fourier
features).
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

from pase_msa.data.columns import SequenceColumn

Array = NDArray[np.float64]
Features = slice | Tensor  # some of the columns of a design
PENALTIES = tuple(10.0**exponent for exponent in (-3.0, -2.0, -1.0, 0.0, 1.0))
FOURIER = 128
# Of a modality, so that none is seen less well for being in company; from four modalities on, whose coalitions are
# many, of all together.
_COMPONENTS = 384
_FEW = 3
# leading components of a modality whose products with those of another are taken: of up to three modalities, of more
_LEADING = (12, 3)
CLIP = 5.0
_CHUNK = 2000  # rows whose frames are in memory at once
_SPARE = 8  # unknowns of no effect


@dataclass(frozen=True)
class Predictions:
    """What the reference says of a coalition, for targets of size o, centred on the training mean.

    Attributes:
        sample: in sample at the least penalty, so what can be learned by heart, [n, o].
        random: out of fold, folds drawn at random, [n, o].
        grouped: out of fold, folds of whole videos, [n, o].
        valid: of the validation split, trained on the training split, [v, o].
        weights: of the coalition's components, member by member, of its Fourier features and of its products, [d, o].
        joint_mean: training mean of its Fourier features and of its products, [f].
    """

    sample: Array
    random: Array
    grouped: Array
    valid: Array
    weights: Array
    joint_mean: Array


@dataclass(frozen=True)
class Pooling:
    """How the frames of a modality become one row.

    Attributes:
        center: subtracted, [p].
        inverse_scale: multiplied, zero where constant, [p].
        spreads: whether the deviation over time stands behind the mean.
    """

    center: Array
    inverse_scale: Array
    spreads: bool


def pooled(column: SequenceColumn, rows: NDArray[np.int64], training: int) -> Float[Array, "n p"]:
    """Mean and (of sequences) deviation over time, standardised on the first `training` rows, zero where absent."""
    return pool(column, rows, training)[0]


def pool(column: SequenceColumn, rows: NDArray[np.int64], training: int) -> tuple[Float[Array, "n p"], Pooling]:
    """As `pooled`, and how it was done."""
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    moments = [_over_time(column, chunk) for chunk in chunks]
    means, spreads = (np.concatenate([np.zeros((0, column.dim)), *parts]) for parts in zip(*moments, strict=True))
    single = column.lengths[rows].max(initial=0) <= 1
    features = means if single else np.concatenate([means, spreads], axis=1)
    known = np.isfinite(features[:training])
    count = np.maximum(known.sum(0), 1)
    center = np.where(known, features[:training], 0.0).sum(0) / count
    scale = np.sqrt((np.where(known, features[:training] - center, 0.0) ** 2).sum(0) / count)
    constant = scale <= 1e-6 * np.maximum(np.abs(center), 1e-6)
    pooling = Pooling(center, np.where(constant, 0.0, 1 / np.where(constant, 1.0, scale)), not single)
    scaled = np.where(np.isfinite(features), (features - center) * pooling.inverse_scale, 0.0)
    return np.clip(scaled, -CLIP, CLIP), pooling


def _over_time(column: SequenceColumn, rows: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean and deviation over the finite values of every row, [n, dim] each, NaN where there is none."""
    frames = column.frames(rows).astype(np.float64)
    finite = np.isfinite(frames)
    frames[~finite] = 0.0
    owner = np.repeat(np.arange(len(rows)), column.lengths[rows])
    counts, sums, squares = (np.zeros((len(rows), column.dim)) for _ in range(3))
    np.add.at(counts, owner, finite)
    np.add.at(sums, owner, frames)
    with np.errstate(invalid="ignore"):
        means = sums / counts
        np.add.at(squares, owner, np.where(finite, (frames - means[owner]) ** 2, 0.0))
        return means, np.sqrt(squares / counts)


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
        # rows of a cell, one fold of each kind, stand together: each is multiplied once and serves both kinds
        order = np.lexsort((random, grouped))
        self.back = torch.from_numpy(np.argsort(order))
        self.targets = torch.from_numpy(targets - targets.mean(0))[torch.from_numpy(order)]
        numbers = [np.unique(folds, return_inverse=True)[1][order] for folds in (random, grouped)]
        self.random, self.grouped = (torch.from_numpy(folds) for folds in numbers)
        starts = np.flatnonzero(np.r_[True, np.any([np.diff(folds) for folds in numbers], axis=0)])
        self.cells = [slice(*ends) for ends in itertools.pairwise([*starts.tolist(), self.count])]
        whole = torch.from_numpy(np.r_[order, self.count : max(map(len, features.values()))])
        generator = torch.Generator().manual_seed(seed)
        most = _COMPONENTS if len(features) <= _FEW else max(_COMPONENTS // len(features), 24)
        linear: list[Tensor] = []
        self.columns: dict[str, Tensor] = {}
        self.phases: dict[str, Tensor] = {}
        self.matrices: dict[str, Tensor] = {}
        self.waves: dict[str, Tensor] = {}
        leading = _LEADING[len(features) > _FEW]
        self.leads: dict[str, Tensor] = {}
        self.leading: dict[str, Tensor] = {}
        for name, values in features.items():
            spread, axes = _principal(torch.from_numpy(values[: self.count]))
            self.matrices[name] = _components(torch.from_numpy(values), self.count, axes[:, -most:])
            components = (torch.from_numpy(values) @ self.matrices[name])[whole]
            self.columns[name] = sum(block.shape[1] for block in linear) + torch.arange(components.shape[1])
            linear.append(components)
            # distances of two samples in a modality are about sqrt(2) at this scale, whatever its size
            waves = torch.randn(components.shape[1], FOURIER, generator=generator, dtype=components.dtype)
            self.waves[name] = waves
            self.phases[name] = components @ waves
            self.leads[name] = _leading(spread[-leading:], axes[:, -leading:])
            self.leading[name] = (torch.from_numpy(values) @ self.leads[name])[whole]
        self.linear = torch.cat(linear, dim=1)
        self.offset = 2 * torch.pi * torch.rand(FOURIER, generator=generator, dtype=torch.float64)
        # the linear features of a coalition are some of these columns, so all coalitions share these products
        train = self.linear[: self.count]
        self.products = self._products(train, torch.cat([train, self.targets], dim=1))

    def predict(self, coalition: Sequence[str]) -> Predictions:
        """Predictions with the named modalities; with none of them, the training mean or that of the other folds."""
        if not coalition:
            return self._prior()
        columns = torch.cat([self.columns[name] for name in coalition])
        waves = torch.cos(torch.stack([self.phases[name] for name in coalition]).sum(0) + self.offset)
        pairs = products([self.leading[name] for name in coalition])
        joint = torch.cat([waves * (2 / FOURIER) ** 0.5, *pairs], dim=1)
        joint_mean = joint[: self.count].mean(0)
        joint = joint - joint_mean
        design = torch.cat([self.linear[:, columns], joint], dim=1)
        train, valid = design[: self.count], design[self.count :]
        crossed = self._products(joint[: self.count], torch.cat([train, self.targets], dim=1))
        equations = [_assemble(*parts, columns) for parts in zip(self.products, crossed, strict=True)]
        # with further features and without: what is linear is told better without
        best, grouped, chosen = float("inf"), self.targets, PENALTIES[0]
        waved: Features = slice(len(columns) + FOURIER)
        used = waved
        for kept in [waved, *_alternatives(len(columns), [pair.shape[1] for pair in pairs])]:
            found = self._out_of_fold(train[:, kept], self.grouped, _cut(equations[1], kept), PENALTIES)  # [l, n, o]
            errors = ((found - self.targets) ** 2).mean((1, 2))
            if float(errors.min()) < best:
                best, used, chosen = float(errors.min()), kept, PENALTIES[int(errors.argmin())]
                grouped = found[int(errors.argmin())]
        random = self._out_of_fold(train[:, used], self.random, _cut(equations[0], used), [chosen])
        least = _solve(*_total(_cut(equations[1], waved)), self.count, [PENALTIES[0]])[0]
        preferred = torch.zeros(design.shape[1], self.targets.shape[1], dtype=train.dtype)
        preferred[used] = _solve(*_total(_cut(equations[1], used)), self.count, [chosen])[0]
        return Predictions(
            (train[:, waved] @ least)[self.back].numpy(),
            random[0][self.back].numpy(),
            grouped[self.back].numpy(),
            (valid @ preferred).numpy(),
            preferred.numpy(),
            joint_mean.numpy(),
        )

    def _prior(self) -> Predictions:
        outputs = self.targets.shape[1]

        def means(folds: Tensor) -> Array:
            held = [folds == fold for fold in range(int(folds.max()) + 1)]
            shifts = torch.stack([_shift(self.targets[rows], self.count) for rows in held])
            return np.asarray(shifts[folds][self.back].numpy())

        nothing, held = np.zeros((self.count, outputs)), np.zeros((len(self.linear) - self.count, outputs))
        return Predictions(
            nothing, means(self.random), means(self.grouped), held, np.zeros((FOURIER, outputs)), np.zeros(FOURIER)
        )

    def _products(self, left: Float[Tensor, "n a"], right: Float[Tensor, "n b"]) -> tuple[Tensor, Tensor]:
        """`left.T @ right` over each random fold and over each fold by video, [f, a, b] each."""
        random, grouped = (
            torch.zeros(int(folds.max()) + 1, left.shape[1], right.shape[1], dtype=left.dtype)
            for folds in (self.random, self.grouped)
        )
        for cell in self.cells:
            product = left[cell].T @ right[cell]
            random[self.random[cell.start]] += product
            grouped[self.grouped[cell.start]] += product
        return random, grouped

    def _out_of_fold(
        self,
        train: Float[Tensor, "n d"],
        folds: Tensor,
        equations: tuple[Tensor, Tensor],
        penalties: Sequence[float],
    ) -> Float[Tensor, "l n o"]:
        """Predictions for every penalty from the other folds."""
        gram, moment = _total(equations)
        result = torch.empty(len(penalties), *self.targets.shape, dtype=gram.dtype)
        for fold, (part, own) in enumerate(zip(*equations, strict=True)):
            rows = torch.nonzero(folds == fold)[:, 0]
            others, shift = self.count - len(rows), _shift(self.targets[rows], self.count)
            weights = _solve(gram - part, moment - own, others, penalties)
            # all penalties side by side, so that the design is read once
            said = train[rows] @ weights.transpose(0, 1).flatten(1)
            result[:, rows] = said.view(len(rows), len(penalties), -1).transpose(0, 1) + shift
        return result


def products(parts: Sequence[Float[Tensor, "n q"]]) -> list[Float[Tensor, "n f"]]:
    """Products of the leading components of every two members, at unit norm.

    Args:
        parts: whitened components by member.
    """
    return [
        (first.unsqueeze(2) * second.unsqueeze(1)).flatten(1) / max(first.shape[1] * second.shape[1], 1) ** 0.5
        for first, second in itertools.combinations(parts, 2)
    ]


def _alternatives(linear: int, pairs: Sequence[int]) -> Iterator[Features]:
    """Sets of features without Fourier features: the linear ones, alone and with products.

    Args:
        linear: number of linear features.
        pairs: number of products of every two members.
    """
    if linear:
        yield slice(linear)
    blocks = torch.arange(linear + FOURIER, linear + FOURIER + sum(pairs)).split_with_sizes(list(pairs))
    if sum(pairs):
        yield torch.cat([torch.arange(linear), *blocks])
    # a product of two need not be drowned by those of either with a third
    if 1 < len(pairs) <= _FEW:
        yield from (torch.cat([torch.arange(linear), block]) for block in blocks)


def _cut(equations: tuple[Tensor, Tensor], kept: Features) -> tuple[Tensor, Tensor]:
    """The normal equations of some of the features."""
    grams, moments = equations
    return grams[:, kept][:, :, kept], moments[:, kept]


def _total(equations: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The normal equations of all folds together."""
    gram, moment = equations
    return gram.sum(0), moment.sum(0)


def _shift(held: Float[Tensor, "f o"], count: int) -> Float[Tensor, " o"]:
    """Mean of the other folds' targets, all of which sum to zero, so that nothing of this fold is in its prediction."""
    return -held.sum(0) / max(count - len(held), 1)


def _assemble(linear: Tensor, joint: Tensor, columns: Tensor) -> tuple[Float[Tensor, "f d d"], Float[Tensor, "f d o"]]:
    """Normal equations of every fold: products of the linear features among themselves, of the joint ones with all."""
    size, joined = len(columns), joint.shape[1]
    width = size + joined
    gram = torch.empty(len(joint), width, width, dtype=joint.dtype)
    linear = linear.index_select(1, columns)
    gram[:, :size, :size] = linear.index_select(2, columns)
    gram[:, size:] = joint[..., :width]
    gram[:, :size, size:] = joint[..., :size].transpose(1, 2)
    outputs = joint.shape[2] - width
    return gram, torch.cat([linear[..., -outputs:], joint[..., width:]], dim=1)


def _solve(gram: Tensor, moment: Tensor, count: int, penalties: Sequence[float]) -> Tensor:
    """Ridge weights for every penalty, [l, d, o]; features have about unit norm, so penalties are per sample."""
    size = len(gram)
    # columns a power of two apart fight for the same lines of the cache, which halves the speed of a factorisation
    spare = _SPARE if size % 256 == 0 else 0
    system = torch.eye(size + spare, dtype=gram.dtype)
    system[:size, :size] = gram
    moment = torch.nn.functional.pad(moment, (0, 0, 0, spare))
    found = []
    for penalty in penalties:
        system.diagonal()[:size] = gram.diagonal() + penalty * max(count, 1) / size
        found.append(torch.cholesky_solve(moment, torch.linalg.cholesky(system))[:size])
    return torch.stack(found)


def _principal(train: Float[Tensor, "n p"]) -> tuple[Float[Tensor, " p"], Float[Tensor, "p p"]]:
    """Variances along the principal axes, and these, the leading one last."""
    spread, axes = torch.linalg.eigh(train.T @ train)
    return spread / max(len(train), 1), axes


def _leading(spread: Float[Tensor, " q"], axes: Float[Tensor, "p q"]) -> Float[Tensor, "p q"]:
    """Projection to principal components, of unit variance each; those that are constant are left out."""
    kept = spread > 1e-6 * spread[-1:].clamp(min=1e-12)
    return torch.div(axes[:, kept], spread[kept].sqrt())


def _components(values: Tensor, training: int, axes: Float[Tensor, "p c"]) -> Float[Tensor, "p c"]:
    """Projection to the leading principal components of the training rows, at a mean square norm of 1."""
    train = values[:training]
    # of features that are few all are kept, as they are
    matrix = axes if axes.shape[1] < values.shape[1] else torch.eye(values.shape[1], dtype=values.dtype)
    norm = float((train @ matrix).square().sum(1).mean().sqrt())
    # columns of zeros would tell nothing, but count in the penalty
    return matrix / norm if norm > 0 else matrix[:, :0]
