"""Samples of several modalities as one object that scikit-learn can count, index and split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pase_msa.data.conversion import is_sparse, to_numpy
from pase_msa.errors import PaSEError

Columns = Mapping[str, Any]
"""Modality name -> the columns that make it up: a name, a number, a slice, or a list of names or numbers."""


class Modalities:
    """N samples of one or more modalities: `Modalities(audio=array, text=["so good", ...])`.

    A plain mapping of modalities counts as many samples as it has modalities wherever scikit-learn looks at it. This
    one has the shape (N, modalities), and `X[rows]` gives the samples of these rows, so that `cross_val_score`,
    `GridSearchCV`, `train_test_split` and every splitter take it. `X["audio"]` gives a modality.

    Args:
        parts: modality name -> array [N, ...], sparse matrix [N, D], list of N entries, or a pandas column.
        more: the same as keywords.

    Errors:
        PaSEError: no modality, or modalities that differ in the number of samples.
    """

    def __init__(self, parts: Mapping[str, Any] | None = None, **more: Any) -> None:
        given = {**(parts or {}), **more}
        self._parts = {name: part for name, part in given.items() if part is not None}
        counts = {name: _count(name, part) for name, part in self._parts.items()}
        if not counts:
            raise PaSEError("Modalities needs one modality or more, such as Modalities(audio=array).")
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise PaSEError(f"Every modality needs the same number of samples, found {listed}.")
        self.shape = (next(iter(counts.values())), len(counts))
        self.ndim = 2
        # a sparse matrix in coordinates cannot be indexed by rows
        self._parts = {name: part.tocsr() if is_sparse(part) else part for name, part in self._parts.items()}

    def __len__(self) -> int:
        return self.shape[0]

    def keys(self) -> Iterator[str]:
        """Names of the modalities."""
        return iter(self._parts)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Modalities by name."""
        return iter(self._parts.items())

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._parts:
                raise PaSEError(f"There are the modalities {', '.join(self._parts)}, not {key!r}; name one of these.")
            return self._parts[key]
        rows = key[0] if isinstance(key, tuple) else key  # scikit-learn asks for X[rows, ...]
        try:
            numbers = np.arange(len(self))[np.asarray(rows, int) if isinstance(rows, list) and not rows else rows]
        except IndexError as error:
            raise PaSEError(f"{len(self)} samples cannot be indexed by {rows!r} ({error}).") from error
        return Modalities({name: _rows(part, np.atleast_1d(numbers)) for name, part in self._parts.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __repr__(self) -> str:
        return f"Modalities({', '.join(self._parts)}; {len(self)} samples)"


def from_columns(X: Any, columns: Columns | None) -> Any:
    """X as modalities: by the columns that each is made of, or one per column of a data frame.

    Args:
        X: data frame, array [N, D] or sparse matrix [N, D]; anything else passes as it is.
        columns: modality name -> its columns; a single name or number gives the column itself (texts, or one array per
            sample; numbers are a matrix [N, 1]), a list, a range or a slice a matrix [N, d].

    Errors:
        PaSEError: columns that X does not have, that are no numbers, or that belong to two modalities; columns for an X
            that has none; or a data frame of numbers without columns.
    """
    if hasattr(X, "to_pandas") and not hasattr(X, "iloc"):  # Arrow, Polars
        X = X.to_pandas()
    frame = hasattr(X, "iloc") and hasattr(X, "columns")
    if columns is None:
        return Modalities(_each_column(X)) if frame else X
    if not isinstance(columns, Mapping) or not columns:
        raise PaSEError(
            "columns maps a modality to its columns, such as {'audio': ['pitch', 'energy'], 'text': 'said'}."
        )
    if isinstance(X, list | tuple) and not isinstance(X, str):
        X = to_numpy(X, "X")
    elif is_sparse(X):
        X = X.tocsr()  # the sparse matrix of a dictionary is a mapping, too
    elif not isinstance(X, Modalities) and not frame and not hasattr(X, "ndim") and hasattr(X, "__array__"):
        X = np.asarray(X)
    if isinstance(X, Modalities | Mapping) or not (frame or getattr(X, "ndim", 0) == 2):
        found = f"has the shape {tuple(X.shape)}" if getattr(X, "shape", None) is not None else f"is a {_kind(X)}"
        raise PaSEError(
            "columns divides a data frame or an array of shape (samples, features) into modalities, but X "
            f"{'is a ' + _kind(X) if isinstance(X, Modalities | Mapping) else found}; leave columns out."
        )
    if is_sparse(X):
        X = X.tocsc()
    parts, taken = {}, dict[int, str]()
    for name, chosen in columns.items():
        numbers = _numbers(X, str(name), chosen, frame=frame)
        for number in numbers:
            if number in taken:
                column = X.columns[number] if frame else number
                raise PaSEError(
                    f"The column {column!r} belongs to the modalities {taken[number]!r} and {name!r}; to one."
                )
            taken[number] = str(name)
        parts[str(name)] = _part(X, str(name), numbers, single=not _several(chosen), frame=frame)
    return Modalities(parts)


def width(X: Any) -> int | None:
    """The number of columns of a data frame or matrix, or of modalities; None where X is neither."""
    if isinstance(X, Mapping):
        return len(X)
    plain = isinstance(X, list | tuple) or (hasattr(X, "__array__") and not hasattr(X, "shape"))
    shape: tuple[int, ...] = np.asarray(X).shape if plain else tuple(getattr(X, "shape", None) or ())
    return int(shape[1]) if len(shape) == 2 else None


def _kind(X: Any) -> str:
    return "mapping of modalities" if isinstance(X, Modalities | Mapping) else type(X).__name__


def _each_column(X: Any) -> dict[str, Any]:
    """A data frame whose columns are modalities. Columns of plain numbers would be labels or ids as likely."""
    if numeric := [
        name for name in X.columns if getattr(X[name].dtype, "kind", "") in "fiub" and X[name].notna().any()
    ]:
        raise PaSEError(
            f"X is a data frame with columns of numbers, such as {numeric[0]!r}: say which modality they belong to, "
            "with columns={'audio': [names, ...], 'text': name}."
        )
    return {str(name): X[name] for name in X.columns}


def _several(chosen: Any) -> bool:
    return not isinstance(chosen, str | int | np.integer)


def _numbers(X: Any, name: str, chosen: Any, *, frame: bool) -> list[int]:
    """The positions of the columns of a modality."""
    count = X.shape[1]
    if not count:
        raise PaSEError(f"X has 0 feature(s) (shape={tuple(X.shape)}) while a minimum of 1 is required.")
    if callable(chosen):  # sklearn.compose.make_column_selector
        if not frame:
            raise PaSEError(f"columns[{name!r}] selects columns of a data frame, but X is a {type(X).__name__}.")
        chosen = list(chosen(X))
    if isinstance(chosen, slice) and not isinstance(chosen.start, str) and not isinstance(chosen.stop, str):
        numbers = list(range(count))[chosen]
    else:
        if isinstance(chosen, slice):  # of names, both ends included as in pandas
            chosen = list(X.columns[X.columns.slice_indexer(chosen.start, chosen.stop)]) if frame else [chosen]
        entries = list(chosen) if _several(chosen) else [chosen]
        if len(entries) == count and all(isinstance(entry, bool | np.bool_) for entry in entries):
            entries = [i for i, entry in enumerate(entries) if entry]
        numbers = [number for entry in entries for number in _position(X, entry, frame=frame)]
        if len(numbers) < len(entries) or any(not 0 <= number < count for number in numbers):
            there = ", ".join(map(str, list(X.columns)[:20])) if frame else f"0 to {count - 1}"
            raise PaSEError(f"columns[{name!r}] names {chosen!r}, but X has the columns {there}; name some of these.")
    if not numbers or (isinstance(chosen, slice) and (chosen.stop or 0) > count):
        raise PaSEError(f"columns[{name!r}] is {chosen!r}, but X has {count} columns; name some of these.")
    return numbers


def _position(X: Any, entry: Any, *, frame: bool) -> list[int]:
    """Where a column is: by its name in a data frame, or by its number."""
    if frame:
        try:
            named = [i for i, column in enumerate(X.columns) if column == entry and type(column) is not bool]
        except (TypeError, ValueError):
            named = []
        if named:
            if len(named) > 1:
                raise PaSEError(f"X has {len(named)} columns {entry!r}; rename them.")
            return named
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool):
        return [int(entry) + (X.shape[1] if entry < 0 else 0)]
    return []


def _part(X: Any, name: str, numbers: list[int], *, single: bool, frame: bool) -> Any:
    """The columns of a modality: a matrix, or the column itself where one holds texts or arrays."""
    if not frame:
        if single and getattr(getattr(X, "dtype", None), "kind", "") in "OUT":
            return X[:, numbers[0]]
        return X[:, numbers]
    if single and not _is_numeric(X.iloc[:, numbers[0]]):
        return X.iloc[:, numbers[0]]
    chosen = X.iloc[:, numbers]
    for column, values in chosen.items():
        if not _is_numeric(values):
            raise PaSEError(
                f"columns[{name!r}] is a list, so its columns must hold numbers, but {column!r} holds {values.dtype}; "
                f"for texts or arrays name it alone: {{{name!r}: {column!r}}}."
            )
    return chosen.to_numpy(dtype=np.float64, na_value=np.nan)


def _is_numeric(values: Any) -> bool:
    """Whether a column of a data frame holds numbers, also those of nullable and object columns."""
    if getattr(values.dtype, "kind", "") in "fiub":
        return True
    return values.dtype == object and to_numpy(values, "X").dtype.kind == "f"


def _count(name: str, part: Any) -> int:
    if isinstance(part, str | bytes | Mapping) or not (hasattr(part, "shape") or hasattr(part, "__len__")):
        raise PaSEError(f"The modality {name!r} must be an array or a list with one entry per sample.")
    shape = getattr(part, "shape", None)
    return int(shape[0]) if shape else len(part)


def _rows(part: Any, numbers: Sequence[int] | np.ndarray[Any, Any]) -> Any:
    """Some samples of a modality, in the container that it came in."""
    if hasattr(part, "iloc"):
        return part.iloc[numbers]
    if hasattr(part, "shape"):
        return part[numbers]
    return [part[int(number)] for number in numbers]
