"""The list of clips to extract: from a folder, a manifest (CSV), or one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pase_msa.data.cells import CsvFile, Row, read_csv
from pase_msa.data.table import LabelKind
from pase_msa.errors import PaSEError
from pase_msa.media.pipeline import TEXT_SUFFIX

MEDIA = frozenset(
    f".{suffix}"
    for kinds in (
        "mp4 m4v mov mkv webm avi mpg mpeg wmv flv ogv 3gp ts",
        "wav mp3 m4a aac flac ogg opus wma",
    )
    for suffix in kinds.split()
)
_COLUMNS = ("path", "id", "video", "split", "text", "start", "end")


@dataclass(frozen=True)
class Item:
    """A clip to extract.

    Attributes:
        id: unique.
        path: of the file; None for text alone.
        written: the path as it was given, relative to the folder or the manifest.
        video: what the clip was cut from.
        split: "train", "valid", "test" or "".
        text: transcript, where it is known.
        start: where the clip begins in the file, in seconds.
        end: where it ends; None for the end of the file.
        labels: by name.
    """

    id: str
    path: Path | None
    written: str = ""
    video: str = ""
    split: str = ""
    text: str | None = None
    start: float = 0.0
    end: float | None = None
    labels: dict[str, float | str | None] = field(default_factory=dict)


def read_clips(source: str | Path) -> tuple[list[Item], dict[str, LabelKind]]:
    """Clips and the kinds of their labels.

    Args:
        source: a folder, searched at any depth (`a.txt` beside `a.mp4` is its transcript); a CSV with a column `path`
            and optionally id, video, split, text, start, end and labels; or one file.

    Errors:
        PaSEError: the source does not exist, holds no clip, or is a manifest with a mistake.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path), {}
    if not path.is_file():
        raise PaSEError(f"There is no {path}; give a folder of clips, a manifest (CSV) or a file.")
    if path.suffix.lower() == ".csv":
        return _manifest(path)
    return [Item(path.stem, path, path.name, path.stem)], {}


def _folder(folder: Path) -> list[Item]:
    files = sorted(
        file for file in folder.rglob("*") if file.is_file() and file.suffix.lower() in {*MEDIA, TEXT_SUFFIX}
    )
    media = [file for file in files if file.suffix.lower() != TEXT_SUFFIX]
    # a text beside a media file of the same name is its transcript, and no clip of its own
    transcribed = {file.with_suffix("") for file in media}
    chosen = media + [file for file in files if file not in media and file.with_suffix("") not in transcribed]
    if not chosen:
        raise PaSEError(f"{folder} holds no video, audio or text file ({', '.join(sorted(MEDIA))}, {TEXT_SUFFIX}).")
    stems = [file.relative_to(folder).with_suffix("").as_posix() for file in chosen]
    items = []
    for file, stem in zip(chosen, stems, strict=True):
        written = file.relative_to(folder).as_posix()
        name = stem if stems.count(stem) == 1 else written
        beside = file.with_suffix(TEXT_SUFFIX)
        text = beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else None
        items.append(Item(name, file, written, name, text=None if file == beside else text or None))
    return sorted(items, key=lambda item: item.id)


def _manifest(path: Path) -> tuple[list[Item], dict[str, LabelKind]]:
    file = read_csv(path)
    if "path" not in file.columns and "text" not in file.columns:
        found = ", ".join(file.columns)
        raise PaSEError(f"{path} needs a column 'path' (or 'text', for text alone), found {found}; add it.")
    kinds = {name: file.kind(name) for name in file.columns if name not in _COLUMNS}
    items = [_item(file, i, row, kinds) for i, row in enumerate(file.rows)]
    _check_unique(path, [item.id for item in items])
    return items, kinds


def _item(manifest: CsvFile, number: int, line: Row, kinds: dict[str, LabelKind]) -> Item:
    row, where = line.cells, f"{manifest.path}, line {line.line}"
    written, text = row.get("path", ""), row.get("text") or None
    if not written and text is None:
        raise PaSEError(f"{where}: a clip needs a path or a text; give one, or take the line out.")
    times: list[float | None] = []
    for name in ("start", "end"):
        try:
            times.append(float(row[name]) if row.get(name) else None)
        except ValueError:
            raise PaSEError(f"{where}: {name} must be seconds, found {row[name]!r}; write a number.") from None
    stem = Path(written).with_suffix("").as_posix() if written else f"text{number + 1}"
    name = row.get("id") or (stem if times[0] is None else f"{stem}_{times[0]:g}")
    labels = {label: manifest.label(line, label, kind) for label, kind in kinds.items()}
    file = manifest.path.parent / written if written else None
    video, split = row.get("video") or stem, row.get("split") or ""
    return Item(name, file, written, video, split, text, times[0] or 0.0, times[1], labels)


def _check_unique(manifest: Path, ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise PaSEError(f"{manifest} has two clips with the id {twice!r}; give each an id of its own (column 'id').")
