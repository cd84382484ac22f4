"""Ragged columns give back what went in, from memory and from Arrow alike."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pase_msa.data.columns import SequenceColumn
from pase_msa.errors import PaSEError

VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)


@st.composite
def ragged(draw):
    """Rows [T_i, dim] or None, and dim; some rows have no step."""
    dim = draw(st.integers(1, 4))
    row = st.integers(0, 5).flatmap(lambda n: hnp.arrays(np.float32, (n, dim), elements=VALUES))
    return draw(st.lists(st.none() | row, min_size=1, max_size=8)), dim


def arrow_column(rows, dim, cut):
    """The rows as a `list<float32>` column of two chunks."""
    values = [None if row is None else row.reshape(-1) for row in rows]
    parts = [part for part in (values[:cut], values[cut:]) if part]
    return SequenceColumn.from_arrow(pa.chunked_array([pa.array(part, pa.list_(pa.float32())) for part in parts]), dim)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ragged(), st.integers(0, 8))
def test_round_trip(case, cut):
    rows, dim = case
    for column in (SequenceColumn.from_arrays(rows, dim), arrow_column(rows, dim, cut)):
        assert len(column) == len(rows)
        for i, row in enumerate(rows):
            there = row is not None and len(row) > 0
            assert column.present[i] == there
            assert column.lengths[i] == (len(row) if there else 0)
            if there:
                np.testing.assert_array_equal(column[i], row)
            else:
                assert column[i] is None


@settings(max_examples=40, deadline=None, derandomize=True)
@given(ragged(), st.data())
def test_padded_and_frames_hold_the_chosen_rows(case, data):
    rows, dim = case
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    column = SequenceColumn.from_arrays(rows, dim)
    values, lengths, present = column.padded(chosen)
    assert values.shape == (len(chosen), max([1, *lengths.tolist()]), dim)
    expected = [rows[i] if column.present[i] else np.zeros((0, dim), np.float32) for i in chosen]
    for i, row in enumerate(expected):
        np.testing.assert_array_equal(values[i, : lengths[i]], row)
        assert not values[i, lengths[i] :].any()
        assert present[i] == bool(len(row))
    np.testing.assert_array_equal(column.frames(chosen), np.concatenate([np.zeros((0, dim)), *expected]))


def test_a_vector_is_one_step():
    column = SequenceColumn.from_arrays([np.array([1.0, 2.0]), None], 2)
    assert column[0].shape == (1, 2)
    assert column.lengths.tolist() == [1, 0]


def test_token_ids_have_no_feature_axis():
    column = SequenceColumn.from_arrays([np.array([5, 6, 7]), None, np.array([8])], 0, dtype=np.int64)
    values, lengths, present = column.padded([0, 1, 2])
    np.testing.assert_array_equal(values, [[5, 6, 7], [0, 0, 0], [8, 0, 0]])
    assert values.dtype == np.int64
    assert lengths.tolist() == [3, 0, 1]
    assert present.tolist() == [True, False, True]
    with pytest.raises(PaSEError, match="token ids"):
        column.frames([0])


def test_rows_from_arrow_are_views_of_its_buffers():
    values = pa.array(np.arange(6, dtype=np.float32))
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 6], pa.int32()), values)
    column = SequenceColumn.from_arrow(pa.chunked_array([lists]), 2)
    assert np.shares_memory(column[1], values.to_numpy())
