"""A cell of a study: one unit of work, with a key, a folder and a row in the table of its own."""

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
        options: everything that the result depends on, in plain containers that JSON can hold; the key is their hash.
        labels: columns that name the cell in the table; its result does not depend on them.
        local: what the function needs besides, such as the path of the data on this machine; not part of the key.
    """

    options: Mapping[str, Any]
    labels: Mapping[str, Scalar] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits of the hash of the options."""
        return stable_key(self.options)

    @property
    def title(self) -> str:
        """The labels in one line."""
        return ", ".join(value if isinstance(value, str) else f"{name} {value}" for name, value in self.labels.items())

    def folder(self, root: Path) -> Path:
        """The folder of its result, in the folder of the study."""
        return root / "cells" / self.key


def stable_key(options: Mapping[str, Any]) -> str:
    """A hash of plain containers; the same in every process and on every machine.

    Errors:
        PaSEError: the options hold something that JSON cannot.
    """
    try:
        text = json.dumps(options, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PaSEError(
            f"The options of a cell must be plain numbers, strings, lists and mappings: {error}."
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def finished(cell: Cell, root: Path) -> dict[str, Any] | None:
    """The content of a finished cell's `result.json`, or None.

    Errors:
        PaSEError: the folder holds the result of other options.
    """
    file = cell.folder(root) / "result.json"
    if not file.is_file():
        return None
    content: dict[str, Any] = read_json(file)
    if content["options"] != json.loads(json.dumps(cell.options)):
        raise PaSEError(f"{file} holds the result of another cell; give the study a folder of its own with --out.")
    return content


def failure(cell: Cell, root: Path) -> str | None:
    """The error of a failed cell in one sentence, or None."""
    file = cell.folder(root) / "error.json"
    return str(read_json(file)["error"]) if file.is_file() else None


def row(cell: Cell, root: Path) -> dict[str, Scalar] | None:
    """The row of a finished or failed cell in the table; None for a cell that is neither."""
    content = finished(cell, root)
    if content is not None:
        circumstances = {name: content[name] for name in ("seconds", "peak_memory_mb", "host", "versions")}
        columns = flat(content["result"])
        return {**cell.labels, "key": cell.key, "status": "done", "error": None, **columns, **circumstances}
    error = failure(cell, root)
    return None if error is None else {**cell.labels, "key": cell.key, "status": "failed", "error": error}


def flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """A result as columns: nested mappings become "outer/inner", lists become JSON."""
    columns: dict[str, Scalar] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            columns |= flat(value, f"{prefix}{name}/")
        else:
            columns[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return columns


def write_table(rows: Sequence[Mapping[str, Scalar]], root: Path) -> pd.DataFrame:
    """Write `table.parquet` and `table.csv` in the folder of the study, each whole or not at all."""
    table = pd.DataFrame(list(rows))
    for name in [name for name, kind in table.dtypes.items() if pd.api.types.is_object_dtype(kind)]:
        kinds = {type(value) for value in table[name] if value is not None and value == value}
        if len(kinds) > 1:  # a column of Parquet has one type, so that mixed ones become text
            table[name] = [None if value is None or value != value else str(value) for value in table[name]]
    writers: dict[str, Callable[[Path], Any]] = {
        "table.parquet": lambda path: table.to_parquet(path, index=False),
        "table.csv": lambda path: table.to_csv(path, index=False),
    }
    for file, write in writers.items():
        with replacing(root / file) as partial:
            write(partial)
    return table
