"""Steps from frames: against a naive loop, and by their laws."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pase_msa.media.align import pool, windows, word_spans
from pase_msa.media.clip import Span, Track, Word


def naive(values, times, spans):
    """Mean and deviation per span; the nearest frame where a span has none."""
    rows = []
    for span in spans:
        inside = [i for i, t in enumerate(times) if span.start <= t < span.end]
        if not inside:
            middle = (span.start + span.end) / 2
            inside = [min(range(len(times)), key=lambda i: abs(times[i] - middle))]
        columns = [[v for v in values[inside, d] if not np.isnan(v)] for d in range(values.shape[1])]
        mean = [sum(c) / len(c) if c else np.nan for c in columns]
        spread = [
            (sum((v - m) ** 2 for v in c) / len(c)) ** 0.5 if c else np.nan for c, m in zip(columns, mean, strict=True)
        ]
        rows.append(mean + spread)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(5))
def test_pooling_agrees_with_a_loop(seed):
    rng = np.random.default_rng(seed)
    times = np.arange(40) / 10
    values = rng.normal(size=(40, 3))
    values[rng.random((40, 3)) < 0.3] = np.nan
    edges = np.sort(rng.uniform(0, 4, 12))
    spans = [Span(a, b) for a, b in itertools.pairwise(edges)]
    pooled = pool(Track(values, times), spans, deviations=True)
    np.testing.assert_allclose(pooled, naive(values, times, spans), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(pool(Track(values, times), spans, deviations=False), pooled[:, :3])


def test_a_span_far_from_every_frame_is_unknown():
    track = Track(np.ones((5, 2)), np.arange(5) / 5)
    assert np.isnan(pool(track, [Span(7.0, 7.1)], deviations=False)).all()


def test_a_window_without_a_word_is_unknown():
    track = Track(np.ones((2, 2)), np.array([0.1, 0.2]), by_word=True)
    pooled = pool(track, [Span(0.0, 0.25), Span(0.25, 0.5)], deviations=False)
    assert pooled[0].tolist() == [1, 1]
    assert np.isnan(pooled[1]).all()


@given(st.floats(0, 100), st.floats(0.01, 60), st.floats(0.05, 5))
def test_windows_cover_the_clip_evenly(start, duration, length):
    spans = windows(start, duration, length)
    assert spans[0].start == start
    assert spans[-1].end == pytest.approx(start + duration)
    assert all(span.end - span.start <= length * 1.0001 for span in spans)


def test_words_have_spans_only_where_all_have_times():
    assert word_spans([Word("a", 0.0, 0.1), Word("b")]) is None
    assert word_spans([]) is None
    assert word_spans([Word("a", 0.0, 0.1)]) == [Span(0.0, 0.1)]
