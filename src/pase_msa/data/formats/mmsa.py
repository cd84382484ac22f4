"""MMSA pickles, aligned and unaligned (MOSI, MOSEI, CH-SIMS), as MMSA and MMSA-FET write them.

`{"train", "valid", "test"}`, each a dict with `id` ("video$_$clip"), `raw_text`, `regression_labels` [N],
features [N, L, D] under the modality's name, and optionally `annotations`, `text_bert` [N, 3, L] (token
ids, attention mask, segment ids), `NAME_lengths` [N] and `regression_labels_T`, `_A`, `_V`.

The table: every real array [N, L, D] is a modality of its own name (`text` is the BERT features);
labels `sentiment`, `sentiment_T` ..., and the class `annotation`. Padding is cut off by `NAME_lengths`;
without it, by the attention mask (aligned files: each modality has one step per token); without either,
all-zero frames at both ends are padding. An utterance with only zeros lacks the modality.
Infinite values stay. The deprecated `classification_labels` are left out.

Source: Yu et al. 2021, https://github.com/thuiar/MMSA.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.reading import (
    as_text,
    cut,
    frame_arrays,
    pickled_splits,
    real,
    release_pickle,
    strip_zeros,
    unique,
)
from pase_msa.data.table import FeatureTable, LabelKind, Schema, Utterance
from pase_msa.errors import PaSEError

_LABELS = "regression_labels"


def sniff(path: Path) -> bool:
    """Whether `path` is a pickle of this format (a pickle that is refused raises PaSEError)."""
    return any(_LABELS in part for part in pickled_splits(path).values())


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The file as a feature table, in memory or streamed to `out`."""
    splits = pickled_splits(path)
    if not any(_LABELS in part for part in splits.values()):
        raise PaSEError(
            f"{path} was to be an MMSA pickle with {_LABELS!r} in each split, found the splits {list(splits)}; "
            "name another format."
        )
    schema = Schema({}, {}, any("raw_text" in part for part in splits.values()))
    for part in splits.values():
        schema.modalities.update({name: value.shape[2] for name, value in frame_arrays(part, ["text_bert"]).items()})
        schema.labels.update(_label_kinds(part))
    ids = {split: [as_text(item) for item in _ids(path, split, part)] for split, part in splits.items()}
    flat, changed = unique(item for part in ids.values() for item in part)
    notes = [f"{changed} ids stood there more than once and got a number."] if changed else []
    rows = _utterances(path, splits, iter(flat))
    try:
        meta = {"format": "mmsa", "source": path.name, "notes": notes}
        return FeatureTable.build(rows, schema, path=out, meta=meta)
    finally:
        release_pickle()


def _ids(path: Path, split: str, part: dict[str, Any]) -> Any:
    if "id" not in part or len(part["id"]) != len(part.get(_LABELS, ())):
        raise PaSEError(
            f"{path}: the {split} split needs an 'id' and a 'regression_labels' per utterance, found "
            f"{len(part.get('id', ()))} and {len(part.get(_LABELS, ()))}; write the file again."
        )
    return part["id"]


def _label_kinds(part: dict[str, Any]) -> dict[str, LabelKind]:
    kinds: dict[str, LabelKind] = dict.fromkeys(_columns(part), "real")
    if "annotations" in part:
        kinds["annotation"] = "class"
    return kinds


def _columns(part: dict[str, Any]) -> dict[str, str]:
    """Our label -> the file's key."""
    return {"sentiment" + key.removeprefix(_LABELS): key for key in part if key.startswith(_LABELS)}


def _utterances(path: Path, splits: dict[str, dict[str, Any]], ids: Iterator[str]) -> Iterator[Utterance]:
    for split, part in splits.items():
        count = len(part["id"])
        arrays = frame_arrays(part, ["text_bert"])
        lengths = {name: _lengths(part, name, value) for name, value in arrays.items()}
        columns = _columns(part)
        for name, content in [*arrays.items(), *((key, part[key]) for key in columns.values())]:
            if len(content) != count:
                raise PaSEError(
                    f"{path}: the {split} split has {count} ids but {len(content)} of {name!r}; write the file again."
                )
        for i in range(count):
            labels: dict[str, float | str | None] = {name: real(part[key][i]) for name, key in columns.items()}
            if "annotations" in part:
                labels["annotation"] = as_text(part["annotations"][i]) or None
            features = {name: _frames(value[i], lengths[name], i) for name, value in arrays.items()}
            text = as_text(part["raw_text"][i]) if "raw_text" in part else None
            video = as_text(part["id"][i]).split("$_$")[0]
            yield Utterance(next(ids), video, split, labels, features, text)


def _lengths(part: dict[str, Any], name: str, frames: Array) -> Array | None:
    if f"{name}_lengths" in part:
        return np.asarray(part[f"{name}_lengths"], dtype=np.int64).reshape(-1)
    mask = part.get("text_bert")
    if isinstance(mask, np.ndarray) and mask.ndim == 3 and mask.shape[1:] == (3, frames.shape[1]):
        return np.asarray(mask[:, 1].sum(axis=1), dtype=np.int64)
    return None


def _frames(frames: Array, lengths: Array | None, row: int) -> Array | None:
    return strip_zeros(frames) if lengths is None else cut(frames, int(lengths[row]))
