"""Ridge regression in closed form for every coalition of modalities, in sample, on folds and on validation.

What a modality can tell should not depend on how soon a network finds it. The diagnosis therefore asks a model that is
solved and not trained. For features X of n rows (see `features`) and centred targets Y, the weights W minimise

    |X W - Y|^2 + lambda (n / d) |W|^2,    that is    (X'X + lambda (n / d) I) W = X'Y,    the normal equations,

with d the number of features. Every block of features has rows of norm 1, so that the mean diagonal of X'X is about
n / d per block. The penalty is relative to that: lambda means the same for coalitions of any size and folds of any
length.

X'X and X'Y are sums over rows. The equations without a fold are those of all rows minus those of the fold, so that
every fold is predicted out of sample for the cost of one multiplication of the data. Coalitions share work, too: the
linear features of a coalition are columns of one matrix, whose products are computed once.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pase_msa.heldout.features import FOURIER, Columns, fit_projections, fourier_features, products, without_fourier
from pase_msa.parallel import threads

Array = NDArray[np.float64]
#: lambda: the folds by video choose among these
PENALTIES = tuple(10.0**exponent for exponent in (-3.0, -2.0, -1.0, 0.0, 1.0))
_PADDING = 8  # unknowns without effect


@dataclass(frozen=True)
class CoalitionFit:
    """The regression of one coalition: its weights and its predictions of targets of size o, centred on their mean.

    Attributes:
        sample: in sample, with linear and Fourier features at the least penalty: what can be memorised, [n, o].
        random: out of fold, with folds drawn at random, [n, o].
        grouped: out of fold, with folds of whole videos, [n, o].
        valid: of the validation split, by the weights, [v, o].
        weights: fitted on all training rows, of the linear features member by member, then of Fourier features and
            products; zero for features that the folds by video did not choose, [d, o].
        joint_mean: training mean of Fourier features and products, [f].
    """

    sample: Array
    random: Array
    grouped: Array
    valid: Array
    weights: Array
    joint_mean: Array


@dataclass(frozen=True)
class _NormalEquations:
    """X'X and X'Y of the rows of each fold, [f, d, d] and [f, d, o]."""

    gram: Float[Tensor, "f d d"]
    moment: Float[Tensor, "f d o"]

    def select(self, columns: Columns) -> _NormalEquations:
        """Those of some of the features."""
        return _NormalEquations(self.gram[:, columns][:, :, columns], self.moment[:, columns])

    def total(self) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d o"]]:
        """Those of all rows."""
        return self.gram.sum(0), self.moment.sum(0)


@dataclass(frozen=True)
class _Choice:
    """The features and the penalty that predict folds by video best, and these predictions, [n, o]."""

    columns: Columns
    penalty: float
    predictions: Float[Tensor, "n o"]


@dataclass(frozen=True)
class _Design:
    """The features of a coalition.

    Attributes:
        rows: all features, training rows first, [n + v, d].
        linear: columns of the solver's linear features that stand first.
        joint: Fourier features and products, which follow, centred, [n + v, f].
        joint_mean: their training mean before, [f].
        sets: sets of columns to choose from; the first holds linear and Fourier features.
    """

    rows: Float[Tensor, "m d"]
    linear: Int[Tensor, " c"]
    joint: Float[Tensor, "m f"]
    joint_mean: Float[Tensor, " f"]
    sets: list[Columns]


class RidgeSolver:
    """Solves the regression of any coalition.

    Args:
        features: modality -> pooled features [n + v, p], standardised, training rows first.
        targets: [n, o], of the training rows.
        random: fold of each training row, drawn at random, [n].
        grouped: fold of each training row, whole videos together, [n].
        seed: of the Fourier features.

    Attributes:
        projections: how each modality becomes features.
        offsets: of the Fourier features, [FOURIER].
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
        self._solved: dict[tuple[str, ...], CoalitionFit] = {}
        # Training rows are sorted by both kinds of folds. The rows of a cell, which share both folds, are then a slice:
        # each cell is multiplied once, and its product is added to the sums of both kinds.
        order = np.lexsort((random, grouped))
        self.back = torch.from_numpy(np.argsort(order))  # to the order in which the rows were given
        self.targets = torch.from_numpy(targets - targets.mean(0))[torch.from_numpy(order)]
        numbers = [np.unique(folds, return_inverse=True)[1][order] for folds in (random, grouped)]
        self.random, self.grouped = (torch.from_numpy(folds) for folds in numbers)
        starts = np.flatnonzero(np.r_[True, np.any([np.diff(folds) for folds in numbers], axis=0)])
        self.cells = [slice(*ends) for ends in itertools.pairwise([*starts.tolist(), self.count])]
        self.projections, self.offsets = fit_projections(features, self.count, seed)
        rows = torch.from_numpy(np.r_[order, self.count : max(map(len, features.values()))])
        linear: list[Tensor] = []
        self.columns: dict[str, Tensor] = {}  # of each modality in `linear`
        self.phases: dict[str, Tensor] = {}
        self.top_components: dict[str, Tensor] = {}
        for name, values in features.items():
            projection, pooled = self.projections[name], torch.from_numpy(values)
            components = (pooled @ projection.components)[rows]
            self.columns[name] = sum(block.shape[1] for block in linear) + torch.arange(components.shape[1])
            linear.append(components)
            self.phases[name] = components @ projection.frequencies
            self.top_components[name] = (pooled @ projection.top_components)[rows]
        self.linear = torch.cat(linear, dim=1)
        # X'X and X'Y of the linear features of all modalities: every coalition takes its rows and columns from these
        train = self.linear[: self.count]
        self.products = self._products(train, torch.cat([train, self.targets], dim=1))

    def solve(self, coalition: Sequence[str]) -> CoalitionFit:
        """Fit the regression on the named modalities; without any, the mean of the training rows or of other folds.

        Each coalition is solved once: the reference asks again for what the diagnosis has asked for.
        """
        names = tuple(coalition)
        if names not in self._solved:
            self._solved[names] = self._solve(names) if names else self._prior()
        return self._solved[names]

    def _solve(self, coalition: Sequence[str]) -> CoalitionFit:
        design = self._design(coalition)
        train, valid = design.rows[: self.count], design.rows[self.count :]
        random, grouped = self._normal_equations(design)
        choice = self._choose(train, grouped, design.sets)
        chosen, penalties = choice.columns, [choice.penalty]
        by_random = self._out_of_fold(train[:, chosen], self.random, random.select(chosen), penalties)[0]
        # in sample the most flexible fit is asked for: all of what training rows can be memorised by
        flexible = design.sets[0]
        memorised = train[:, flexible] @ _solve(*grouped.select(flexible).total(), self.count, [PENALTIES[0]])[0]
        weights = torch.zeros(train.shape[1], self.targets.shape[1], dtype=train.dtype)
        weights[chosen] = _solve(*grouped.select(chosen).total(), self.count, penalties)[0]
        return CoalitionFit(
            memorised[self.back].numpy(),
            by_random[self.back].numpy(),
            choice.predictions[self.back].numpy(),
            (valid @ weights).numpy(),
            weights.numpy(),
            design.joint_mean.numpy(),
        )

    def _design(self, coalition: Sequence[str]) -> _Design:
        columns = torch.cat([self.columns[name] for name in coalition])
        fourier = fourier_features([self.phases[name] for name in coalition], self.offsets)
        pairs = products([self.top_components[name] for name in coalition])
        joint = torch.cat([fourier, *pairs], dim=1)
        joint_mean = joint[: self.count].mean(0)
        joint = joint - joint_mean
        rows = torch.cat([self.linear[:, columns], joint], dim=1)
        with_fourier = slice(len(columns) + FOURIER)
        # what is linear is predicted better without Fourier features and products
        sets = [with_fourier, *without_fourier(len(columns), [pair.shape[1] for pair in pairs])]
        return _Design(rows, columns, joint, joint_mean, sets)

    def _normal_equations(self, design: _Design) -> tuple[_NormalEquations, _NormalEquations]:
        """Those of a coalition, by random fold and by fold of whole videos."""
        train, joint = design.rows[: self.count], design.joint[: self.count]
        crossed = self._products(joint, torch.cat([train, self.targets], dim=1))
        random, grouped = (_assemble(*parts, design.linear) for parts in zip(self.products, crossed, strict=True))
        return random, grouped

    def _choose(self, train: Float[Tensor, "n d"], equations: _NormalEquations, sets: Sequence[Columns]) -> _Choice:
        """The features and the penalty with the least squared error on folds by video."""
        least, choice = float("inf"), _Choice(sets[0], PENALTIES[0], self.targets)
        for columns in sets:
            predictions = self._out_of_fold(train[:, columns], self.grouped, equations.select(columns), PENALTIES)
            errors = ((predictions - self.targets) ** 2).mean((1, 2))  # [l]
            if float(errors.min()) < least:
                best = int(errors.argmin())
                least, choice = float(errors.min()), _Choice(columns, PENALTIES[best], predictions[best])
        return choice

    def _prior(self) -> CoalitionFit:
        """What is predicted without any feature."""
        outputs = self.targets.shape[1]

        def means(folds: Tensor) -> Array:
            members = [folds == fold for fold in range(int(folds.max()) + 1)]
            shifts = torch.stack([_mean_of_others(self.targets[rows], self.count) for rows in members])
            return np.asarray(shifts[folds][self.back].numpy())

        sample, valid = np.zeros((self.count, outputs)), np.zeros((len(self.linear) - self.count, outputs))
        weights, joint_mean = np.zeros((FOURIER, outputs)), np.zeros(FOURIER)
        return CoalitionFit(sample, means(self.random), means(self.grouped), valid, weights, joint_mean)

    def _products(self, left: Float[Tensor, "n a"], right: Float[Tensor, "n b"]) -> tuple[Tensor, Tensor]:
        """`left.T @ right` over the rows of each random fold and of each fold by video, [f, a, b] each."""
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
        folds: Int[Tensor, " n"],
        equations: _NormalEquations,
        penalties: Sequence[float],
    ) -> Float[Tensor, "l n o"]:
        """Predictions of every row by the other folds, for every penalty."""
        gram, moment = equations.total()
        result = torch.empty(len(penalties), *self.targets.shape, dtype=gram.dtype)

        def predict(fold: int) -> None:
            fold_gram, fold_moment = equations.gram[fold], equations.moment[fold]
            rows = torch.nonzero(folds == fold)[:, 0]
            others = self.count - len(rows)
            # X'X and X'Y of the other folds: of all rows, minus those of this fold
            weights = _solve(gram - fold_gram, moment - fold_moment, others, penalties)
            # weights of all penalties side by side, so that the design is read once
            predicted = train[rows] @ weights.transpose(0, 1).flatten(1)
            intercept = _mean_of_others(self.targets[rows], self.count)
            result[:, rows] = predicted.view(len(rows), len(penalties), -1).transpose(0, 1) + intercept

        # systems of some hundred unknowns gain little from several threads each, and all from a thread of their own
        count = torch.get_num_threads()
        with threads(1), ThreadPoolExecutor(count) as pool:
            list(pool.map(predict, range(len(equations.gram))))
        return result


def _mean_of_others(targets: Float[Tensor, "f o"], count: int) -> Float[Tensor, " o"]:
    """Mean target of the other folds, which is the intercept of this fold's predictions.

    Targets are centred: all of them sum to zero, and those of the others to minus the sum of this fold's.
    """
    return -targets.sum(0) / max(count - len(targets), 1)


def _assemble(
    linear: Float[Tensor, "f a b"], joint: Float[Tensor, "f j e"], columns: Int[Tensor, " c"]
) -> _NormalEquations:
    """The normal equations of a coalition from two kinds of products.

    With L its linear features, J its joint ones (Fourier features and products), and Y the targets:

        X'X = | L'L  L'J |    X'Y = | L'Y |
              | J'L  J'J |          | J'Y |

    Args:
        linear: A'[A Y] of every fold, where A holds the linear features of all modalities and L is some of its columns.
        joint: J'[L J Y] of every fold.
        columns: those of A that make up L.
    """
    size, joined = len(columns), joint.shape[1]
    width = size + joined
    gram = torch.empty(len(joint), width, width, dtype=joint.dtype)
    linear = linear.index_select(1, columns)
    gram[:, :size, :size] = linear.index_select(2, columns)  # L'L
    gram[:, size:] = joint[..., :width]  # J'L and J'J
    gram[:, :size, size:] = joint[..., :size].transpose(1, 2)  # L'J
    outputs = joint.shape[2] - width
    return _NormalEquations(gram, torch.cat([linear[..., -outputs:], joint[..., width:]], dim=1))


def _solve(
    gram: Float[Tensor, "d d"], moment: Float[Tensor, "d o"], count: int, penalties: Sequence[float]
) -> Float[Tensor, "l d o"]:
    """W of (X'X + lambda (n / d) I) W = X'Y for every lambda, by Cholesky factorisation.

    Args:
        gram: X'X.
        moment: X'Y.
        count: n, the number of rows that both are sums over.
        penalties: lambda.
    """
    size = len(gram)
    # columns that lie a power of two apart compete for the same lines of the cache, which halves the speed of the
    # factorisation; unknowns of their own (an identity block) change the stride and no result
    padding = _PADDING if size % 256 == 0 else 0
    system = torch.eye(size + padding, dtype=gram.dtype)
    system[:size, :size] = gram
    moment = torch.nn.functional.pad(moment, (0, 0, 0, padding))
    weights = []
    for penalty in penalties:
        system.diagonal()[:size] = gram.diagonal() + penalty * max(count, 1) / size
        weights.append(torch.cholesky_solve(moment, torch.linalg.cholesky(system))[:size])
    return torch.stack(weights)
