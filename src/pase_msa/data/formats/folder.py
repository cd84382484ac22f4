"""The folder format: `utterances.csv`, and beside it one `NAME.npy` per modality.

`NAME.npy` is (n, d), row i for utterance i, or (total_frames, d) with `NAME_lengths.npy` (n,) beside it,
where a length of 0 marks an absent modality. Columns of the CSV: `id`, `video`, `split`, label columns, and
optionally `clip` and `text`. A label column of numbers only is real, any other holds
class names; an empty cell is an unknown label.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.reading import load_array
from pase_msa.data.roles import FEATURES, LABELS, LEFT_OVER, Roles, role_of
from pase_msa.data.table import FeatureTable, LabelKind, Schema, Utterance
from pase_msa.errors import PaSEError

_COLUMNS = ("id", "video", "split", "clip", "text")


def sniff(path: Path) -> bool:
    """Whether `path` looks like this format."""
    return path.is_dir() and (path / "utterances.csv").is_file()


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The folder as a feature table, in memory or streamed to `out`."""
    if not sniff(path):
        raise PaSEError(f"{path} was to be a folder with an utterances.csv, found none; write one.")
    try:
        with (path / "utterances.csv").open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise PaSEError(f"{path}/utterances.csv was to be CSV in UTF-8, but {error}; save it so.") from error
    if "id" not in header:
        raise PaSEError(f"{path}/utterances.csv needs a column 'id', found {header}; add it.")
    if not rows:
        raise PaSEError(f"{path}/utterances.csv has a header but no utterance; add rows.")
    kinds: dict[str, LabelKind] = {
        name: "real" if is_numeric([row[name] or "" for row in rows]) else "class"
        for name in header
        if name not in _COLUMNS
    }
    roles, arrays = Roles(), {}
    for item in sorted(path.glob("*.npy")):
        role = role_of(item.stem, load_array(item, mmap_mode="r"))
        if role is None:
            arrays[item.stem] = item
        else:
            roles.add(role, item.name, "" if role == "lengths" else "not used; labels are columns of utterances.csv")
    loaded = {name: _Frames(name, file, len(rows)) for name, file in arrays.items()}
    schema = Schema({name: frames.dim for name, frames in loaded.items()}, kinds, "text" in header)
    for name, frames in loaded.items():
        roles.add(FEATURES, arrays[name].name, f"size {frames.dim}")
    for name in header:
        known = {"id": "ids", "text": "transcripts", "video": "videos", "split": "splits", "clip": LEFT_OVER}
        roles.add(known.get(name, LABELS), f"column {name}")
    names = {item.name for item in path.glob("*.npy")} | {"utterances.csv"}
    for item in sorted(path.iterdir()):
        if item.name not in names:
            roles.add(LEFT_OVER, item.name)

    meta = {"format": "folder", "source": path.name, "roles": roles.found}

    def utterances() -> Iterator[Utterance]:
        for i, row in enumerate(rows):
            labels = {name: label_value(row[name], kind) for name, kind in kinds.items()}
            features = {name: frames[i] for name, frames in loaded.items()}
            video, split = row.get("video") or row["id"], row.get("split") or ""
            yield Utterance(row["id"], video, split, labels, features, row.get("text") or None)

    return FeatureTable.build(utterances(), schema, path=out, meta=meta)


class _Frames:
    """The file of one modality, memory-mapped; an index gives one row's frames [T, D], or None where it is absent."""

    def __init__(self, name: str, file: Path, count: int) -> None:
        self.values = load_array(file, mmap_mode="r")
        if self.values.ndim != 2:
            raise PaSEError(
                f"{file} must be (utterances, size) or (all frames, size), found {self.values.shape}; reshape it."
            )
        self.dim = int(self.values.shape[1])
        lengths_file = file.with_name(f"{name}_lengths.npy")
        lengths = load_array(lengths_file) if lengths_file.exists() else np.ones(count, np.int64)
        if lengths.shape != (count,) or int(lengths.sum()) != len(self.values) or (lengths < 0).any():
            raise PaSEError(
                f"{file} holds {len(self.values)} rows, but utterances.csv has {count} utterances whose "
                f"lengths ({lengths_file.name if lengths_file.exists() else '1 each'}) add up to "
                f"{int(lengths.sum())}; make them agree."
            )
        self.ends = np.cumsum(lengths)
        self.lengths = lengths

    def __getitem__(self, row: int) -> Array | None:
        if not self.lengths[row]:
            return None
        return np.asarray(self.values[self.ends[row] - self.lengths[row] : self.ends[row]])


def is_numeric(values: list[str]) -> bool:
    """Whether a label column's cells are numbers throughout, empty ones aside."""
    try:
        return bool([float(value) for value in values if value != ""])
    except ValueError:
        return False


def label_value(value: str | None, kind: LabelKind) -> float | str | None:
    """A label from its cell; None where it is unknown."""
    if not value:  # an empty cell, or a row that ends before it
        return None
    return float(value) if kind == "real" else value
