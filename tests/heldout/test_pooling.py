"""Pooling over time against a naive computation."""

import numpy as np
import pytest

from pase_msa.data import scaling
from pase_msa.data.columns import SequenceColumn
from pase_msa.heldout import pooling
from pase_msa.heldout.pooling import pool


def pooled(*args):
    return pool(*args)[0]


def column(rows, dim):
    return SequenceColumn.from_arrays([None if row is None else np.asarray(row, np.float32) for row in rows], dim)


def ragged(count, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.normal(2, 3, (rng.integers(1, 6), dim)) for _ in range(count)]
    rows[1], rows[4] = None, np.full((2, dim), np.nan)
    rows[2][0, 0], rows[3][0, 1] = np.inf, np.nan
    return rows


def naive_pooled(rows, training):
    statistics = []
    for row in rows:
        values = np.full((1, 3), np.nan) if row is None else np.asarray(np.float32(row), np.float64)
        finite = [values[:, d][np.isfinite(values[:, d])] for d in range(values.shape[1])]
        means = [f.mean() if len(f) else np.nan for f in finite]
        statistics.append(means + [f.std() if len(f) else np.nan for f in finite])
    table = np.array(statistics)
    for d in range(table.shape[1]):
        finite = table[:training, d][np.isfinite(table[:training, d])]
        table[:, d] = (table[:, d] - finite.mean()) / finite.std()
    return np.clip(np.nan_to_num(table), -5, 5)


def test_pooling_is_mean_and_deviation_of_the_finite_values_standardised_on_training_rows():
    rows = ragged(30)
    np.testing.assert_allclose(pooled(column(rows, 3), np.arange(30), 20), naive_pooled(rows, 20), atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 7, 30])
def test_chunks_change_nothing(chunk, monkeypatch):
    values = column(ragged(30), 3)
    whole = pooled(values, np.arange(30), 20)
    monkeypatch.setattr(pooling, "_CHUNK", chunk)
    np.testing.assert_array_equal(pooled(values, np.arange(30), 20), whole)


def test_only_one_chunk_of_frames_is_in_memory_at_a_time(monkeypatch):
    values, sizes = column(ragged(30), 3), []
    frames = values.frames
    monkeypatch.setattr(pooling, "_CHUNK", 4)
    monkeypatch.setattr(scaling, "_SAMPLE", 12 * 3)  # values: a sample of a few rows
    monkeypatch.setattr(values, "frames", lambda rows: sizes.append(len(rows)) or frames(rows))
    pooled(values, np.arange(30), 20)
    sample, *chunks = sizes
    assert sample < 10
    assert max(chunks) == 4
    assert sum(chunks) == 30


def test_wild_frames_in_some_rows_leave_the_others_their_scale():
    rows = ragged(40)
    wild = [None if row is None else row.copy() for row in rows]
    for row in wild[::5]:
        row[0] = 1e6
    spoilt = pooled(column(wild, 3), np.arange(40), 40)
    assert spoilt[np.arange(40) % 5 > 0].std(0).min() > 0.1


def test_single_vectors_have_no_deviation_and_constants_are_zero():
    rows = np.random.default_rng(0).normal(size=(12, 1, 3))
    rows[:, 0, 1] = 7.5
    found = pooled(column(rows, 3), np.arange(12), 8)
    assert found.shape == (12, 3)
    np.testing.assert_array_equal(found[:, 1], 0)


def test_validation_rows_do_not_move_the_scale_and_outliers_are_clipped():
    rows = np.random.default_rng(0).normal(size=(12, 1, 2))
    wild = rows.copy()
    wild[8:] *= 1e6
    one, two = (pooled(column(values, 2), np.arange(12), 8) for values in (rows, wild))
    np.testing.assert_array_equal(one[:8], two[:8])
    assert np.abs(two).max() == 5


def test_a_modality_that_no_row_has_is_zero():
    np.testing.assert_array_equal(pooled(column([None] * 5, 2), np.arange(5), 3), np.zeros((5, 2)))
