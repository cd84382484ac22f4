"""Computational sequences of the CMU-MultimodalSDK: `.csd` files, or one HDF5 file that holds several.

Expected is a folder of `.csd` files (or one file), each `ROOT/data/ENTRY/{features, intervals}` (or
`ROOT/ENTRY/{features, intervals}`), where ENTRY is a video "vid" or a part of it "vid[i]", features are [n,
D] and intervals [n, 2] in seconds. One sequence must hold labels (a name with "label" in it) and one may
hold words: strings, or vectors under a name with "glove" or "word" in it.

The table, as the SDK's `align(words, mean)`, then `align(labels)` make it: one utterance per label interval,
with the SDK's id "vid[i]"; in it each other sequence is averaged over each word, what is no word ("sp", "NW", or an
all-zero vector) is dropped, and strings become the text. Without a sequence of words, all keep their own rate.
Four things differ from the SDK: an utterance that a sequence does not cover stays, with that modality absent
(the SDK drops it). One without any word stays too, with all of them absent. A word that a sequence does not
cover is skipped in that sequence alone. Frames that are points in time are used. A modality has the name of its
sequence. A label has the names of the file's "dimension names", or `sentiment` for one value, `sentiment` and
the six emotions for MOSEI's seven, `label_0` ... for others.

Splits are not in the files. `splits.json` ({"video": "train"} or {"train": ["video", ...]}) or `splits.csv`
(columns video, split) beside them gives them; without it, the split is empty and the notes say so.

Source: Zadeh et al. 2018, https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.data.cells import read_csv
from pase_msa.data.columns import Array
from pase_msa.data.computational_sequence import EPSILON, ComputationalSequence, content, inside
from pase_msa.data.reading import NO_WORDS, as_text, modality_name, real, split_name
from pase_msa.data.roles import FEATURES, LABELS, LEFT_OVER, Roles
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.optional import need


def sniff(path: Path) -> bool:
    """Whether `path` is a `.csd` file, a folder with some, or an HDF5 file of sequences."""
    if path.is_dir():
        return any(file.suffix == ".csd" for file in path.iterdir())
    if path.suffix.lower() in (".hdf5", ".h5"):
        need("h5py")
        import h5py

        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return bool(ComputationalSequence.all_of(file))
    return path.suffix == ".csd"


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The sequences as a feature table, in memory or streamed to `out`."""
    need("h5py")
    import h5py

    with ExitStack() as stack:
        sequences: dict[str, ComputationalSequence] = {}
        for file in sorted(path.glob("*.csd")) if path.is_dir() else [path]:
            try:
                sequences.update(ComputationalSequence.all_of(stack.enter_context(h5py.File(file, "r"))))
            except OSError as error:
                raise PaSEError(f"{file} was to be HDF5, but {error}; download it again.") from error
        empty = [name for name, item in sequences.items() if not item.size]
        sequences = {name: item for name, item in sequences.items() if item.size}
        labels = [name for name in sequences if "label" in name.lower()]
        if len(labels) != 1:
            raise PaSEError(
                f"{path} needs one sequence with 'label' in its name, found {labels or sorted(sequences) or 'none'}; "
                "leave only the one that you want in the folder."
            )
        truth = sequences.pop(labels[0])
        words = _words(sequences)
        names = truth.label_names()
        numeric = {modality_name(name): item for name, item in sequences.items() if not item.strings}
        schema = Schema(
            {name: item.size for name, item in numeric.items()},
            dict.fromkeys(names, "real"),
            words is not None and words.strings,
        )
        splits = _splits(path if path.is_dir() else path.parent)
        roles = Roles({LABELS: [labels[0]], FEATURES: [f"{name} (size {item.size})" for name, item in numeric.items()]})
        for name, item in sequences.items():
            if item.strings:
                roles.add("transcripts" if item is words else LEFT_OVER, name, "" if item is words else "more words")
        for name in empty:
            roles.add(LEFT_OVER, name, "no entry of it holds anything")
        notes = [] if splits else ["The files define no splits; add splits.json or splits.csv (video, split)."]
        meta = {"format": "csd", "source": path.name, "notes": notes, "roles": roles.found}
        return FeatureTable.build(_utterances(truth, names, words, numeric, splits), schema, path=out, meta=meta)


def _words(sequences: dict[str, ComputationalSequence]) -> ComputationalSequence | None:
    strings = [item for item in sequences.values() if item.strings]
    named = [item for name, item in sequences.items() if "glove" in name.lower() or "word" in name.lower()]
    return next(iter(strings + named), None)


def _utterances(
    truth: ComputationalSequence,
    names: list[str],
    words: ComputationalSequence | None,
    numeric: dict[str, ComputationalSequence],
    splits: dict[str, str],
) -> Iterator[Utterance]:
    for video, parts in truth.parts.items():
        spoken = None if words is None else words.video(video)
        tracks = {name: item.video(video) for name, item in numeric.items()}
        for key, entry in parts:
            intervals, labels = content(entry)
            for i, (start, end) in enumerate(intervals):
                if end - start < EPSILON:
                    continue
                at = None if spoken is None else _steps(spoken, start, end)
                features = {name: _cut(track, start, end, at and at[0]) for name, track in tracks.items()}
                tokens = at[1] if at and words is not None and words.strings else []
                text = " ".join(as_text(word) for word in tokens) or None
                values = {name: real(labels[i, k], f"A label of {key!r}") for k, name in enumerate(names)}
                name = key if "[" in key and len(intervals) == 1 else f"{key}[{i}]"
                yield Utterance(name, video, splits.get(video, ""), values, features, text)


def _steps(spoken: tuple[Array, Array], start: float, end: float) -> tuple[list[Any], list[Any]]:
    """Intervals and tokens of the words between two times, without pauses."""
    intervals, tokens = spoken
    spans, words = [], []
    for i in np.flatnonzero(inside(intervals, start, end)):
        token = tokens[i]
        if as_text(token[0]).strip().lower() not in NO_WORDS if token.dtype.kind in "SO" else token.any():
            spans.append((max(intervals[i, 0], start), min(intervals[i, 1], end)))
            words.append(token[0])
    return spans, words


def _cut(track: tuple[Array, Array], start: float, end: float, words: list[Any] | None) -> Array | None:
    """The frames of a sequence between two times, [T, D]: all, or their mean over each word; None if there are none."""
    rows = inside(track[0], start, end)
    intervals, features = track[0][rows], track[1][rows]
    if words is None:
        return features if len(features) else None
    means = [features[hit].mean(axis=0) for s, e in words if (hit := inside(intervals, s, e)).any()]
    return np.stack(means) if means else None


def _splits(folder: Path) -> dict[str, str]:
    """Video -> split, from the file beside the sequences."""
    splits: dict[str, str] = {}
    if (file := folder / "splits.json").is_file():
        for key, value in json.loads(file.read_text(encoding="utf-8")).items():
            splits.update(dict.fromkeys(value, key) if isinstance(value, list) else {key: value})
    elif (file := folder / "splits.csv").is_file():
        rows = read_csv(file)
        if missing := {"video", "split"} - set(rows.columns):
            raise PaSEError(
                f"{file} needs the columns video and split, and lacks {', '.join(sorted(missing))}; add it."
            )
        splits = {row.cells["video"]: row.cells["split"] for row in rows.rows}
    return {video: split_name(split) or split for video, split in splits.items()}
