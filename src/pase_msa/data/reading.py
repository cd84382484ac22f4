"""What the readers of published formats share: padding, ids, splits and names as the files have them."""

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
    """Frames [T, D] without the all-zero ones at both ends; None where no other is left.

    Formats that state no lengths pad with zeros, some in front and some at the end. Zeros between other
    frames stay.
    """
    filled = np.flatnonzero(frames.any(axis=1))
    return frames[filled[0] : filled[-1] + 1] if len(filled) else None


def cut(frames: Array, length: int) -> Array | None:
    """The `length` valid frames of padded ones [T, D]; None where there are none, or nothing but zeros.

    The padding is at the end, or in front where only the last `length` frames hold anything.
    """
    if frames[length:].any() and not frames[: len(frames) - length].any():
        kept = frames[len(frames) - length :]
    else:
        kept = frames[:length]
    return kept if kept.any() else None


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
    seen: dict[str, int] = {}
    result, changed = [], 0
    for item in ids:
        seen[item] = seen.get(item, 0) + 1
        if seen[item] > 1:
            changed += 1
        result.append(item if seen[item] == 1 else f"{item}#{seen[item]}")
    return result, changed


@lru_cache(maxsize=1)
def _remembered(path: Path, changed: int, size: int) -> Any:
    return load_pickle(path)


def recall_pickle(path: Path) -> Any:
    """`load_pickle`, remembering the last file: telling the format and reading it parse a large file once."""
    stat = path.stat()
    return _remembered(path, stat.st_mtime_ns, stat.st_size)


def forget_pickle() -> None:
    """Let go of the file that `recall_pickle` remembers."""
    _remembered.cache_clear()


def pickled_splits(path: Path) -> dict[str, dict[str, Any]]:
    """The splits of a pickled {"train": {...}, "valid": {...}, "test": {...}}; empty if the file is not one.

    Errors:
        PaSEError: the file is a pickle by its name, but refused or damaged.
    """
    if not path.is_file() or path.suffix.lower() not in PICKLES:
        return {}
    content = recall_pickle(path)
    if not isinstance(content, dict):
        return {}
    found = {split_name(name): part for name, part in content.items() if isinstance(part, dict)}
    return {name: part for name, part in found.items() if name is not None}


def frame_arrays(part: dict[str, Any], without: Iterable[str] = ()) -> dict[str, Array]:
    """The real-valued arrays [N, T, D] of a split, by modality."""
    return {
        name: value
        for name, value in part.items()
        if isinstance(value, np.ndarray) and value.ndim == 3 and value.dtype.kind == "f" and name not in without
    }
