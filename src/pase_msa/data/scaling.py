"""Location and scale of features that a few wild values cannot set.

Values are first cut off at `REACH` robust deviations from the median of their dimension; mean and standard deviation
follow from what is left (winsorising, Dixon 1960). On data without outliers nothing is cut, so mean and deviation are
the plain ones, also where a dimension is binary, mostly zero or a count. One value of 1e7 among 80 moves them little.

Everything is computed over blocks of rows, so that a table of any size is never in memory at once; the medians come
from a sample of the rows, which is always the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.columns import SequenceColumn

Floats = NDArray[np.float64]
REACH = 10.0
"""Robust deviations from the median at which values are cut off."""
DOMINATED = 3.0
"""Ratio of the plain deviation to the robust one from which outliers are said to dominate a dimension."""
_SAMPLE = 2**22  # values of which the quantiles are taken
_BLOCK = 2**22  # values in memory at once
_IQR, _TENTH = 1.349, 1.645  # widths of a normal distribution in its deviations: q75 - q25, q90 of the absolute value


@dataclass(frozen=True)
class Limits:
    """Where the values of each dimension are cut off.

    Attributes:
        low: smallest value, [d].
        high: largest value, [d].
        median: [d].
        spread: robust deviation; 0 where all values are the same, [d].
        dense: whether the middle half of the values is not one value, [d].
    """

    low: Floats
    high: Floats
    median: Floats
    spread: Floats
    dense: NDArray[np.bool_]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of the values within the limits.

    Attributes:
        limits: of the values.
        mean: [d].
        deviation: [d].
        plain: deviation of the values as they are, [d].
        beyond: number of values beyond the limits, [d].
    """

    limits: Limits
    mean: Floats
    deviation: Floats
    plain: Floats
    beyond: NDArray[np.int64]

    @property
    def inverse(self) -> Floats:
        """One over the deviation; zero for a constant, and for one with the rounding of float32, [d]."""
        constant = self.deviation <= 1e-6 * np.maximum(np.abs(self.mean), 1e-6)
        return np.where(constant, 0.0, 1 / np.where(constant, 1.0, self.deviation))

    @property
    def dominated(self) -> NDArray[np.bool_]:
        """Dimensions whose plain deviation is made by the values beyond the limits, [d]."""
        return (self.beyond > 0) & (self.plain > DOMINATED * self.deviation)


def find_limits(sample: NDArray[np.floating]) -> Limits:
    """Median, robust deviation and limits of each dimension of [n, d]; NaN and infinite values are left out.

    The robust deviation is the larger of the interquartile range and the 90 % quantile of the distance to the median,
    each over what it is for a normal distribution. The first alone would cut off what a dimension tells that is close
    to zero in most steps (an action unit of a face). Where both are zero, it is the median distance of those
    values that differ from the median: of a dimension that is zero nearly always, the size of what is not.
    """
    ordered = np.sort(np.where(np.isfinite(sample), sample, np.nan), axis=0).astype(np.float64)  # NaN comes last
    counts = (~np.isnan(ordered)).sum(0)
    median = _quantile(ordered, counts, 0.5)
    distance = np.sort(np.abs(ordered - median), axis=0)
    middle = _quantile(ordered, counts, 0.75) - _quantile(ordered, counts, 0.25)
    spread = np.maximum(middle / _IQR, _quantile(distance, counts, 0.9) / _TENTH)
    for column in np.flatnonzero((spread <= 0) & (counts > 0)):
        others = distance[: counts[column], column]
        others = others[others > 0]
        spread[column] = float(np.median(others)) if len(others) else 0.0
    return Limits(median - REACH * spread, median + REACH * spread, median, spread, middle > 0)


def _quantile(ordered: Floats, counts: NDArray[np.int64], share: float) -> Floats:
    """The value at a share of the finite values of each sorted column; 0 where there is none."""
    if not len(ordered):
        return np.zeros(ordered.shape[1])
    places = np.maximum(np.rint(share * (counts - 1)), 0).astype(np.int64)
    return np.where(counts > 0, np.take_along_axis(ordered, places[None], axis=0)[0], 0.0)


def measure_scale(blocks: Iterable[NDArray[np.floating]], limits: Limits) -> Scale:
    """Mean and deviation of the finite values of blocks [n, d], cut off at the limits, in one pass."""
    dim = len(limits.median)
    count, beyond = np.zeros(dim, np.int64), np.zeros(dim, np.int64)
    sums = np.zeros((4, dim))
    for block in blocks:
        finite = np.isfinite(block)
        # measured from the median, so that squares of large values do not lose the deviation
        shifted = np.where(finite, block, limits.median).astype(np.float64) - limits.median
        cut = np.clip(shifted, limits.low - limits.median, limits.high - limits.median)
        count += finite.sum(0)
        beyond += (cut != shifted).sum(0)
        sums += np.stack([cut.sum(0), (cut**2).sum(0), shifted.sum(0), (shifted**2).sum(0)])
    first, second, plain_first, plain_second = sums / np.maximum(count, 1)
    return Scale(
        limits,
        limits.median + first,
        np.sqrt(np.maximum(second - first**2, 0.0)),
        np.sqrt(np.maximum(plain_second - plain_first**2, 0.0)),
        beyond,
    )


def scale_of(values: NDArray[np.floating]) -> Scale:
    """The scale of an array [n, d]."""
    return measure_scale([values], find_limits(values))


def column_limits(column: SequenceColumn, rows: Sequence[int] | NDArray[np.int64]) -> Limits:
    """The limits of the valid steps of some rows, from a sample of them where they are many."""
    index = np.asarray(rows, dtype=np.int64)
    index = index[column.present[index]]
    total = int(column.lengths[index].sum()) * column.dim
    stride = math.ceil(total / _SAMPLE) if total else 1
    # a permutation first: every tenth row as it stands may be the first of its video
    order = np.sort(np.random.default_rng(0).permutation(len(index))[: math.ceil(len(index) / stride)])
    return find_limits(column.frames(index[order]))


def column_scale(column: SequenceColumn, rows: Sequence[int] | NDArray[np.int64]) -> Scale:
    """The scale of the valid steps of some rows."""
    return measure_scale(frame_blocks(column, rows), column_limits(column, rows))


def frame_blocks(column: SequenceColumn, rows: Sequence[int] | NDArray[np.int64]) -> Iterator[NDArray[np.floating]]:
    """The valid steps of some rows in blocks [n, d] of a limited size."""
    index = np.asarray(rows, dtype=np.int64)
    index = index[column.present[index]]
    ends = np.cumsum(column.lengths[index]) * column.dim // _BLOCK
    for part in np.split(index, np.flatnonzero(np.diff(ends)) + 1):
        if len(part):
            yield column.frames(part)
