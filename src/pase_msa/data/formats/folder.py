"""The folder format: `utterances.csv`, and beside it one `NAME.npy` per modality; or a CSV file alone.

`NAME.npy` is (n, d), row i for utterance i, or (total_frames, d) with `NAME_lengths.npy` (n,) beside it,
where a length of 0 marks an absent modality. Columns of the CSV: `id` (row numbers if it is left out), `video`,
`split`, label columns, and optionally `clip`, `text` and `speaker`, who speaks. A label column of numbers only is real,
any other holds class names.
Blank, NA, N/A, nan, null and - are unknown. Where nearly all cells are numbers, any other is refused by its line.

An array that is called as labels, masks or ids are is no modality. `meta["roles"]` says what was taken for what.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pase_msa.data.cells import is_unknown, read_csv
from pase_msa.data.columns import Array
from pase_msa.data.reading import load_array, split_name, transcript
from pase_msa.data.roles import FEATURES, LABELS, LEFT_OVER, Roles, role_of
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError

_COLUMNS = ("id", "video", "split", "clip", "text", "speaker")
_PROSE = 3  # words per cell
_ROLES = {
    "id": "ids",
    "text": "transcripts",
    "speaker": "speakers",
    "video": "videos",
    "split": "splits",
    "clip": LEFT_OVER,
}


def sniff(path: Path) -> bool:
    """Whether `path` looks like this format."""
    if path.is_file():
        return path.suffix.lower() in (".csv", ".tsv")
    return path.is_dir() and (path / "utterances.csv").is_file()


def read(path: Path, out: Path | None = None) -> FeatureTable:
    """The folder as a feature table, in memory or streamed to `out`."""
    if not sniff(path):
        raise PaSEError(f"{path} was to be a folder with an utterances.csv, or a CSV file, found none; write one.")
    file = read_csv(path if path.is_file() else path / "utterances.csv")
    arrays, roles = _arrays(path)
    kinds = {name: file.kind(name) for name in file.columns if name not in _COLUMNS}
    loaded = {name: _Frames(name, item, len(file.rows)) for name, item in arrays.items()}
    if not loaded and "text" not in file.columns and (spoken := [n for n in kinds if _is_prose(file.column(n))]):
        raise PaSEError(
            f"{file.path} has no column 'text' and no arrays of features beside it (NAME.npy); if {spoken[0]!r} holds "
            "the transcripts, call it 'text'."
        )
    sizes = {name: frames.dim for name, frames in loaded.items()}
    schema = Schema(sizes, kinds, "text" in file.columns, "speaker" in file.columns)
    for name, frames in loaded.items():
        roles.add(FEATURES, arrays[name].name, f"size {frames.dim}")
    for name in file.columns:
        roles.add(_ROLES.get(name, LABELS), f"column {name}")
    for name in file.left_out:
        roles.add(LEFT_OVER, name)
    notes = [] if "id" in file.columns else ["There is no column 'id'; the rows are numbered."]
    meta = {"format": "folder", "source": path.name, "roles": roles.found, "notes": notes}

    def utterances() -> Iterator[Utterance]:
        for i, row in enumerate(file.rows):
            cells = row.cells
            labels = {name: file.label(row, name, kind) for name, kind in kinds.items()}
            features = {name: frames[i] for name, frames in loaded.items()}
            identity = cells.get("id", str(i))
            if not identity:
                raise PaSEError(f"{file.path}, line {row.line}: the id is empty; write one.")
            split = cells.get("split", "")
            text, speaker = transcript(cells.get("text")), cells.get("speaker", "")
            split, video = split_name(split) or split, cells.get("video") or identity
            yield Utterance(identity, video, split, labels, features, text, None if is_unknown(speaker) else speaker)

    return FeatureTable.build(utterances(), schema, path=out, meta=meta)


def _is_prose(cells: list[str]) -> bool:
    """Whether the cells of a column are sentences rather than names of classes."""
    return sum(len(cell.split()) for cell in cells) >= _PROSE * len(cells)


def _arrays(path: Path) -> tuple[dict[str, Path], Roles]:
    """The files of the modalities, and what everything else in the folder was taken for."""
    roles, arrays = Roles(), {}
    if path.is_file():
        return {}, roles
    for item in sorted(path.iterdir()):
        if item.suffix == ".npy":
            role = role_of(item.stem, load_array(item, mmap_mode="r"))
            if role is None:
                arrays[item.stem] = item
            else:
                about = "" if role == "lengths" else "not used; labels are columns of utterances.csv"
                roles.add(role, item.name, about)
        elif item.name != "utterances.csv":
            roles.add(LEFT_OVER, item.name)
    return arrays, roles


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
