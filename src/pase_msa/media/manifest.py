"""The list of clips to extract: from a folder, a manifest (CSV), or one file; a timeline divides a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pase_msa.data.cells import CsvFile, Row, is_unknown, read_csv
from pase_msa.data.table import LabelKind
from pase_msa.errors import PaSEError
from pase_msa.media.languages import code_of
from pase_msa.media.pipeline import TEXT_SUFFIX
from pase_msa.media.timelines.files import is_timeline, read_segments

MEDIA = frozenset(
    f".{suffix}"
    for kinds in (
        "mp4 m4v mov mkv webm avi mpg mpeg wmv flv ogv 3gp ts",
        "wav mp3 m4a aac flac ogg opus wma",
    )
    for suffix in kinds.split()
)
_COLUMNS = ("path", "id", "video", "split", "text", "speaker", "start", "end", "timeline")


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
        speaker: who speaks, where it is known; several names are divided by semicolons.
        language: of the speech, from the label of this name.
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
    speaker: str | None = None
    language: str | None = None

    @property
    def labelled(self) -> bool:
        """Whether it has labels, which are about the whole clip; its language is known without looking into it."""
        return bool(self.labels.keys() - {"language"})


def read_clips(source: str | Path) -> tuple[list[Item], dict[str, LabelKind]]:
    """Clips and the kinds of their labels.

    Args:
        source: a folder, searched at any depth (`a.txt` beside `a.mp4` is its transcript, and where there is none, a
            timeline such as `a.eaf` or `a.srt` divides it into segments); a CSV with a column `path` and optionally id,
            video, split, text, speaker, start, end, timeline and labels; or one file.

    Errors:
        PaSEError: the source does not exist, holds no clip, is a manifest with a mistake, or a timeline cannot be read.
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
    timelines = _timelines(folder)
    stems = [file.relative_to(folder).with_suffix("").as_posix() for file in chosen]
    items = []
    for file, stem in zip(chosen, stems, strict=True):
        written = file.relative_to(folder).as_posix()
        name = stem if stems.count(stem) == 1 else written
        transcript = file.with_suffix(TEXT_SUFFIX)
        text = transcript.read_text(encoding="utf-8", errors="replace").strip() if transcript.is_file() else None
        item = Item(name, file, written, name, text=None if file == transcript else text or None)
        found = timelines.get(file.with_suffix("")) if item.text is None and file != transcript else None
        if found and len(found) > 1:
            names = " and ".join(timeline.name for timeline in found)
            raise PaSEError(
                f"{file} has {names} beside it, which both divide it into segments; keep one of them there."
            )
        items += _divided(item, found[0]) if found else [item]
    return sorted(items, key=lambda item: item.id)


def _timelines(folder: Path) -> dict[Path, list[Path]]:
    """Timelines in a folder, at any depth, by their path without the ending."""
    found: dict[Path, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if is_timeline(file) and file.is_file():
            found.setdefault(file.with_suffix(""), []).append(file)
    return found


def _manifest(path: Path) -> tuple[list[Item], dict[str, LabelKind]]:
    file = read_csv(path)
    if "path" not in file.columns and "text" not in file.columns:
        found = ", ".join(file.columns)
        raise PaSEError(f"{path} needs a column 'path' (or 'text', for text alone), found {found}; add it.")
    kinds = {name: file.kind(name) for name in file.columns if name not in _COLUMNS}
    items = [item for i, row in enumerate(file.rows) for item in _items(file, i, row, kinds)]
    _check_unique(path, [item.id for item in items])
    return items, kinds


def _items(manifest: CsvFile, number: int, line: Row, kinds: dict[str, LabelKind]) -> list[Item]:
    """The clip of a line, or its segments where the line names a timeline."""
    item, timeline = _item(manifest, number, line, kinds), line.cells.get("timeline")
    if not timeline:
        return [item]
    if item.path is None or item.text is not None or item.start > 0 or item.end is not None:
        raise PaSEError(
            f"{manifest.path}, line {line.line}: a timeline gives texts and times of its own, so it goes with a path "
            "and without text, start and end; leave these cells empty."
        )
    return _divided(item, manifest.path.parent / timeline)


def _divided(item: Item, timeline: Path) -> list[Item]:
    """A clip for each segment of a timeline; they share its video, split and labels."""
    return [
        replace(
            item,
            id=f"{item.id}_{i + 1:04d}",
            text=segment.text,
            start=segment.start,
            end=segment.end,
            speaker=segment.speaker or item.speaker,
        )
        for i, segment in enumerate(read_segments(timeline))
    ]


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
    video, split, speaker = row.get("video") or stem, row.get("split") or "", row.get("speaker", "")
    return Item(
        name,
        file,
        written,
        video,
        split,
        text,
        times[0] or 0.0,
        times[1],
        labels,
        None if is_unknown(speaker) else speaker,
        code_of(row.get("language", "")),
    )


def _check_unique(manifest: Path, ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise PaSEError(f"{manifest} has two clips with the id {twice!r}; give each an id of its own (column 'id').")
