"""MulT pickles: `mosi_data.pkl`, `mosei_senti_data_noalign.pkl`, `iemocap_data.pkl` and their kin.

`{"train", "valid", "test"}`, each a dict with `text` (GloVe), `audio`, `vision` [N, T, D] and `labels`,
mostly with `id` [N, 3] (video, start, end; bytes in the MOSI files).

The table: every array [N, T, D] or [N, D] of numbers, and every list of one array per utterance, is a modality of its
own name, unless it is called as labels, ids, lengths or masks are. Labels of one value per utterance are the real label
`sentiment`. Labels [N, 4, 2] (one-hot pairs) or [N, 4] are IEMOCAP's: real 0/1 labels `neutral`, `happy`, `sad`,
`angry`, and the class `emotion` where exactly one of them is 1, unknown elsewhere. All-zero frames at both ends are
padding; an utterance with only zeros lacks the modality. Infinite values stay. Without `id` (the IEMOCAP files) an
utterance is its own video, so that no overlap between splits can be seen; the notes say so. `meta["roles"]` says what
was taken for what.

Source: Tsai et al. 2019, https://github.com/yaohungt/Multimodal-Transformer.
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
    left_over_parts,
    pickled_splits,
    real,
    release_pickle,
    strip_zeros,
    unique,
)
from pase_msa.data.roles import LEFT_OVER, Frames, Roles, agree, find_features
from pase_msa.data.table import FeatureTable, LabelKind, Schema, Utterance
from pase_msa.errors import PaSEError

EMOTIONS = ("neutral", "happy", "sad", "angry")


def sniff(path: Path) -> bool:
    """Whether `path` is a pickle of this format (a pickle that is refused raises PaSEError)."""
    return any(
        "labels" in part and find_features(part, _count(part), Roles(), str(path))
        for part in pickled_splits(path).values()
    )


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The file as a feature table, in memory or streamed to `out`."""
    if not sniff(path):
        raise PaSEError(
            f"{path} was to be a MulT pickle with 'labels' and arrays (utterances, steps, size) in each split, "
            f"found the splits {list(pickled_splits(path))}; name another format."
        )
    splits = pickled_splits(path)
    schema, roles = Schema({}, {}), Roles()
    notes, names = [], []
    features: dict[str, dict[str, Frames]] = {}
    for split, part in splits.items():
        if "labels" not in part:
            raise PaSEError(
                f"{path}: the {split} split has no 'labels', found {list(part)[:20]}; write the file again."
            )
        features[split] = find_features(part, _count(part), roles, f"{path}: the {split} split")
        schema.labels.update(_kinds(_emotions(path, np.asarray(part["labels"])) is not None))
        names += [name for name, _ in _ids(split, part)]
        if "id" not in part:
            notes.append(f"The {split} split has no ids: each utterance counts as a video of its own.")
    schema.modalities.update(agree(features, path))
    for name in left_over_parts(path):
        roles.add(LEFT_OVER, name, "no split is called so")
    ids, changed = unique(names)
    if changed:
        notes.append(f"{changed} ids stood there more than once and got a number.")
    try:
        meta = {"format": "mult", "source": path.name, "notes": notes, "roles": roles.found}
        return FeatureTable.build(_utterances(path, splits, features, iter(ids)), schema, path=out, meta=meta)
    finally:
        release_pickle()


def _count(part: dict[str, Any]) -> int:
    labels = part["labels"]
    return len(labels) if np.ndim(labels) else 0


def _kinds(emotions: bool) -> dict[str, LabelKind]:
    if not emotions:
        return {"sentiment": "real"}
    return {**dict.fromkeys(EMOTIONS, "real"), "emotion": "class"}


def _emotions(path: Path, labels: Array) -> Array | None:
    """0 or 1 per row and emotion, [N, 4]; None where the labels are a score."""
    if labels.ndim == 3 and labels.shape[1:] == (len(EMOTIONS), 2):
        return np.asarray(labels.argmax(axis=-1))
    if labels.ndim == 2 and labels.shape[1] == len(EMOTIONS):
        return labels
    if labels.size == len(labels):
        return None
    raise PaSEError(
        f"{path} has labels of shape {labels.shape}; readable are (n, 1, 1) for a score and (n, 4, 2) or (n, 4) "
        "for IEMOCAP's emotions: write other labels as utterances.csv, the folder format."
    )


def _ids(split: str, part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Id and video of each utterance."""
    count = _count(part)
    if "id" in part:
        column(part, "id", count, f"The {split} split")
    for i in range(count):
        if "id" not in part:
            yield f"{split}_{i}", f"{split}_{i}"
            continue
        fields = [as_text(field) for field in np.atleast_1d(np.asarray(part["id"][i], dtype=object)).reshape(-1)]
        # some releases number the segment in brackets behind the video, as the CMU SDK does
        yield "_".join(fields), fields[0].split("$_$")[0].split("[")[0]


def _utterances(
    path: Path, splits: dict[str, dict[str, Any]], features: dict[str, dict[str, Frames]], ids: Iterator[str]
) -> Iterator[Utterance]:
    for split, part in splits.items():
        labels = np.asarray(part["labels"])
        emotions = _emotions(path, labels)
        for i, (_, video) in enumerate(_ids(split, part)):
            values = (
                {"sentiment": real(labels[i], f"{path}: a label of the {split} split")}
                if emotions is None
                else _emotion(emotions[i])
            )
            rows = {name: _stripped(frames[i]) for name, frames in features[split].items()}
            yield Utterance(next(ids), video, split, values, rows)


def _stripped(frames: Array | None) -> Array | None:
    return None if frames is None else strip_zeros(frames)


def _emotion(values: Array) -> dict[str, Any]:
    positive = [name for name, value in zip(EMOTIONS, values, strict=True) if value > 0.5]
    one = positive[0] if len(positive) == 1 else None
    return {**{name: float(value) for name, value in zip(EMOTIONS, values, strict=True)}, "emotion": one}
