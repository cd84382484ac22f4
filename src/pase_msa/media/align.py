"""Tracks at their own rates become steps: one per word, or one per window."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.media.clip import Span, Track, Word


def word_spans(words: Sequence[Word]) -> list[Span] | None:
    """The time of each word; None where a word has no time, or there is no word."""
    spans = [Span(word.start, word.end) for word in words if word.start is not None and word.end is not None]
    return spans if spans and len(spans) == len(words) else None


def windows(start: float, duration: float, length: float) -> list[Span]:
    """Windows of equal length, about `length` seconds each, that cover the clip."""
    count = max(1, math.ceil(duration / length - 1e-6))
    return [Span(start + i * duration / count, start + (i + 1) * duration / count) for i in range(count)]


def pool(track: Track, spans: Sequence[Span], *, deviations: bool) -> Array:
    """Mean of the track's steps in each span, and their standard deviation: [len(spans), D or 2 D].

    A span between two steps of the track gets the nearest one. NaN marks what was not measured: it is left out of the
    means, and a span without any other value is NaN.
    """
    values, times = track.values, track.times
    gap = float(np.median(np.diff(times))) if len(times) > 1 else math.inf
    rows = []
    for span in spans:
        inside = (times >= span.start) & (times < span.end)
        if not inside.any() and not track.by_word:
            # beyond one step from the track's nearest step there is nothing that the span could take
            distance = np.abs(times - (span.start + span.end) / 2)
            inside = distance <= min(float(distance.min()), gap)
        part = values[inside]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice|Degrees of freedom")
            mean = np.nanmean(part, axis=0) if len(part) else np.full(values.shape[1], np.nan)
            rows.append(np.concatenate([mean, np.nanstd(part, axis=0)]) if deviations and len(part) else mean)
            if deviations and not len(part):
                rows[-1] = np.full(2 * values.shape[1], np.nan)
    return np.stack(rows).astype(np.float32)
