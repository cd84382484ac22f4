"""Ragged columns: one sequence per utterance, of any length, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pase_msa.errors import PaSEError

Array = NDArray[Any]


class SequenceColumn:
    """N sequences of shape [T_i, dim] (or [T_i] where dim is 0: token ids); None where absent.

    Rows are views. If the column comes from a table on disk, they are views of memory-mapped Arrow buffers, so that
    a column may be larger than memory and costs nothing until its rows are read.

    Args:
        chunks: of each block of rows, the flat values and the row's offsets into them, [rows + 1].
        present: whether each row has a sequence, [N].
        dim: size of a step; 0 for token ids.

    Attributes:
        dim: size of a step; 0 for token ids.
        lengths: steps per row, 0 where absent, int64 [N].
        present: bool [N].
    """

    def __init__(self, chunks: Sequence[tuple[Array, Array]], present: NDArray[np.bool_], dim: int) -> None:
        width = max(dim, 1)
        self.dim = dim
        self.present = present
        self._values = [values for values, _ in chunks]
        self._offsets = [offsets for _, offsets in chunks]
        self._starts = np.cumsum([0] + [len(offsets) - 1 for offsets in self._offsets])
        steps = [np.diff(offsets) // width for offsets in self._offsets]
        lengths = np.concatenate(steps) if steps else np.zeros(0)
        self.lengths: NDArray[np.int64] = np.where(present, lengths, 0).astype(np.int64)

    @classmethod
    def from_arrays(cls, rows: Iterable[Array | None], dim: int, dtype: Any = np.float32) -> SequenceColumn:
        """A column in memory from one array (or None) per row; a vector [dim] is a sequence of one step."""
        arrays = list(rows)
        present = np.array([array is not None and len(array) > 0 for array in arrays], dtype=bool)
        flat = [np.asarray(a, dtype=dtype).reshape(-1) for a, p in zip(arrays, present, strict=True) if p]
        sizes = np.zeros(len(arrays), dtype=np.int64)
        sizes[present] = [len(values) for values in flat]
        values = np.concatenate(flat) if flat else np.zeros(0, dtype=dtype)
        return cls([(values, np.concatenate([[0], np.cumsum(sizes)]))], present, dim)

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray, dim: int) -> SequenceColumn:
        """A column over the buffers of a `list<float32>` Arrow column, without a copy."""
        chunks = [
            (chunk.values.to_numpy(zero_copy_only=True), chunk.offsets.to_numpy(zero_copy_only=True))
            for chunk in column.chunks
        ]
        valid = np.asarray(column.is_valid().to_numpy(), dtype=bool)
        result = cls(chunks, valid, dim)
        result.present = valid & (result.lengths > 0)
        return result

    def __len__(self) -> int:
        return len(self.present)

    def __getitem__(self, row: int) -> Array | None:
        return next(self._views(np.array([row]))) if self.present[row] else None

    def _views(self, index: NDArray[np.int64]) -> Iterator[Array]:
        """Views of rows that are present. Their chunks are looked up together, as a training step reads hundreds."""
        chunks = np.searchsorted(self._starts, index, side="right") - 1
        for chunk, row in zip(chunks.tolist(), (index - self._starts[chunks]).tolist(), strict=True):
            begin, end = self._offsets[chunk][row : row + 2].tolist()
            values: Array = self._values[chunk][begin:end]
            yield values.reshape(-1, self.dim) if self.dim else values

    def padded(self, rows: Sequence[int] | Array) -> tuple[Array, Array, Array]:
        """Rows as one zero-padded array [n, T, dim] (or [n, T]) with lengths [n] and presence [n]."""
        index = np.asarray(rows, dtype=np.int64)
        lengths, present = self.lengths[index], self.present[index]
        steps = max(int(lengths.max(initial=0)), 1)
        dtype = self._values[0].dtype if self._values else np.float32
        result = np.zeros((len(index), steps, self.dim) if self.dim else (len(index), steps), dtype=dtype)
        where = np.flatnonzero(present)
        for i, row in zip(where.tolist(), self._views(index[where]), strict=True):
            result[i, : len(row)] = row
        return result, lengths, present

    def frames(self, rows: Sequence[int] | Array) -> Array:
        """All valid steps of the rows, one below the other, [sum T, dim]; a scaler is fitted on these.

        Errors:
            PaSEError: the column holds token ids, which are no features.
        """
        if not self.dim:
            raise PaSEError("A column of token ids has no frames.")
        index = np.asarray(rows, dtype=np.int64)
        sequences = list(self._views(index[self.present[index]]))
        return np.concatenate(sequences) if sequences else np.zeros((0, self.dim), dtype=np.float32)
