"""The layout of GCNet and MoMKE: a pickle of labels, and one folder of `.npy` files per modality.

Expected is a folder with

- one pickle, a list or tuple of six or seven: utterance ids, labels, speakers and sentences, each a dict by
  video; then the train, (valid,) and test videos, each a set or a list. IEMOCAP has no valid one, MOSI and
  MOSEI have;
- one folder per modality, beside the pickle or in `features/`, with `UTTERANCE.npy` ([D] or [T, D]) or a
  folder `UTTERANCE/` of them (one per face) for each utterance. If the file names of faces hold F or M, only those
  of the speaker's own letter are taken.

The table: a modality has the name of its folder (`wav2vec-large-c-UTT`; rename the folder to rename it),
and is absent where an utterance has no file or only zeros. Whole-number labels are the class `emotion`,
named for 4 of them (happy, sad, neutral, angry) and for 6 (and excited, frustrated), else by number; -1 is an unknown
class. Words are class names. Real numbers, and whole numbers with others than -1 below zero, are the real label
`sentiment`. Sentences are the text. Speakers are kept. Without a valid set there is no valid split, and the notes
say so. `meta["roles"]` says what was taken for what.

Source: Lian et al. 2022, https://github.com/zeroQiaoba/GCNet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.reading import (
    PICKLES,
    as_text,
    cached_pickle,
    class_names,
    load_array,
    modality_name,
    real,
    release_pickle,
    speaker_of,
    splits_of_sets,
    strip_zeros,
    transcript,
)
from pase_msa.data.roles import FEATURES, LABELS, LEFT_OVER, Roles
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError

_SPLITS = {2: ("train", "test"), 3: ("train", "valid", "test")}


def sniff(path: Path) -> bool:
    """Whether `path` is a folder of this layout (a pickle in it that is refused raises PaSEError)."""
    return path.is_dir() and bool(_folders(path)) and _labels(path) is not None


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The folder as a feature table, in memory or streamed to `out`."""
    content = _labels(path) if path.is_dir() else None
    folders = _folders(path) if path.is_dir() else {}
    if content is None or not folders:
        raise PaSEError(
            f"{path} was to hold a pickled list (ids, labels, speakers, sentences, video sets) and a folder "
            f"of .npy files per modality, found no such {'pickle' if content is None else 'folder'}; add it."
        )
    ids, labels, speakers, sentences, *sets = content
    split_of = splits_of_sets(path, dict(zip(_SPLITS[len(sets)], sets, strict=True)))
    values = [value for video in ids for value in labels[video]]
    classes = class_names(path, values)
    notes = [] if len(sets) == 3 else ["The data define no valid split; take one from the training videos."]
    if left := sum(video not in split_of for video in ids):
        notes.append(f"{left} videos are in no split.")
    known = any(speaker_of(speakers, video, i) for video in ids for i in range(len(ids[video])))
    schema = Schema({}, {"emotion" if classes else "sentiment": "class" if classes else "real"}, bool(sentences), known)
    names = [as_text(name) for video in ids for name in ids[video]]
    for modality, folder in folders.items():
        schema.modalities[modality] = _size(folder, names)
    rows = _utterances(content, split_of, folders, classes)
    roles = Roles()
    for role, part in (("ids", "part 1 of the pickle"), ("speakers", "part 3 of the pickle"), *_parts(schema)):
        roles.add(role, part)
    for item in _left_over(path, folders):
        roles.add(LEFT_OVER, item, "no folder of .npy files, and not the pickle of labels")
    meta = {"format": "gcnet", "source": path.name, "notes": notes, "roles": roles.found}
    try:
        return FeatureTable.build(rows, schema, path=out, meta=meta)
    finally:
        release_pickle()


def _labels(path: Path) -> Any:
    """The pickled list, or None where no pickle of the folder is one."""
    for file in sorted(item for item in path.iterdir() if item.suffix.lower() in PICKLES):
        content = cached_pickle(file)
        if (
            isinstance(content, list | tuple)
            and len(content) in (6, 7)
            and all(isinstance(part, dict) for part in content[:3])
            and all(isinstance(part, set | frozenset | list | tuple) for part in content[4:])
        ):
            _check(file, content[0], content[1])
            return content
    return None


def _parts(schema: Schema) -> list[tuple[str, str]]:
    """What the labels, sentences and folders were taken for."""
    (label, kind) = next(iter(schema.labels.items()))
    about = "classes" if kind == "class" else "scores"
    parts = [(LABELS, f"part 2 of the pickle ({about}, as {label})")]
    parts += [("transcripts", "part 4 of the pickle")] if schema.text else []
    return parts + [(FEATURES, f"{name} (size {size})") for name, size in schema.modalities.items()]


def _left_over(path: Path, folders: dict[str, Path]) -> list[str]:
    """Names beside the pickle and the folders of features."""
    taken = {*folders.values(), path / "features"}
    return [item.name for item in sorted(path.iterdir()) if item not in taken and item.suffix.lower() not in PICKLES]


def _check(file: Path, ids: dict[Any, Any], labels: dict[Any, Any]) -> None:
    for video, names in ids.items():
        if not isinstance(names, list | tuple | np.ndarray) or not isinstance(
            labels.get(video, ()), list | tuple | np.ndarray
        ):
            raise PaSEError(f"{file}: ids and labels of video {as_text(video)!r} were to be lists; write it again.")
        if len(labels.get(video, ())) != len(names):
            raise PaSEError(
                f"{file}: video {as_text(video)!r} has {len(names)} utterances but "
                f"{len(labels.get(video, ()))} labels; write the file again."
            )


def _folders(path: Path) -> dict[str, Path]:
    """Modality name -> its folder."""
    root = path / "features" if (path / "features").is_dir() else path
    folders = (item for item in sorted(root.iterdir()) if item.is_dir())
    return {modality_name(item.name): item for item in folders if next(item.rglob("*.npy"), None) is not None}


def _size(folder: Path, names: list[str]) -> int:
    for name in names:
        if (frames := _frames(folder, name, "")) is not None:
            return int(frames.shape[1])
    raise PaSEError(f"{folder} has files for none of the {len(names)} utterances, the first of which is {names[0]!r}.")


def _utterances(
    content: Any, split_of: Any, folders: dict[str, Path], classes: dict[Any, str | None] | None
) -> Iterator[Utterance]:
    ids, labels, speakers, sentences, *_ = content
    for video, names in ids.items():
        for i, name in enumerate(names):
            label: dict[str, Any] = (
                {"sentiment": real(labels[video][i], f"The label of {as_text(name)!r}")}
                if classes is None
                else {"emotion": classes[np.asarray(labels[video][i]).item()]}
            )
            speaker = speaker_of(speakers, video, i)
            features = {modality: _frames(folder, as_text(name), speaker or "") for modality, folder in folders.items()}
            text = transcript(sentences[video][i]) if sentences and i < len(sentences.get(video, ())) else None
            yield Utterance(as_text(name), as_text(video), split_of.get(video, ""), label, features, text, speaker)


def _frames(folder: Path, name: str, speaker: str) -> Array | None:
    if (file := folder / f"{name}.npy").is_file():
        parts = [_load(file)]
    elif (faces := folder / name).is_dir():
        parts = [_load(face) for face in _own(sorted(faces.glob("*.npy")), speaker)]
    else:
        return None
    parts = [part for part in parts if part.size]
    return strip_zeros(np.concatenate(parts)) if parts else None


def _own(faces: list[Path], speaker: str) -> list[Path]:
    marked = {face: "F" if "F" in face.stem else "M" if "M" in face.stem else "" for face in faces}
    own = [face for face, sex in marked.items() if sex == speaker]
    return own if speaker in ("F", "M") and any(marked.values()) else faces


def _load(file: Path) -> Array:
    return np.asarray(np.atleast_2d(np.squeeze(load_array(file))))
