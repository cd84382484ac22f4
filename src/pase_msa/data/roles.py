"""What a file's parts are taken for: features, labels, ids, lengths, masks, transcripts, or none of these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError

FEATURES, LABELS, LEFT_OVER = "features", "labels", "left over"

# Keys are judged by their words before their content is: labels of shape (n, 1, 1) are no modality.
_WORDS = (
    (LABELS, {"label", "labels", "annotation", "annotations", "target", "targets", "truth", "y", "ys"}),
    ("lengths", {"length", "lengths", "len", "lens", "seqlen", "steps"}),
    ("masks", {"mask", "masks", "masking", "padding"}),
    ("transcripts", {"transcript", "transcripts", "transcription", "sentences", "raw"}),
    ("speakers", {"speaker", "speakers", "spk"}),
)
# these are also words of feature extractors (emotion2vec) and of modalities (video), so that the content decides, too
_WEAK = (
    (LABELS, {"sentiment", "emotion", "emotions", "valence", "arousal", "dominance", "rating", "score", "scores"}),
    ("ids", {"id", "ids", "index", "vid", "video", "videos", "segment", "segments", "name", "names", "utterance"}),
)
_EXACT = {"text_bert": "masks", "input_ids": "masks", "token_ids": "masks", "token_type_ids": "masks"}
_MOST_LABELS = 8  # values per utterance that something called "emotion" has at most if it is a label


def role_of(name: str, value: Any = None) -> str | None:
    """What a key stands for by its words; None if it may be a modality.

    Args:
        name: the key.
        value: its content, [n, ...], which decides about words that labels and feature extractors share.
    """
    lower = name.lower()
    if lower in _EXACT:
        return _EXACT[lower]
    words = set(re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))
    for role, known in _WORDS:
        if words & known:
            return role
    for role, known in _WEAK:
        if words & known and not words & {"feature", "features", "feat", "feats", "embedding", "embeddings", "emb"}:
            if role == "ids":
                if _is_list_of_names(value):
                    return role
            elif value is None or _per_row(value) <= _MOST_LABELS:
                return role
    return None


def _per_row(value: Any) -> int:
    """Numbers per utterance of an array or a list; a large number where it cannot be told."""
    try:
        if isinstance(value, np.ndarray) and value.dtype.kind != "O":
            return int(np.prod(value.shape[1:]))
        return max((int(np.size(row)) for row in list(value)[:64]), default=0)
    except (TypeError, ValueError):
        return 1 << 30


def _is_list_of_names(value: Any) -> bool:
    """Whether the entries are words or single numbers, and not frames."""
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return value.dtype.kind in "SU" or _per_row(value) == 1
    return value is None or _per_row(value) <= 3


@dataclass
class Roles:
    """What was taken for what; `meta["roles"]` of a table, which `pase inspect` prints.

    Attributes:
        found: role -> parts, each with a remark in brackets where there is one.
    """

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, role: str, name: object, about: str = "") -> None:
        """Note a part; where it is noted already, as in another split, it is left."""
        text = f"{name} ({about})" if about else str(name)
        text = "".join(c if c.isprintable() else "?" for c in text[:200])
        entries = self.found.setdefault(role, [])
        if not any(entry.partition(" (")[0] == text.partition(" (")[0] for entry in entries):
            entries.append(text)


class Frames:
    """The features of one modality in one split: row i is [T, D], or None where the utterance lacks it.

    Args:
        name: of the modality.
        rows: an array [n, T, D] or [n, D], or one entry per utterance: an array or list [T, D] or [D], or None.

    Attributes:
        padded: whether all rows have the same steps, so that some of them may be padding.
        dim: feature size D; 0 where no utterance has the modality.

    Errors:
        PaSEError: entries of several sizes, or entries that are no numbers.
    """

    def __init__(self, name: str, rows: Any) -> None:
        self.name, self.rows = name, rows
        self.padded = isinstance(rows, np.ndarray) and rows.ndim == 3
        if isinstance(rows, np.ndarray) and rows.dtype.kind in "fiub":
            self.dim = int(rows.shape[-1])
            return
        self.rows = [self._entry(i, row) for i, row in enumerate(rows)]
        sizes = {row.shape[-1] for row in self.rows if row is not None}
        if len(sizes) > 1:
            raise PaSEError(f"{name!r} has features of the sizes {sorted(sizes)[:5]}; every utterance needs the same.")
        self.dim = int(sizes.pop()) if sizes else 0
        steps = {len(row) for row in self.rows if row is not None and row.ndim == 2}
        # a list of padded arrays is padded, too
        self.padded = len(steps) == 1 and len(self.rows) > 1 and steps != {1}

    def _entry(self, number: int, row: Any) -> Array | None:
        if row is None or (isinstance(row, float) and np.isnan(row)):
            return None
        try:
            frames = np.asarray(row, dtype=None if isinstance(row, np.ndarray) and row.dtype != object else np.float64)
        except (TypeError, ValueError, OverflowError):
            frames = np.asarray("")
        if frames.size == 0 and frames.dtype.kind in "fiub":
            return None
        if frames.dtype.kind not in "fiub" or frames.ndim not in (1, 2):
            raise PaSEError(
                f"{self.name!r} of utterance {number} was to hold frames [steps, size] of numbers, found "
                f"{_about(row)}; mend it."
            )
        return frames

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Array | None:
        frames = self.rows[row]
        return None if frames is None else np.atleast_2d(frames)


def find_features(part: Mapping[Any, Any], count: int, roles: Roles, where: str) -> dict[str, Frames]:
    """The modalities among the parts of a split; everything else is noted.

    Taken are arrays [n, T, D] and [n, D] of real or whole numbers, and lists or object arrays with one array per
    utterance. Not taken is what is called as labels, ids, lengths, masks or transcripts are, whatever its shape.

    Args:
        part: of a split, by key.
        count: n, the number of utterances.
        roles: where what was taken for what is noted.
        where: file and split, for the sentences.

    Errors:
        PaSEError: an array that can only be features has another number of utterances.
    """
    features: dict[str, Frames] = {}
    for key, value in part.items():
        if not isinstance(key, str):
            roles.add(LEFT_OVER, repr(key)[:40], "its name is no text")
        elif (role := role_of(key, value)) is not None:
            roles.add(role, key)
        elif isinstance(value, np.ndarray) and value.ndim == 3 and value.dtype.kind in "fiub" and len(value) != count:
            raise PaSEError(f"{where} has {count} utterances but {len(value)} of {key!r}; write the file again.")
        elif why := _unfit(value, count):
            roles.add(LEFT_OVER, key, why)
        elif not (frames := Frames(key, value)).dim:
            roles.add(LEFT_OVER, key, "it is empty throughout")
        else:
            features[key] = frames
            roles.add(FEATURES, key, f"size {frames.dim}")
    return features


def agree(features: Mapping[str, Mapping[str, Frames]], where: object) -> dict[str, int]:
    """The size of each modality, where it is the same in all splits.

    Errors:
        PaSEError: it is not.
    """
    sizes: dict[str, int] = {}
    for split, modalities in features.items():
        for name, frames in modalities.items():
            if sizes.setdefault(name, frames.dim) != frames.dim:
                raise PaSEError(
                    f"{where}: {name!r} has features of size {frames.dim} in the {split} split and {sizes[name]} in "
                    "another; every utterance needs the same."
                )
    return sizes


def _unfit(value: Any, count: int) -> str:
    """Why a value cannot be features, or nothing."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "fiub":
            if value.ndim not in (2, 3):
                return f"an array of shape {value.shape}"
        elif value.dtype.kind != "O":
            return f"an array of {value.dtype}"
    elif not isinstance(value, list | tuple):
        return f"a {type(value).__name__}"
    if not np.shape(value) if isinstance(value, np.ndarray) else False:
        return "a single value"
    if len(value) != count:
        return f"{len(value)} entries for {count} utterances"
    if not count:
        return "it is empty"
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return ""
    first = next((row for row in value if row is not None and np.size(row)), None)
    if not isinstance(first, np.ndarray | list | tuple):
        return f"entries such as {_about(first)}"
    try:
        numbers = np.asarray(first).dtype.kind in "fiub" and np.ndim(first) in (1, 2)
    except ValueError:
        numbers = False
    return "" if numbers else f"entries such as {_about(first)}"


def _about(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} of {value.dtype}"
    return f"a {type(value).__name__}"
