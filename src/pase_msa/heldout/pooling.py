"""From the frames of a modality to one row of features per utterance: mean and deviation over time, standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.scaling import Limits, column_limits, scale_of

Array = NDArray[np.float64]
#: standard deviations at which a pooled feature is cut off, so that one outlier cannot decide a regression
CLIP = 5.0
_CHUNK = 2000  # rows whose frames are in memory at once


@dataclass(frozen=True)
class Pooling:
    """How the frames of a modality became one row.

    Attributes:
        center: training mean of every pooled feature, which is subtracted, [p].
        inverse_scale: one over its standard deviation, by which it is multiplied; zero where it is constant, [p].
        with_deviation: whether the deviations over time follow the means; not where every utterance has one frame.
        low: smallest value of a frame, at which those below are cut off, [d].
        high: largest value of a frame, [d].
    """

    center: Array
    inverse_scale: Array
    with_deviation: bool
    low: Array
    high: Array


def pool(column: SequenceColumn, rows: NDArray[np.int64], training: int) -> tuple[Float[Array, "n p"], Pooling]:
    """Pool the frames of every row over time and standardise the result.

    Args:
        column: the modality.
        rows: of the column; the training rows stand first.
        training: number of training rows, on which centre and scale are measured.

    Returns:
        The pooled features, cut off at 5 standard deviations and zero (the training mean) where the modality or a value
        is absent; and how they were made.
    """
    limits = column_limits(column, rows[:training])
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    moments = [_over_time(column, chunk, limits) for chunk in chunks]
    means, deviations = (np.concatenate([np.zeros((0, column.dim)), *parts]) for parts in zip(*moments, strict=True))
    single = column.lengths[rows].max(initial=0) <= 1
    features = means if single else np.concatenate([means, deviations], axis=1)
    scale = scale_of(features[:training])
    pooling = Pooling(scale.mean, scale.inverse, not single, limits.low, limits.high)
    scaled = np.where(np.isfinite(features), (features - scale.mean) * scale.inverse, 0.0)
    return np.clip(scaled, -CLIP, CLIP), pooling


def _over_time(column: SequenceColumn, rows: NDArray[np.int64], limits: Limits) -> tuple[Array, Array]:
    """Mean and deviation over the finite values of every row, cut off, [n, dim] each; NaN where there is none."""
    frames = column.frames(rows).astype(np.float64)
    finite = np.isfinite(frames)
    lengths = column.lengths[rows]
    if len(rows) and lengths.max() <= 1:  # a frame is its own mean; adding up would take most of the time
        means = np.full((len(rows), column.dim), np.nan)
        means[lengths == 1] = np.where(finite, np.clip(frames, limits.low, limits.high), np.nan)
        return means, means * 0.0
    frames = np.where(finite, np.clip(frames, limits.low, limits.high), 0.0)
    owner = np.repeat(np.arange(len(rows)), lengths)  # row of each frame
    counts, sums, squares = (np.zeros((len(rows), column.dim)) for _ in range(3))
    np.add.at(counts, owner, finite)
    np.add.at(sums, owner, frames)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a row without a finite value
        means = sums / counts
        np.add.at(squares, owner, np.where(finite, (frames - means[owner]) ** 2, 0.0))
        return means, np.sqrt(squares / counts)
