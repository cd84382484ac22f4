"""Further columns of a feature table from a CSV file, its utterances in the order in which they were said, or some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from pase_msa.data.cells import CsvFile, Row, is_unknown, read_csv
from pase_msa.data.guard import reading
from pase_msa.data.reading import split_name, transcript
from pase_msa.data.roles import LABELS, Roles
from pase_msa.data.table import FeatureTable, LabelKind, Schema
from pase_msa.errors import PaSEError
from pase_msa.ranges import nearest

_NOT_JOINED = ("id", "clip")
_ROLES = {"text": "transcripts", "speaker": "speakers", "video": "videos", "split": "splits"}


def join_columns(table: FeatureTable, path: Path, take: Sequence[str] | None = None) -> FeatureTable:
    """The table with the columns of a CSV file, joined by the column `id`; no feature is copied.

    A column means what it means in an `utterances.csv`: `video`, `split`, `text` and `speaker` are what they say,
    any other is a label. Rows of the file that are no utterance of the table are left out with a note.

    Args:
        table: the data.
        path: of the CSV file.
        take: names of the columns; all but `id` and `clip` if None.

    Errors:
        PaSEError: there is no such file or column, an id stands there twice or is not there, or the table has such a
            column with another value.
    """
    if not path.is_file():
        raise PaSEError(f"There is no file {str(path)!r}; give a CSV file with a column 'id'.")
    with reading(path, "a CSV file"):
        file = read_csv(path)
    names = _names(file, take)
    rows = _matched(table, file)
    added: dict[str, list[Any]] = {}
    kinds: dict[str, LabelKind] = {}
    for name in names:
        values, kind = _values(file, rows, name)
        if (held := _held(table, name)) is None:
            added[name] = values
            if name not in _ROLES:
                kinds[name] = kind
            continue
        for identity, one, other in zip(table.ids, held, values, strict=True):
            if one != other:
                raise PaSEError(
                    f"{path}: {name} of {identity!r} is {other!r}, but {one!r} in the table; correct one of them, or "
                    "leave the column out."
                )
    notes = [f"Joined from {path.name}: {', '.join(added) or 'nothing new'}."]
    if left := len(file.rows) - len(table):
        notes.append(f"Rows of {path.name} without an utterance here: {left}.")
    roles = Roles({role: [*parts] for role, parts in table.meta.get("roles", {}).items()})
    for name in added:
        roles.add(_ROLES.get(name, LABELS), f"column {name} of {path.name}")
    meta = {**table.meta, "roles": roles.found, "notes": [*table.meta.get("notes", ()), *notes]}
    return _with_columns(table, added, kinds, meta)


def in_order(
    table: FeatureTable, name: str, path: str | Path | None = None, *, columns: Path | None = None
) -> FeatureTable:
    """A table with the utterances of each video in the order of a column, such as the second at which they begin.

    Models of conversations read a video's utterances in the order of the table. Videos stay in the order of their first
    utterances.

    Args:
        table: the data.
        name: of a column of numbers.
        path: folder of the new table; in memory if None.
        columns: CSV file that has the column where the table does not; it is joined by `id` for the order only.

    Errors:
        PaSEError: there is no such column, it holds class names, or an utterance has no value; and as `join_columns`.
    """
    source = table if columns is None or name in table.schema.labels else join_columns(table, columns, [name])
    values = source.labels(name)
    if source.schema.labels[name] != "real":
        raise PaSEError(f"Utterances are put in order by numbers, and {name!r} holds class names; name another column.")
    if count := values.count(None):
        first = table.ids[values.index(None)]
        raise PaSEError(
            f"{name} is unknown for {count} of {len(table)} utterances, such as {first!r}; add the numbers."
        )
    places: dict[str, int] = {}
    for video in table.videos:
        places.setdefault(video, len(places))
    order = sorted(range(len(table)), key=lambda row: (places[table.videos[row]], values[row]))
    meta = {**table.meta, "notes": [*table.meta.get("notes", ()), f"Utterances of a video are in the order of {name}."]}
    return FeatureTable.build((table.utterance(row) for row in order), table.schema, path=path, meta=meta)


def matching(table: FeatureTable, condition: str, path: str | Path | None = None) -> FeatureTable:
    """The utterances whose value in a column matches a regular expression, anywhere in it; an empty cell never does.

    Args:
        table: the data.
        condition: COLUMN=PATTERN, such as "video=impro" or "split=^train$".
        path: folder of the new table; in memory if None.

    Errors:
        PaSEError: no such condition, no such column, or no utterance that matches.
    """
    name, equals, pattern = condition.partition("=")
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise PaSEError(f"{pattern!r} is no regular expression ({error}); mend it in --where {condition}.") from error
    if not (name and equals and pattern):
        raise PaSEError(f"--where wants COLUMN=PATTERN, such as video=impro, found {condition!r}.")
    columns = {"id": table.ids, "video": table.videos, "split": table.splits.tolist()}
    values = columns.get(name) or _held(table, name)
    if values is None:
        known = [*columns, *(c for c in ("text", "speaker") if _held(table, c) is not None), *table.schema.labels]
        hint = nearest(name, known, "name one of these.")
        raise PaSEError(f"--where names the column {name!r}; the data have {', '.join(known)}; {hint}")
    rows = [row for row, value in enumerate(values) if value not in (None, "") and expression.search(str(value))]
    if not rows:
        raise PaSEError(
            f"No utterance has a {name} that matches {pattern!r}, as {values[0]!r} does not; change --where."
        )
    note = f"Those of {len(table)} utterances whose {name} matches {pattern!r}: {len(rows)}."
    meta = {**table.meta, "notes": [*table.meta.get("notes", ()), note]}
    return FeatureTable.build((table.utterance(row) for row in rows), table.schema, path=path, meta=meta)


def _names(file: CsvFile, take: Sequence[str] | None) -> list[str]:
    """The columns to join."""
    if "id" not in file.columns:
        raise PaSEError(f"{file.path} has no column 'id' to join by; it has {', '.join(file.columns)}; add one.")
    for name in take or ():
        if name not in file.columns:
            hint = nearest(name, file.columns, "name some of these.")
            raise PaSEError(f"{file.path} has no column {name!r}; it has {', '.join(file.columns)}; {hint}")
    names = [name for name in file.columns if name not in _NOT_JOINED and (take is None or name in take)]
    if not names:
        raise PaSEError(f"{file.path} has nothing to join beside {', '.join(_NOT_JOINED)}; name other columns.")
    return names


def _matched(table: FeatureTable, file: CsvFile) -> list[Row]:
    """The row of each utterance."""
    by_id: dict[str, Row] = {}
    for row in file.rows:
        identity = row.cells["id"]
        if not identity:
            raise PaSEError(f"{file.path}, line {row.line}: the id is empty; write one.")
        if identity in by_id:
            raise PaSEError(f"{file.path}, line {row.line}: the id {identity!r} stands there twice; leave one row.")
        by_id[identity] = row
    if missing := [identity for identity in table.ids if identity not in by_id]:
        raise PaSEError(
            f"{file.path} lacks {len(missing)} of {len(table)} utterances, such as {missing[0]!r}; add their rows, or "
            "write the ids as the data do."
        )
    return [by_id[identity] for identity in table.ids]


def _values(file: CsvFile, rows: Sequence[Row], name: str) -> tuple[list[Any], LabelKind]:
    """A column's values for the rows, as a table holds them, and the kind of label that they would be."""
    cells = [row.cells[name] for row in rows]
    if name == "video":
        return [cell or row.cells["id"] for cell, row in zip(cells, rows, strict=True)], "class"
    if name == "split":
        return [split_name(cell) or cell for cell in cells], "class"
    if name == "text":
        return [transcript(cell) for cell in cells], "class"
    if name == "speaker":
        return [None if is_unknown(cell) else cell for cell in cells], "class"
    kind = file.kind(name)
    return [file.label(row, name, kind) for row in rows], kind


def _held(table: FeatureTable, name: str) -> Sequence[Any] | None:
    """What the table has of a column; None if it has none, or only what stands in for one."""
    if name in table.schema.labels:
        return table.labels(name)
    if name == "video":
        return None if table.videos == table.ids else table.videos
    if name == "split":
        return table.splits.tolist() if any(table.splits.tolist()) else None
    return {"text": table.texts, "speaker": table.speakers}.get(name)


def _with_columns(
    table: FeatureTable, added: dict[str, list[Any]], kinds: dict[str, LabelKind], meta: dict[str, Any]
) -> FeatureTable:
    """The table with new or replaced columns; the others are the same buffers."""
    known = table.schema
    schema = Schema(
        known.modalities, {**known.labels, **kinds}, known.text or "text" in added, known.speakers or "speaker" in added
    )
    arrow, wanted = table.dataset.data.table, schema.arrow()
    columns = {name: arrow.column(name) for name in arrow.column_names}
    for name, values in added.items():
        place = f"labels.{name}" if name in kinds else name
        columns[place] = pa.chunked_array([pa.array(values, wanted.field(place).type)])
    joined = pa.Table.from_arrays([columns[field.name] for field in wanted], schema=wanted)
    return FeatureTable(datasets.Dataset(datasets.table.InMemoryTable(joined)), schema, meta)
