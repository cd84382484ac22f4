"""MulT pickles: `mosi_data.pkl`, `mosei_senti_data_noalign.pkl`, `iemocap_data.pkl` and their kin.

`{"train", "valid", "test"}`, each a dict with `text` (GloVe), `audio`, `vision` [N, T, D] and `labels`,
mostly with `id` [N, 3] (video, start, end; bytes in the MOSI files).

The table: every real array [N, T, D] is a modality of its own name. Labels of one value per utterance are the
real label `sentiment`. Labels [N, 4, 2] (one-hot pairs) or [N, 4] are IEMOCAP's: real 0/1 labels `neutral`,
`happy`, `sad`, `angry`, and the class `emotion` where exactly one of them is 1, unknown elsewhere. All-zero
frames at both ends are padding; an utterance with only zeros lacks the modality. Infinite values stay. Without
`id` (the IEMOCAP files) an utterance is its own video, so that no overlap between splits can be seen; the notes
say so.

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
    frame_arrays,
    pickled_splits,
    real,
    release_pickle,
    strip_zeros,
    unique,
)
from pase_msa.data.table import FeatureTable, LabelKind, Schema, Utterance
from pase_msa.errors import PaSEError

EMOTIONS = ("neutral", "happy", "sad", "angry")


def sniff(path: Path) -> bool:
    """Whether `path` is a pickle of this format (a pickle that is refused raises PaSEError)."""
    return any("labels" in part and frame_arrays(part, ["labels"]) for part in pickled_splits(path).values())


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The file as a feature table, in memory or streamed to `out`."""
    if not sniff(path):
        raise PaSEError(
            f"{path} was to be a MulT pickle with 'labels' and arrays (utterances, steps, size) in each split, "
            f"found the splits {list(pickled_splits(path))}; name another format."
        )
    splits = pickled_splits(path)
    schema = Schema({}, {})
    notes, names = [], []
    for split, part in splits.items():
        schema.modalities.update({name: value.shape[2] for name, value in frame_arrays(part, ["labels"]).items()})
        schema.labels.update(_kinds(_emotions(path, np.asarray(part["labels"])) is not None))
        names += [name for name, _ in _ids(split, part)]
        if "id" not in part:
            notes.append(f"The {split} split has no ids: each utterance counts as a video of its own.")
    ids, changed = unique(names)
    if changed:
        notes.append(f"{changed} ids stood there more than once and got a number.")
    try:
        meta = {"format": "mult", "source": path.name, "notes": notes}
        return FeatureTable.build(_utterances(path, splits, iter(ids)), schema, path=out, meta=meta)
    finally:
        release_pickle()


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
    count = len(part["labels"])
    if "id" in part and len(part["id"]) != count:
        raise PaSEError(f"The {split} split has {count} labels but {len(part['id'])} ids; mend the file.")
    for i in range(count):
        if "id" not in part:
            yield f"{split}_{i}", f"{split}_{i}"
            continue
        fields = [as_text(field) for field in np.atleast_1d(np.asarray(part["id"][i], dtype=object)).reshape(-1)]
        # some releases number the segment in brackets behind the video, as the CMU SDK does
        yield "_".join(fields), fields[0].split("$_$")[0].split("[")[0]


def _utterances(path: Path, splits: dict[str, dict[str, Any]], ids: Iterator[str]) -> Iterator[Utterance]:
    for split, part in splits.items():
        labels = np.asarray(part["labels"])
        arrays = frame_arrays(part, ["labels"])
        for name, value in arrays.items():
            if len(value) != len(labels):
                raise PaSEError(
                    f"{path}: the {split} split has {len(labels)} labels but {len(value)} of {name!r}; "
                    "write the file again."
                )
        emotions = _emotions(path, labels)
        for i, (_, video) in enumerate(_ids(split, part)):
            values = {"sentiment": real(labels[i])} if emotions is None else _emotion(emotions[i])
            features = {name: strip_zeros(value[i]) for name, value in arrays.items()}
            yield Utterance(next(ids), video, split, values, features)


def _emotion(values: Array) -> dict[str, Any]:
    positive = [name for name, value in zip(EMOTIONS, values, strict=True) if value > 0.5]
    emotion = positive[0] if len(positive) == 1 else None
    return {**{name: float(value) for name, value in zip(EMOTIONS, values, strict=True)}, "emotion": emotion}
