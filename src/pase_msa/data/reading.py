"""What the readers of published formats share: how files write padding, ids, splits and names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.unpickle import load_pickle
from pase_msa.errors import PaSEError

PICKLES = (".pkl", ".pickle", ".p")
_SPLITS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("valid", "val", "dev", "validation", "development", "devel", "eval"), "valid"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
#: how tables write a value that is not there
UNKNOWN = frozenset(
    {"", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "null", "none", "nil", "unknown", "missing", "-", "--", "?"}
)
_WORDS = {"unknown", "missing", "nil"}  # which somebody may say
_EMOTIONS = ("happy", "sad", "neutral", "angry", "excited", "frustrated")  # of IEMOCAP, in the order of all its files
_MOST_CLASSES = 100
#: what transcripts of published files hold in place of a word
NO_WORDS = frozenset({"sp", "nw", "sil", "<sil>", "[sil]", "<unk>", "[unk]", "<pad>", "[pad]", ""})


def split_name(name: object) -> str | None:
    """Our name of a split ("val" and "dev" are "valid"), or None if it is no split's name."""
    return _SPLITS.get(as_text(name).strip().lower()) if isinstance(name, str | bytes) else None


def as_text(value: object) -> str:
    """Text from a str, the bytes of a Python 2 file, a number, or a one-element array of one of these.

    Errors:
        PaSEError: anything else, such as a list, which has no text of its own.
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, str | int | float | np.generic):
        return str(value)
    raise PaSEError(f"Text or a number was wanted, found a {type(value).__name__}; write the file again.")


def transcript(value: object) -> str | None:
    """The text of an utterance; None where there is none (None, NaN, "NA", only white space)."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return None
    text = as_text(value)
    return None if text.strip().lower() in UNKNOWN - _WORDS else text


def real(value: Any, what: str = "A label") -> float | None:
    """A label as a number; None where it is unknown (None, NaN, blank, "NA").

    Args:
        value: a number, its text, or an array of one.
        what: is read, for the sentence: "'sentiment' of 'video$_$3'".

    Errors:
        PaSEError: it is no number.
    """
    if isinstance(value, np.ndarray | list | tuple):
        flat = np.asarray(value, dtype=object).reshape(-1)
        if flat.size != 1:
            raise PaSEError(f"{what} was to be one number, found {flat.size} values; mend it.")
        value = flat[0]
    if value is None:
        return None
    if isinstance(value, str | bytes):
        text = as_text(value).strip()
        if text.lower() in UNKNOWN:
            return None
        value = text
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise PaSEError(f"{what} was to be a number, found {str(value)[:60]!r}; mend it.") from None
    return None if np.isnan(number) else number


def column(part: Mapping[Any, Any], key: str, count: int, where: str) -> Any:
    """A part of a split with one entry per utterance.

    Args:
        part: the split.
        key: of the part.
        count: of utterances.
        where: file and split, for the sentence.

    Errors:
        PaSEError: it has no entries, or another number of them.
    """
    value = part[key]
    listed = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    if not listed or len(value) != count:
        found = len(value) if listed else f"a {type(value).__name__}"
        raise PaSEError(f"{where} has {count} utterances, but {key!r} holds {found}; write the file again.")
    return value


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
    parts: dict[str, dict[str, Any]] = {}
    for key, part in content.items():
        name = split_name(key)
        if name is None or not isinstance(part, dict):
            continue
        if name in parts:
            raise PaSEError(f"{path} has two parts that are the {name} split ({list(content)}); leave one of them.")
        parts[name] = part
    return parts


def left_over_parts(path: Path) -> list[str]:
    """The keys of a pickle of splits that name no split, such as "trainval"; those who read it are to say so."""
    content = cached_pickle(path)
    return [str(key)[:60] for key in content if split_name(key) is None] if isinstance(content, dict) else []


def is_scalar(value: object) -> bool:
    """Whether a value is a text or a number; hashing or converting what is nested can take for ever."""
    return isinstance(value, str | bytes | Real | np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)


def number_array(value: Any) -> Array | None:
    """An array of numbers from an array, a number, or a list of these, at most two deep; None for anything else."""
    if isinstance(value, list | tuple):
        for part in value:
            inner = part if isinstance(part, list | tuple) else () if isinstance(part, np.ndarray) else (part,)
            if not all(isinstance(number, Real | np.number) for number in inner):
                return None
        try:
            value = np.asarray(value)
        except ValueError:  # of unequal lengths
            return None
    elif not isinstance(value, np.ndarray | Real | np.number):
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "fiub" else None


def speaker_of(speakers: Mapping[Any, Any], video: Any, number: int) -> str | None:
    """Who speaks in an utterance, by lists per video; None where they do not say.

    Args:
        speakers: video -> one name per utterance, or as in MELD's files a vector with a one in the speaker's place.
        video: of the utterance.
        number: of the utterance in the video.
    """
    names = speakers.get(video)
    if not isinstance(names, list | tuple | np.ndarray) or number >= len(names):
        return None
    value = names[number]
    if (vector := number_array(value)) is not None and vector.size > 1:
        places = np.flatnonzero(vector)
        return str(int(places[0])) if len(places) == 1 else None
    return transcript(value)


def splits_of_sets(path: Path, sets: Mapping[str, Iterable[Any]]) -> dict[Any, str]:
    """Video -> split, of a file that lists the videos of each split.

    Errors:
        PaSEError: a video is in two of them, or an entry is no name.
    """
    split_of: dict[Any, str] = {}
    for split, videos in sets.items():
        for video in videos:
            if not is_scalar(video):
                raise PaSEError(
                    f"{path}: the {split} set was to hold names of videos, found a {type(video).__name__}; write the "
                    "file again."
                )
            if split_of.setdefault(video, split) != split:
                raise PaSEError(
                    f"{path}: video {as_text(video)!r} is in the {split_of[video]} and in the {split} set, so results "
                    "would be too good; leave it in one of them."
                )
    return split_of


def class_names(path: Path, values: list[Any]) -> dict[Any, str | None] | None:
    """The class of each label of a file of conversations: words, or whole numbers from 0; -1 is unknown.

    Errors:
        PaSEError: all labels are unknown, too many numbers to be classes, or neither names nor numbers.

    Returns: None where the labels are real scores.
    """
    for value in values:
        if not (value is None or is_scalar(value) or ((held := number_array(value)) is not None and held.size == 1)):
            raise PaSEError(
                f"{path}: labels were to be names or numbers, found a {type(value).__name__}; write the file again."
            )
    array = np.asarray([value if value is None or is_scalar(value) else np.asarray(value).item() for value in values])
    if array.dtype.kind in "SU":
        words = {word: as_text(word).strip() for word in array.tolist()}
        return {word: None if name.lower() in UNKNOWN else name for word, name in words.items()}
    if array.dtype.kind not in "iub" or not array.size:
        return None
    below = set(array[array < 0].tolist())
    if below - {-1}:
        return None  # a score such as -3 to 3
    count = int(array.max()) + 1
    if not count:
        raise PaSEError(f"{path}: all {array.size} labels are -1, which is an unknown class; give labels.")
    if count > _MOST_CLASSES:
        raise PaSEError(
            f"{path}: labels are whole numbers up to {count - 1}, which are no classes; write scores as real numbers."
        )
    names = _EMOTIONS[:count] if count in (4, 6) else tuple(map(str, range(count)))
    return {-1: None, **dict(enumerate(names))}


def describe_pickle(path: Path) -> str:
    """What a pickle holds, for the sentence that refuses it: types, keys and shapes, two levels deep."""
    return _described(cached_pickle(path), 2)


def _described(value: Any, depth: int) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, dict):
        keys = list(value)[:6]
        some = ", ".join(repr(key)[:40] for key in keys) + (" ..." if len(value) > len(keys) else "")
        inner = f", the first with {_described(value[keys[0]], depth - 1)}" if keys and depth else ""
        return f"a dictionary of {len(value)} ({some}){inner}"
    if isinstance(value, list | tuple | set | frozenset):
        inner = f", the first of them {_described(next(iter(value)), depth - 1)}" if value and depth else ""
        return f"a {type(value).__name__} of {len(value)}{inner}"
    return f"a {type(value).__name__}"
