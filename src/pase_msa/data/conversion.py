"""What users hold their numbers in, as NumPy arrays: tensors, sparse matrices, pandas columns, masked arrays."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pase_msa.errors import PaSEError

_MOST_DENSE = 8_000_000_000  # bytes of float32; a table holds every number, so that a wide sparse matrix does not fit


def to_numpy(value: Any, name: str, *, objects: bool = False) -> NDArray[Any]:
    """An array of the same numbers; what is missing becomes NaN where the others are numbers.

    Args:
        value: array, tensor of any precision, sparse matrix, pandas or Arrow column, or nested lists.
        name: of the value in error sentences, such as "X['audio']".
        objects: leave an array of objects as it is; else it becomes numbers where all that is not missing is a number.

    Errors:
        PaSEError: parts differ in size, or a sparse matrix is too large to be held dense.
    """
    if hasattr(value, "detach"):
        value = _tensor(value)
    elif is_sparse(value):
        if value.shape[0] * value.shape[-1] * 4 > _MOST_DENSE:
            raise PaSEError(
                f"{name} is a sparse matrix of {value.shape[0]} x {value.shape[-1]} numbers, too many to be held "
                "dense; reduce its columns first, for example with sklearn.decomposition.TruncatedSVD."
            )
        value = value.toarray()
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.ma.MaskedArray):
        value = np.where(np.ma.getmaskarray(value), np.nan, value.data)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise PaSEError(f"{name} must be one array, but its parts differ in size.") from error
    if array.dtype.kind == "V" and array.dtype.names is None:  # bfloat16 and its like from ml_dtypes and JAX
        try:
            return array.astype(np.float32)
        except (TypeError, ValueError):
            return array
    return array if objects else numbers_of(array)


def is_missing(value: Any) -> bool:
    """Whether an entry says that there is nothing: None, NaN, pd.NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    # any one number that is unlike itself: Python's, NumPy's, a tensor without dimension
    return getattr(value, "shape", ()) == () and isinstance(value, float | np.generic) and bool(value != value)


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix or array of SciPy."""
    return hasattr(value, "toarray") and hasattr(value, "tocsr")


def _tensor(value: Any) -> Any:
    value = value.detach().cpu()
    if getattr(value, "layout", None) is not None and str(value.layout) != "torch.strided":
        value = value.to_dense()
    if getattr(value, "is_quantized", False):
        value = value.dequantize()
    if value.dtype.is_floating_point and value.dtype.itemsize < 4:  # NumPy has no bfloat16 and no float8
        value = value.float()
    return value.resolve_conj().resolve_neg()


def numbers_of(array: NDArray[Any]) -> NDArray[Any]:
    """An array of objects as numbers, where all that is not missing is a number; any other array as it is."""
    if array.dtype.kind != "O":
        return array
    flat = array.ravel()
    missing = np.fromiter((is_missing(entry) for entry in flat), bool, len(flat))
    if not len(flat) or missing.all() or any(not _is_number(entry) for entry in flat[~missing]):
        return array
    result = np.full(len(flat), np.nan)
    result[~missing] = [float(entry) for entry in flat[~missing]]
    return result.reshape(array.shape)


def _is_number(entry: Any) -> bool:
    return isinstance(entry, Real | np.bool_) and not isinstance(entry, np.datetime64 | np.timedelta64)
