"""MMSA pickles, aligned and unaligned (MOSI, MOSEI, CH-SIMS), as MMSA and MMSA-FET write them.

`{"train", "valid", "test"}`, each a dict with `id` ("video$_$clip"), `raw_text`, `regression_labels` [N],
features [N, L, D] under the modality's name, and optionally `annotations`, `text_bert` [N, 3, L] (token
ids, attention mask, segment ids), `NAME_lengths` [N] and `regression_labels_T`, `_A`, `_V`.

The table: every array [N, L, D] or [N, D] of numbers, and every list of one array per utterance, is a modality of its
own name (`text` is the BERT features), unless it is called as labels, ids, lengths or masks are. Labels are
`sentiment`, `sentiment_T` ..., and the class `annotation`. Padding is cut off by `NAME_lengths`; without it, by the
attention mask (aligned files: each modality has one step per token); without either, all-zero frames at both ends are
padding. An utterance with only zeros lacks the modality. `meta["roles"]` says what was taken for what.
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
    column,
    cut,
    left_over_parts,
    pickled_splits,
    real,
    release_pickle,
    strip_zeros,
    transcript,
    unique,
)
from pase_msa.data.roles import LEFT_OVER, Frames, Roles, agree, find_features
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
            f"{path} was to be an MMSA pickle with {_LABELS!r} a split, found the splits {list(splits)}; "
            "name another format."
        )
    schema = Schema({}, {}, any("raw_text" in part for part in splits.values()))
    roles = Roles()
    roles.add("ids", "id")
    ids = {split: [as_text(item) for item in _ids(path, split, part)] for split, part in splits.items()}
    features = {
        split: find_features(part, len(ids[split]), roles, f"{path}: the {split} split")
        for split, part in splits.items()
    }
    schema.modalities.update(agree(features, path))
    for part in splits.values():
        schema.labels.update(_label_kinds(part))
    for name in left_over_parts(path):
        roles.add(LEFT_OVER, name, "no split is called so")
    if any("raw_text" in part for part in splits.values()):
        roles.add("transcripts", "raw_text")
    flat, changed = unique(item for part in ids.values() for item in part)
    notes = [f"{changed} ids stood there more than once and got a number."] if changed else []
    rows = _utterances(path, splits, features, iter(flat))
    try:
        meta = {"format": "mmsa", "source": path.name, "notes": notes, "roles": roles.found}
        return FeatureTable.build(rows, schema, path=out, meta=meta)
    finally:
        release_pickle()


def _ids(path: Path, split: str, part: dict[str, Any]) -> Any:
    labels = part.get(_LABELS)
    count = len(labels) if labels is not None and np.ndim(labels) else 0
    if "id" not in part or not count:
        raise PaSEError(
            f"{path}: the {split} split needs 'id' and 'regression_labels' with one entry per utterance, found "
            f"{', '.join(map(repr, list(part)[:20])) or 'nothing'}; write the file again."
        )
    return column(part, "id", count, f"{path}: the {split} split")


def _label_kinds(part: dict[str, Any]) -> dict[str, LabelKind]:
    kinds: dict[str, LabelKind] = dict.fromkeys(_columns(part), "real")
    if "annotations" in part:
        kinds["annotation"] = "class"
    return kinds


def _columns(part: dict[str, Any]) -> dict[str, str]:
    """Our label -> the file's key."""
    return {"sentiment" + key.removeprefix(_LABELS): key for key in part if key.startswith(_LABELS)}


def _utterances(
    path: Path, splits: dict[str, dict[str, Any]], features: dict[str, dict[str, Frames]], ids: Iterator[str]
) -> Iterator[Utterance]:
    for split, part in splits.items():
        count, where = len(part["id"]), f"{path}: the {split} split"
        arrays = features[split]
        lengths = {name: _lengths(part, name, frames, count, where) for name, frames in arrays.items()}
        columns = {name: column(part, key, count, where) for name, key in _columns(part).items()}
        words = {key: column(part, key, count, where) for key in ("annotations", "raw_text") if key in part}
        for i in range(count):
            identity = as_text(part["id"][i])
            labels: dict[str, float | str | None] = {
                name: real(values[i], f"{where}: {name!r} of {identity!r}") for name, values in columns.items()
            }
            if "annotations" in words:
                labels["annotation"] = transcript(words["annotations"][i])
            rows = {name: _frames(frames[i], lengths[name], i) for name, frames in arrays.items()}
            text = transcript(words["raw_text"][i]) if "raw_text" in words else None
            yield Utterance(next(ids), identity.split("$_$")[0], split, labels, rows, text)


def _lengths(part: dict[str, Any], name: str, frames: Frames, count: int, where: str) -> Array | None:
    """Valid steps of each utterance, if the file states them; entries of their own lengths need none."""
    if not frames.padded:
        return None
    if f"{name}_lengths" in part:
        stated = column(part, f"{name}_lengths", count, where)
        try:
            return np.asarray(stated, dtype=np.float64).astype(np.int64).reshape(count)
        except (TypeError, ValueError):
            raise PaSEError(f"{where}: {name}_lengths was to hold whole numbers; write the file again.") from None
    mask = part.get("text_bert")
    if isinstance(mask, np.ndarray) and mask.ndim == 3 and mask.shape == (count, 3, frames.rows.shape[1]):
        return np.asarray(mask[:, 1].sum(axis=1), dtype=np.int64)
    return None


def _frames(frames: Array | None, lengths: Array | None, row: int) -> Array | None:
    if frames is None:
        return None
    return strip_zeros(frames) if lengths is None else cut(frames, int(np.clip(lengths[row], 0, len(frames))))
