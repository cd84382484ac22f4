"""HDF5 files as the Memory Fusion Network's release has them: one per modality and split.

Expected is a folder with `y_SPLIT.h5` (labels [N], [N, 1] or [N, C]) and `MODALITY_SPLIT.h5` or
`SPLIT_MODALITY.h5` (features [N, T, D], or [N, D] for one vector per utterance); SPLIT is train, valid (or
val, dev) or test, and an ending `_emb` is dropped from the name (`text_train_emb.h5` is the modality
`text`; a file of token ids beside it is left out). Each file holds the data set `d1`, or `data`, or a
single one of any name.

The table: labels `label`, or `label_0`, `label_1` ... for several columns, always real, because the
files do not state what they mean. All-zero frames at both ends are padding (these files pad in front); an
utterance with only zeros lacks the modality. There are no ids: row i of a split is `SPLIT_i`
and its own video, and the notes say so.

Source: Zadeh et al. 2018, https://github.com/pliang279/MFN.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.reading import modality_name, real, split_name, strip_zeros
from pase_msa.data.roles import FEATURES, LABELS, LEFT_OVER, Roles
from pase_msa.data.table import SPLITS, FeatureTable, LabelKind, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.optional import need

if TYPE_CHECKING:
    import h5py

_BLOCK = 256


def sniff(path: Path) -> bool:
    """Whether `path` is a folder of this layout."""
    files = _files(path)
    return any("y" in part and len(part) > 1 for part in files.values())


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The folder as a feature table, in memory or streamed to `out`."""
    files = _files(path)
    if not any("y" in part and len(part) > 1 for part in files.values()):
        raise PaSEError(
            f"{path} was to be a folder of MODALITY_SPLIT.h5 and y_SPLIT.h5 files, found them for "
            f"{list(files) or 'no split'}; name another format."
        )
    schema = Schema({}, {})
    for split, part in files.items():
        if "y" not in part:
            raise PaSEError(f"{path} has features of the {split} split but no y_{split}.h5; add it or take them away.")
        count, columns = _shape(part["y"])[0], int(np.prod(_shape(part["y"])[1:]))
        names = ["label"] if columns == 1 else [f"label_{i}" for i in range(columns)]
        kinds: dict[str, LabelKind] = dict.fromkeys(names, "real")
        schema.labels.update(kinds)
        for name in [name for name in part if name != "y"]:
            shape = _shape(part[name])
            if len(shape) not in (2, 3) or shape[0] != count:
                raise PaSEError(
                    f"{part[name]} must hold ({count}, steps, size), as {part['y'].name} has {count} labels, "
                    f"found {shape}; make them agree."
                )
            schema.modalities[name] = shape[-1]
    roles = Roles()
    for split, part in files.items():
        for name, file in part.items():
            roles.add(LABELS if name == "y" else FEATURES, file.name, "" if name == "y" else f"as {name}, {split}")
    taken = {file for part in files.values() for file in part.values()}
    for item in sorted(path.iterdir()):
        if item not in taken:
            roles.add(LEFT_OVER, item.name)
    notes = ["The files have no ids: each utterance counts as a video of its own."]
    meta = {"format": "mfn", "source": path.name, "notes": notes, "roles": roles.found}
    return FeatureTable.build(_utterances(files, list(schema.labels)), schema, path=out, meta=meta)


def _files(path: Path) -> dict[str, dict[str, Path]]:
    """Split -> modality (or "y") -> file."""
    parts: dict[str, dict[str, Path]] = {}
    if not path.is_dir():
        return parts
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in (".h5", ".hdf5")]
    for file in sorted(
        files, key=lambda file: file.stem.endswith("_emb")
    ):  # embeddings last, so that they take the place of token ids
        pieces = file.stem.removesuffix("_emb").split("_")
        for word, name in ((pieces[-1], pieces[:-1]), (pieces[0], pieces[1:])):
            if name and (split := split_name(word)) is not None:
                modality = "_".join(name)
                key = "y" if modality.lower() in ("y", "label", "labels") else modality_name(modality)
                parts.setdefault(split, {})[key] = file
                break
    return {split: parts[split] for split in SPLITS if split in parts}


def _dataset(file: h5py.File, path: Path) -> Any:
    import h5py

    names = list(file)
    name = next((name for name in ("d1", "data") if name in names), names[0] if len(names) == 1 else None)
    if name is None or not isinstance(file[name], h5py.Dataset):
        raise PaSEError(f"{path} must hold a data set 'd1', 'data' or a single one, found {names}.")
    return file[name]


def _open(path: Path) -> h5py.File:
    need("h5py")
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise PaSEError(f"{path} was to be an HDF5 file, but {error}; download or write it again.") from error


def _shape(path: Path) -> tuple[int, ...]:
    with _open(path) as file:
        return tuple(int(n) for n in _dataset(file, path).shape)


def _utterances(files: dict[str, dict[str, Path]], names: list[str]) -> Iterator[Utterance]:
    for split, part in files.items():
        labels = np.concatenate(list(_blocks(part["y"])))
        labels = labels.reshape(len(labels), -1)
        blocks = {name: _blocks(path) for name, path in part.items() if name != "y"}
        for start in range(0, len(labels), _BLOCK):
            current = {name: next(block) for name, block in blocks.items()}
            for i in range(start, min(start + _BLOCK, len(labels))):
                values = {
                    name: real(labels[i, k], f"{part['y'].name}, row {i}")
                    for k, name in enumerate(names)
                    if k < labels.shape[1]
                }
                features = {name: _frames(block[i - start]) for name, block in current.items()}
                yield Utterance(f"{split}_{i}", f"{split}_{i}", split, values, features)


def _blocks(path: Path) -> Iterator[Array]:
    """The data set in blocks of rows, so that a large file is never in memory at once."""
    with _open(path) as file:
        values = _dataset(file, path)
        for start in range(0, len(values), _BLOCK):
            yield np.asarray(values[start : start + _BLOCK])


def _frames(frames: Array) -> Array | None:
    return strip_zeros(np.atleast_2d(frames))
