"""A result in a file, in the format that its ending says."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, strict_json, write_text
from pase_msa.media.decode import duration_of
from pase_msa.media.pipeline import TEXT_SUFFIX
from pase_msa.media.timelines.files import endings, is_timeline, require_format, write_timeline
from pase_msa.serve.events import Event
from pase_msa.serve.results import ClipResult
from pase_msa.serve.timeline import timeline_of
from pase_msa.serve.units import Unit, UnitKind, flat_rows, nested_rows

TABLES = (".csv", ".json", ".jsonl")
# formats that have a place for events
_WITH_EVENTS = (".json", ".eaf", ".textgrid")
_EVENT_COLUMNS = ("event", "speaker", "start", "end", "peak", "peak_start", "peak_end")


def check_target(path: str | Path, *, as_json: bool = False) -> None:
    """Refuse a file that cannot become or must not be the result of a clip, before the work begins.

    A timeline that is there may hold hours of somebody's annotation, so that it is never replaced.

    Args:
        path: of the file.
        as_json: JSON is written, whose file may end in anything but another format.

    Errors:
        PaSEError: an ending that no format has, or whose package is not installed; or a timeline that is there.
    """
    if as_json:
        if is_timeline(path) or Path(path).suffix.lower() in (".csv", ".jsonl"):
            raise PaSEError(
                f"--json writes JSON, and {path} ends as another format; leave --json out, or end in .json."
            )
        return
    check_ending(path)
    if is_timeline(path) and Path(path).exists():
        raise PaSEError(
            f"{path} is there already and may hold annotations made by hand; name another file with --out, or move "
            "this one."
        )


def check_ending(path: str | Path) -> None:
    """Refuse an ending that no format has, or whose package is not installed.

    Errors:
        PaSEError: the sentence lists the endings, or names the package.
    """
    if is_timeline(path):
        require_format(path)
    elif Path(path).suffix.lower() not in TABLES:
        known = ", ".join([*TABLES, *(".TextGrid" if name == ".textgrid" else name for name in endings())])
        raise PaSEError(
            f"The ending of --out says the format, and {Path(path).name!r} has none that is known; end it in {known}."
        )


def to_json(
    result: ClipResult, kind: UnitKind, units: Sequence[Unit], events: Sequence[Event] | None = None
) -> dict[str, Any]:
    """A result as plain containers for JSON, see `clip_result.schema.json` beside this module.

    Args:
        result: of a clip.
        kind: of the units.
        units: of the result; utterances stand in it already.
        events: found in the units; None if none were asked for.
    """
    further: dict[str, Any] = (
        {} if kind == "utterance" else {"unit": kind, "units": nested_rows(result.name, kind, units)}
    )
    if events is not None:
        further["events"] = [event.to_dict() for event in events]
    return {**result.to_dict(), **further}


def write_result(
    path: str | Path,
    result: ClipResult,
    kind: UnitKind,
    units: Sequence[Unit],
    events: Sequence[Event] | None = None,
    *,
    clip: str | Path | None = None,
    as_json: bool = False,
) -> list[Path]:
    """Write a result, each file whole or not at all; returns the files.

    CSV and JSON lines have one line per unit. Where a format has no place for events, they go into `NAME.events.csv`.

    Args:
        path: of the file; its ending is the format.
        result: of a clip.
        kind: of the units.
        units: of the result.
        events: found in the units; None if none were asked for.
        clip: the recording, which a timeline links to.
        as_json: write JSON whatever the ending.

    Errors:
        PaSEError: an unknown ending, a timeline of a text alone, or a place that cannot be written to.
    """
    target = Path(path)
    ending = ".json" if as_json else target.suffix.lower()
    if not as_json:
        check_ending(target)
    files = [target]
    if ending in TABLES:
        make_folder(target.parent)
        write_text(target, _table(ending, result, kind, units, events))
    else:
        media = Path(clip) if clip is not None and Path(clip).suffix.lower() != TEXT_SUFFIX else None
        duration = None if media is None else duration_of(media)
        write_timeline(target, timeline_of(result, units, events or (), media=media, duration=duration))
    if events is not None and ending not in _WITH_EVENTS:
        files.append(target.with_suffix(".events.csv"))
        write_text(files[-1], _csv([event.to_dict() for event in events], _EVENT_COLUMNS))
    return files


def _table(
    ending: str, result: ClipResult, kind: UnitKind, units: Sequence[Unit], events: Sequence[Event] | None
) -> str:
    if ending == ".json":
        return strict_json(to_json(result, kind, units, events)) + "\n"
    if ending == ".jsonl":
        return "".join(strict_json(row) + "\n" for row in nested_rows(result.name, kind, units))
    rows = flat_rows(result.name, units)
    if not rows:
        raise PaSEError(f"{result.name} has no {kind}, so there is no line to write; take another --unit.")
    return _csv(rows, list(rows[0]))


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
