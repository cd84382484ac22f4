"""A cell: one unit of work with a key of its own, a folder of its own, and one row in the table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.files import read_json, replacing

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Cell:
    """A unit of work of a study.

    Attributes:
        options: all that the result depends on, in plain containers that JSON can hold; the key is a hash of them.
        labels: what the cell is called in the table, a column each; its result does not depend on them.
        local: what the function needs besides, such as where the data are on this machine; not part of the key.
    """

    options: Mapping[str, Any]
    labels: Mapping[str, Scalar] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits that follow from the options."""
        return stable_key(self.options)

    @property
    def title(self) -> str:
        """The labels in one line, for people."""
        return ", ".join(value if isinstance(value, str) else f"{name} {value}" for name, value in self.labels.items())

    def folder(self, home: Path) -> Path:
        """Where its result lies."""
        return home / "cells" / self.key


def stable_key(options: Mapping[str, Any]) -> str:
    """A hash of plain containers that is the same in every process and on every machine.

    Errors:
        PaSEError: something in them is not plain.
    """
    try:
        text = json.dumps(options, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PaSEError(
            f"The options of a cell must be plain numbers, strings, lists and mappings: {error}."
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def finished(cell: Cell, home: Path) -> dict[str, Any] | None:
    """What a finished cell left, or None."""
    file = cell.folder(home) / "result.json"
    if not file.is_file():
        return None
    found: dict[str, Any] = read_json(file)
    if found["options"] != json.loads(json.dumps(cell.options)):
        raise PaSEError(f"{file} holds the result of another cell; give the study a folder of its own with --out.")
    return found


def failure(cell: Cell, home: Path) -> str | None:
    """The sentence that a failed cell left, or None."""
    file = cell.folder(home) / "error.json"
    return str(read_json(file)["error"]) if file.is_file() else None


def row(cell: Cell, home: Path) -> dict[str, Scalar] | None:
    """The line of a finished or failed cell in the table, None for one that is neither."""
    found = finished(cell, home)
    if found is not None:
        about = {name: found[name] for name in ("seconds", "peak_memory_mb", "host", "versions")}
        return {**cell.labels, "key": cell.key, "status": "done", "error": None, **flat(found["result"]), **about}
    error = failure(cell, home)
    return None if error is None else {**cell.labels, "key": cell.key, "status": "failed", "error": error}


def flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Nested mappings as columns "outer/inner"; lists as JSON."""
    columns: dict[str, Scalar] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            columns |= flat(value, f"{prefix}{name}/")
        else:
            columns[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return columns


def write_table(rows: Sequence[Mapping[str, Scalar]], home: Path) -> pd.DataFrame:
    """`table.parquet` and `table.csv`, each written whole or not at all."""
    table = pd.DataFrame(list(rows))
    for name in [name for name, kind in table.dtypes.items() if pd.api.types.is_object_dtype(kind)]:
        kinds = {type(value) for value in table[name] if value is not None and value == value}
        if len(kinds) > 1:  # a column of Parquet has one type
            table[name] = [None if value is None or value != value else str(value) for value in table[name]]
    writers: dict[str, Callable[[Path], Any]] = {
        "table.parquet": lambda path: table.to_parquet(path, index=False),
        "table.csv": lambda path: table.to_csv(path, index=False),
    }
    for file, write in writers.items():
        with replacing(home / file) as partial:
            write(partial)
    return table
