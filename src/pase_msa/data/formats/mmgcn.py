"""The pickles of conversations of bc-LSTM, DialogueRNN and MMGCN: `IEMOCAP_features_raw.pkl`, `MELD_features.pkl`.

A list or tuple of seven parts or more: utterance ids, speakers and labels, each a dict by conversation; features, a
vector or frames [T, D] per utterance, in any number of such dicts; sentences; then the training and the test
conversations, each a set or a list; and in MELD's files a dict of labels of a second kind behind them.

The table: features are `text`, `audio` and `vision` in this order where there are two or three of them, as all known
files have it, and `features_1`, `features_2` ... where there are more. Labels are the class `emotion`, named for 6 of
them (happy, sad, neutral, angry, excited, frustrated) and else by number; -1 is an unknown class. Labels of the second
kind are the class `sentiment`. Sentences are the text. Speakers are kept. The files define no valid split; the
notes say so. `meta["roles"]` says what was taken for what.

Source: Majumder et al. 2019, https://github.com/declare-lab/conv-emotion; Hu et al. 2021, https://github.com/hujingwen6666/MMGCN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.reading import (
    PICKLES,
    as_text,
    cached_pickle,
    class_names,
    is_scalar,
    number_array,
    release_pickle,
    speaker_of,
    splits_of_sets,
    strip_zeros,
    transcript,
    unique,
)
from pase_msa.data.roles import FEATURES, LABELS, LEFT_OVER, Roles
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError

_LEAST = 7  # ids, speakers, labels, one kind of features, sentences, two sets
_NAMES = {1: ("text",), 2: ("text", "audio"), 3: ("text", "audio", "vision")}
_LABELS = ("emotion", "sentiment")


@dataclass
class _Content:
    """The parts of a file by what they are; `numbers` are their places, for the roles."""

    ids: dict[Any, Any]
    speakers: dict[Any, Any]
    labels: list[dict[Any, Any]] = field(default_factory=list)
    features: list[dict[Any, Any]] = field(default_factory=list)
    sentences: dict[Any, Any] | None = None
    sets: list[Any] = field(default_factory=list)
    numbers: dict[str, list[int]] = field(default_factory=dict)


def sniff(path: Path) -> bool:
    """Whether `path` is a pickle of this layout (a pickle that is refused raises PaSEError)."""
    return _content(path) is not None


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The file as a feature table, in memory or streamed to `out`."""
    content = _content(path)
    if content is None:
        raise PaSEError(
            f"{path} was to be a pickled list of ids, speakers, labels, features, sentences, training and test "
            "conversations, found another structure; name another format."
        )
    split_of = splits_of_sets(path, dict(zip(("train", "test"), content.sets, strict=True)))
    count = len(content.features)
    names = _NAMES.get(count, tuple(f"features_{k + 1}" for k in range(count)))
    sizes = {name: _size(path, name, part, content.ids) for name, part in zip(names, content.features, strict=True)}
    classes: dict[str, dict[Any, str | None]] = {}
    for name, part in zip(_LABELS, content.labels, strict=False):
        values = [value for video in content.ids for value in _of(path, part, video, content.ids)]
        if (named := class_names(path, values)) is None:
            raise PaSEError(f"{path}: labels were to be whole numbers from 0, or -1 for none; write the file again.")
        classes[name] = named
    known = any(speaker_of(content.speakers, v, i) for v in content.ids for i in range(len(content.ids[v])))
    schema = Schema(sizes, dict.fromkeys(classes, "class"), content.sentences is not None, known)
    notes = ["The data define no valid split; take one from the training conversations."]
    if left := sum(video not in split_of for video in content.ids):
        notes.append(f"{left} conversations are in no split.")
    flat = [as_text(name) for video in content.ids for name in content.ids[video]]
    ids, changed = unique(flat)
    if changed:
        notes.append(f"{changed} ids stood there more than once and got a number.")
    meta = {"format": "mmgcn", "source": path.name, "notes": notes, "roles": _roles(content, schema)}
    try:
        return FeatureTable.build(
            _utterances(path, content, iter(ids), split_of, sizes, classes), schema, path=out, meta=meta
        )
    finally:
        release_pickle()


def _content(path: Path) -> _Content | None:
    """The parts of the pickle, or None where it is none of these."""
    if not path.is_file() or path.suffix.lower() not in PICKLES:
        return None
    content = cached_pickle(path)
    if not isinstance(content, list | tuple) or len(content) < _LEAST:
        return None
    if not all(isinstance(part, dict) and part for part in content[:3]):
        return None
    found = _Content(content[0], content[1])
    found.numbers = {"ids": [0], "speakers": [1]}
    for number, part in list(enumerate(content))[2:]:
        kind = "sets" if isinstance(part, set | frozenset | list | tuple) else _kind(part, content[0])
        found.numbers.setdefault(kind, []).append(number)
        if kind == "labels":
            found.labels.append(part)
        elif kind == "features":
            found.features.append(part)
        elif kind == "sentences" and found.sentences is None:
            found.sentences = part
        elif kind == "sets":
            found.sets.append(part)
    return found if len(found.sets) == 2 and found.labels and found.features and found.ids else None


def _kind(part: Any, ids: dict[Any, Any]) -> str:
    """What a dict by conversation holds, by its first entry that is there."""
    if not isinstance(part, dict):
        return LEFT_OVER
    for video in ids:
        values = part.get(video)
        if not isinstance(values, list | tuple | np.ndarray) or not len(values):
            continue
        if isinstance(values[0], str | bytes):
            return "sentences"
        if is_scalar(values[0]):
            return "labels" if isinstance(values[0], int | np.integer) else LEFT_OVER
        return LEFT_OVER if number_array(values[0]) is None else "features"
    return LEFT_OVER


def _roles(content: _Content, schema: Schema) -> dict[str, list[str]]:
    """What each part was taken for."""
    roles = Roles()
    for kind, numbers in content.numbers.items():
        for place, number in enumerate(numbers):
            where = f"part {number + 1} of the pickle"
            if kind == "labels" and place < len(schema.labels):
                roles.add(LABELS, f"{where} (classes, as {list(schema.labels)[place]})")
            elif kind == "features":
                name = list(schema.modalities)[place]
                roles.add(FEATURES, f"{where} (as {name}, size {schema.modalities[name]})")
            elif kind == "sentences":
                roles.add("transcripts" if not place else LEFT_OVER, where)
            elif kind in ("ids", "speakers"):
                roles.add(kind, where)
            elif kind != "sets":
                roles.add(LEFT_OVER, where, "no labels, features or sentences by conversation")
    return roles.found


def _of(path: Path, part: dict[Any, Any], video: Any, ids: dict[Any, Any]) -> Any:
    """What a part holds of a conversation: one entry per utterance."""
    values, names = part.get(video), ids[video]
    if not isinstance(values, list | tuple | np.ndarray) or len(values) != len(names):
        found = "none" if values is None else len(values) if hasattr(values, "__len__") else type(values).__name__
        raise PaSEError(
            f"{path}: conversation {as_text(video)!r} has {len(names)} utterances, but a part of the file holds "
            f"{found} for it; write the file again."
        )
    return values


def _size(path: Path, name: str, part: dict[Any, Any], ids: dict[Any, Any]) -> int:
    for video in ids:
        for value in _of(path, part, video, ids):
            if (array := number_array(value)) is not None and array.ndim and array.size:
                return int(array.shape[-1])
    raise PaSEError(f"{path}: the part that was taken for {name} is empty for all utterances; write the file again.")


def _utterances(
    path: Path,
    content: _Content,
    ids: Iterator[str],
    split_of: dict[Any, str],
    sizes: dict[str, int],
    classes: dict[str, dict[Any, str | None]],
) -> Iterator[Utterance]:
    for video, names in content.ids.items():
        parts = {name: _of(path, part, video, content.ids) for name, part in zip(sizes, content.features, strict=True)}
        labels = {
            name: _of(path, part, video, content.ids) for name, part in zip(classes, content.labels, strict=False)
        }
        said = None if content.sentences is None else _of(path, content.sentences, video, content.ids)
        for i in range(len(names)):
            frames = {name: _frames(path, name, part[i], sizes[name], names[i]) for name, part in parts.items()}
            label = {name: classes[name][np.asarray(values[i]).item()] for name, values in labels.items()}
            text = None if said is None else transcript(said[i])
            speaker = speaker_of(content.speakers, video, i)
            yield Utterance(next(ids), as_text(video), split_of.get(video, ""), label, frames, text, speaker)


def _frames(path: Path, name: str, value: Any, size: int, where: Any) -> Array | None:
    frames = number_array(value)
    if frames is not None and not frames.size:
        return None
    if frames is None or frames.ndim not in (1, 2) or frames.shape[-1] != size:
        found = f"a {type(value).__name__}" if frames is None else f"an array of shape {frames.shape}"
        raise PaSEError(
            f"{path}: {name} of {as_text(where)!r} was to be {size} numbers, or frames of so many, found {found}; "
            "write the file again."
        )
    return strip_zeros(np.atleast_2d(frames))
