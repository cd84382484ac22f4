"""The pickles of MAG-BERT, MISA and MMIM: `mosi.pkl`, `mosei.pkl`, one tuple per utterance.

`{"train", "dev", "test"}`, each a list of ((words, vision, audio, ...), label) or ((words, vision, audio, ...), label,
segment), where vision [T, Dv] and audio [T, Da] have one row per word, `segment` is an id such as "video[3]" or
"video_3", and a fourth entry may hold the words themselves where the first holds their numbers in a dictionary.

The table: modalities `vision` and `audio`, in the order of the files; the words are the text, without such as "sp" that
stand for no word. Numbers of words are no features: their vectors are in another file. A label of one value is the real
label `sentiment`; one of seven (MOSEI) is `sentiment`, `happy`, `sad`, `anger`, `surprise`, `disgust` and `fear`.
Without `segment` (MISA) each utterance is a video of its own, so that no overlap between splits can be seen; the notes
say so. `meta["roles"]` says what was taken for what.

Source: Rahman et al. 2020, https://github.com/WasifurRahman/BERT_multimodal_transformer; Hazarika et al. 2020,
https://github.com/declare-lab/MISA.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.reading import (
    NO_WORDS,
    PICKLES,
    as_text,
    cached_pickle,
    cut,
    left_over_parts,
    number_array,
    real,
    release_pickle,
    split_name,
    strip_zeros,
    transcript,
    unique,
)
from pase_msa.data.roles import FEATURES, LABELS, LEFT_OVER, Roles
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError

_MODALITIES = ("vision", "audio")  # places 1 and 2 of the inner tuple
_EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")  # of MOSEI, behind the sentiment


def sniff(path: Path) -> bool:
    """Whether `path` is a pickle of this format (a pickle that is refused raises PaSEError)."""
    return any(rows and _is_row(rows[0]) for rows in _splits(path).values())


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The file as a feature table, in memory or streamed to `out`."""
    if not sniff(path):
        raise PaSEError(
            f"{path} was to be a pickle of splits, each a list of ((words, vision, audio), label, segment), found "
            "another structure; name another format."
        )
    splits = {split: [_row(path, split, i, row) for i, row in enumerate(rows)] for split, rows in _splits(path).items()}
    rows = [row for part in splits.values() for row in part]
    sizes = {name: _size(path, rows, place) for place, name in enumerate(_MODALITIES, 1)}
    several = max(len(_values(row[1])) for row in rows) > 1
    labels = ("sentiment", *_EMOTIONS) if several else ("sentiment",)
    spoken = any(_said(row[0]) for row in rows)
    schema = Schema(sizes, dict.fromkeys(labels, "real"), spoken)
    roles = Roles()
    if all(len(row) > 2 for row in rows):
        roles.add("ids", "the segment")
    roles.add(LABELS, f"the label ({len(labels)} values)")
    roles.add("transcripts" if spoken else LEFT_OVER, "the words", "" if spoken else "numbers of a dictionary")
    for place, name in enumerate(_MODALITIES, 1):
        roles.add(FEATURES, f"entry {place + 1} (as {name}, size {sizes[name]})")
    for name in left_over_parts(path):
        roles.add(LEFT_OVER, name, "no split is called so, or it is no list of utterances")
    named = [_name(split, i, row) for split, part in splits.items() for i, row in enumerate(part)]
    ids, changed = unique(name for name, _ in named)
    notes = [f"{changed} ids stood there more than once and got a number."] if changed else []
    if any(len(row) < 3 for row in rows):
        notes.append("Utterances without a segment count as a video of their own.")
    meta = {"format": "mag_bert", "source": path.name, "notes": notes, "roles": roles.found}
    videos = iter([video for _, video in named])
    try:
        return FeatureTable.build(_utterances(path, splits, iter(ids), videos, schema), schema, path=out, meta=meta)
    finally:
        release_pickle()


def _splits(path: Path) -> dict[str, list[Any]]:
    """The lists of utterances by split; empty if the file is no pickle of such."""
    if not path.is_file() or path.suffix.lower() not in PICKLES:
        return {}
    content = cached_pickle(path)
    if not isinstance(content, dict):
        return {}
    found = [(split_name(key), part) for key, part in content.items() if isinstance(part, list | tuple) and len(part)]
    names = [name for name, _ in found if name is not None]
    if len(set(names)) < len(names) and any(_is_row(part[0]) for _, part in found):
        raise PaSEError(f"{path} has two parts that are one split ({list(content)[:20]}); leave one of them.")
    return {name: list(part) for name, part in found if name is not None}


def _is_row(row: Any) -> bool:
    """Whether this is ((words, vision, audio, ...), label, ...)."""
    return (
        isinstance(row, list | tuple)
        and len(row) in (2, 3)
        and isinstance(row[0], list | tuple)
        and len(row[0]) >= 1 + len(_MODALITIES)
        and all(isinstance(part, np.ndarray | list | tuple) for part in row[0][: 1 + len(_MODALITIES)])
    )


def _row(path: Path, split: str, number: int, row: Any) -> Any:
    if not _is_row(row):
        raise PaSEError(
            f"{path}: entry {number} of the {split} split was to be ((words, vision, audio), label, segment), found "
            "another structure; write the file again."
        )
    return row


def _name(split: str, number: int, row: Any) -> tuple[str, str]:
    """Id and video of an utterance: "video[3]" and "video_3" are of "video"."""
    if len(row) < 3:
        return f"{split}_{number}", f"{split}_{number}"
    segment = row[2]
    if isinstance(segment, list | tuple) and len(segment):
        segment = segment[0]
    name = as_text(segment)
    if name.endswith("]") and "[" in name:
        return name, name[: name.rindex("[")]
    video, _, clip = name.rpartition("_")
    return name, video if clip.isdigit() and video else name


def _size(path: Path, rows: list[Any], place: int) -> int:
    for row in rows:
        frames = number_array(row[0][place])
        if frames is not None and frames.ndim == 2 and frames.size:
            return int(frames.shape[1])
    raise PaSEError(f"{path}: no utterance has {_MODALITIES[place - 1]} of shape (words, size); write the file again.")


def _said(parts: Any) -> list[str]:
    """The words of an utterance that somebody said; none where the file has their numbers only."""
    for words in (parts[0], *parts[3:4]):
        if isinstance(words, list | tuple | np.ndarray) and len(words):
            flat = words.reshape(-1).tolist() if isinstance(words, np.ndarray) else list(words)
            if all(isinstance(word, str | bytes) for word in flat):
                return [text for word in flat if (text := as_text(word)).strip().lower() not in NO_WORDS]
    return []


def _utterances(
    path: Path, splits: dict[str, list[Any]], ids: Iterator[str], videos: Iterator[str], schema: Schema
) -> Iterator[Utterance]:
    for split, rows in splits.items():
        for row in rows:
            name, video = next(ids), next(videos)
            frames = {
                modality: _frames(path, modality, row[0], place, schema.modalities[modality], name)
                for place, modality in enumerate(_MODALITIES, 1)
            }
            text = transcript(" ".join(_said(row[0]))) if schema.text else None
            yield Utterance(name, video, split, _labels(path, row[1], list(schema.labels), name), frames, text)


def _values(label: Any) -> list[Any]:
    """The values of a label: a number, or an array or list of them."""
    array = number_array(label)
    return [label] if array is None else list(array.reshape(-1).tolist())


def _labels(path: Path, label: Any, names: list[str], where: str) -> dict[str, Any]:
    values = _values(label)
    if len(values) != len(names):
        raise PaSEError(
            f"{path}: the label of {where!r} was to be {len(names)} values ({', '.join(names)}), found {len(values)}; "
            "write the file again."
        )
    return {name: real(value, f"{name} of {where!r}") for name, value in zip(names, values, strict=True)}


def _frames(path: Path, modality: str, parts: Any, place: int, size: int, where: str) -> Array | None:
    frames = number_array(parts[place])
    if frames is not None and not frames.size:
        return None
    if frames is None or frames.ndim != 2 or frames.shape[1] != size:
        found = f"a {type(parts[place]).__name__}" if frames is None else f"an array of shape {frames.shape}"
        raise PaSEError(
            f"{path}: {modality} of {where!r} was to be rows of {size} numbers, found {found}; write the file again."
        )
    length = parts[3 + place] if len(parts) > 3 + place else None  # places 4 and 5: lengths of vision and audio
    if isinstance(length, int | np.integer) and 0 <= length <= len(frames):
        return cut(frames, int(length))
    return strip_zeros(frames)
