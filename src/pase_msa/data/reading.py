"""What the readers of published formats share: how files write padding, ids, splits and names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.unpickle import load_pickle
from pase_msa.errors import PaSEError

PICKLES = (".pkl", ".pickle", ".p")
_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}


def split_name(name: object) -> str | None:
    """Our name of a split ("val" and "dev" are "valid"), or None if it is no split's name."""
    return _SPLITS.get(as_text(name).lower())


def as_text(value: object) -> str:
    """Text from a str, the bytes of a Python 2 file, or a one-element array of either."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def real(value: Any) -> float | None:
    """A label as a number; None where it is unknown (None or NaN)."""
    if value is None:
        return None
    number = float(np.asarray(value, dtype=np.float64).reshape(-1)[0])
    return None if np.isnan(number) else number


def modality_name(name: str) -> str:
    """A modality's name from a file's or a field's; networks allow no full stop in a parameter's name."""
    return re.sub(r"[^\w-]+", "_", name).strip("_")


def strip_zeros(frames: Array) -> Array | None:
    """Frames [T, D] without the all-zero ones at both ends; None if all of them are zero.

    Formats without lengths pad with zeros, some in front and some at the end. All-zero frames between others stay.
    """
    filled = np.flatnonzero(frames.any(axis=1))
    return frames[filled[0] : filled[-1] + 1] if len(filled) else None


def cut(frames: Array, length: int) -> Array | None:
    """The `length` valid frames of padded ones [T, D]; None if there are none, or if all of them are zero.

    The padding is at the end, or in front where only the last `length` frames have values other than zero.
    """
    if frames[length:].any() and not frames[: len(frames) - length].any():
        valid = frames[len(frames) - length :]
    else:
        valid = frames[:length]
    return valid if valid.any() else None


def load_array(file: Path, mmap_mode: Literal["r"] | None = None) -> Array:
    """An array from a `.npy` file, without pickles.

    Errors:
        PaSEError: the file is damaged, empty or holds Python objects.
    """
    try:
        return np.asarray(np.load(file, mmap_mode=mmap_mode, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise PaSEError(f"{file} was to be an array, but {error}; save it with numpy.save.") from error


def unique(ids: Iterable[str]) -> tuple[list[str], int]:
    """Ids with "#2", "#3" ... at later uses of the same one, and how many were changed."""
    uses: dict[str, int] = {}
    result, changed = [], 0
    for item in ids:
        uses[item] = uses.get(item, 0) + 1
        if uses[item] > 1:
            changed += 1
        result.append(item if uses[item] == 1 else f"{item}#{uses[item]}")
    return result, changed


@lru_cache(maxsize=1)
def _cached(path: Path, changed: int, size: int) -> Any:
    return load_pickle(path)


def cached_pickle(path: Path) -> Any:
    """`load_pickle` with a cache of one file, so that recognising a large file and reading it parse it once."""
    stat = path.stat()
    return _cached(path, stat.st_mtime_ns, stat.st_size)


def release_pickle() -> None:
    """Free the memory of the file that `cached_pickle` holds."""
    _cached.cache_clear()


def pickled_splits(path: Path) -> dict[str, dict[str, Any]]:
    """The splits of a pickled {"train": {...}, "valid": {...}, "test": {...}}; empty if the file is not one.

    Errors:
        PaSEError: the file has the name of a pickle, but is refused or damaged.
    """
    if not path.is_file() or path.suffix.lower() not in PICKLES:
        return {}
    content = cached_pickle(path)
    if not isinstance(content, dict):
        return {}
    parts = {split_name(name): part for name, part in content.items() if isinstance(part, dict)}
    return {name: part for name, part in parts.items() if name is not None}


def frame_arrays(part: dict[str, Any], without: Iterable[str] = ()) -> dict[str, Array]:
    """The real-valued arrays [N, T, D] of a split, by modality."""
    return {
        name: value
        for name, value in part.items()
        if isinstance(value, np.ndarray) and value.ndim == 3 and value.dtype.kind == "f" and name not in without
    }
