"""`reproduce`: from names of tables and figures to cells, runs, and files."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.parallel import Backend
from pase_msa.report import ledger
from pase_msa.reproduce.layout import write_part
from pase_msa.reproduce.methods import completed
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.subject import Subject
from pase_msa.studies.cells import Cell
from pase_msa.studies.engine import run_cells
from pase_msa.studies.study import Study, study_cells
from pase_msa.studies.training_cell import study_cell

_log = logging.getLogger(__name__)
GROUPS = ("beyond", "all")


@dataclass(frozen=True)
class _Planned:
    name: str
    module: ModuleType
    cells: list[Cell]


def names() -> list[str]:
    """Tables and figures that can be made."""
    return plugins.names("reproduce")


def expand(wanted: Sequence[str]) -> dict[str, bool]:
    """Names in order, each with whether it was asked for by itself; "beyond" and "all" stand for several."""
    known = names()
    found: dict[str, bool] = {}
    for name in wanted:
        if name == "all":
            members = known
        elif name == "beyond":
            members = [member for member in known if not member.startswith(("table", "figure"))]
        else:
            plugins.load("reproduce", name)
            found[name] = True
            continue
        for member in members:
            found.setdefault(member, False)
    return found


def reproduce(
    wanted: Sequence[str],
    subject: Subject,
    *,
    out: Path,
    home: Path,
    command: Sequence[str],
    jobs: int = 2,
    threads: int = 1,
    backend: Backend = "loky",
    progress: bool = True,
) -> tuple[list[Path], list[str]]:
    """Run what the tables and figures need, each cell once, and write them.

    Args:
        wanted: names of tables and figures, "beyond", "all".
        subject: data and protocol.
        out: folder of the files.
        home: folder of the cells and runs, shared by everything about these data.
        command: that repeats this, for the files.
        jobs: worker processes.
        threads: of each.
        backend: of the engine.
        progress: show a bar.

    Returns:
        The Markdown files that were written, and sentences on cells that failed.

    Errors:
        PaSEError: an unknown name, or a table that these data do not fit (left out with a warning where it was not
            asked for by itself).
    """
    planned = []
    for name, explicit in expand(wanted).items():
        try:
            planned.append(_plan(name, subject, home))
        except PaSEError as error:
            if explicit:
                raise
            _log.warning("%s is left out: %s", name, error)
    cells = list({(cell.key, *cell.labels.values()): cell for part in planned for cell in part.cells}.values())
    table = run_cells(
        cells,
        study_cell,
        home=home,
        jobs=jobs,
        threads=threads,
        backend=backend,
        progress=progress,
        title=subject.name,
    )
    written, failures = [], _failures(table)
    for part in planned:
        found = Results(subject, _rows(table, part.cells), home, part.name)
        try:
            made = part.module.build(found)
        except PaSEError as error:
            failures.append(f"{part.name} could not be made: {error}")
            continue
        about = _about(found, part.cells, command)
        written.append(write_part(made, out, part.name, about))
        ledger.append(out / "ledger.md", _entry(found, part, table, home, out, command))
    return written, failures


def _plan(name: str, subject: Subject, home: Path) -> _Planned:
    module = plugins.load("reproduce", name)
    variants = {key: completed(subject, options) for key, options in module.variants(subject).items()}
    folders = module.datasets(subject, home) if hasattr(module, "datasets") else [subject.path]
    if not variants:
        return _Planned(name, module, [])
    study = Study(name, variants, [], list(subject.seeds))
    data = None if folders == [None] else [str(folder) for folder in folders]
    cells = study_cells(study, data=data, test=subject.split == "test")
    return _Planned(name, module, cells)


def _rows(table: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """The rows of some cells."""
    if table.empty:
        return pd.DataFrame({"variant": [], "data": [], "seed": [], "status": []})
    mine = pd.DataFrame([dict(cell.labels) for cell in cells], columns=["data", "variant", "seed"])
    return mine.merge(table, on=["data", "variant", "seed"], how="inner")


def _failures(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    failed = table[table["status"] == "failed"].drop_duplicates("key")
    return [f"{row.variant}, {row.data}, seed {row.seed}: {row.error}" for row in failed.itertuples()]


def _about(found: Results, cells: Sequence[Cell], command: Sequence[str]) -> list[str]:
    """What the numbers rest on."""
    subject = found.subject
    marks: Mapping[str, Any] = {str(cell.labels["data"]): cell.options["data"] for cell in cells}
    data = ", ".join(f"`{name}` ({str(mark)[:16]})" for name, mark in marks.items()) or f"`{subject.name}`"
    split = (
        "Measured on the test split, which is read once a run and chooses nothing; epochs are selected on validation."
        if subject.split == "test"
        else "Measured on the validation split, which also selects the epochs; the test split was not read."
    )
    seeds = ", ".join(map(str, subject.seeds))
    count = len({cell.key for cell in cells})
    versions = ", ".join(dict.fromkeys(found.done["versions"])) if "versions" in found.done else ""
    lines = [f"Data (fingerprint): {data}. Text: {subject.text}. {split}", ""]
    if cells:
        lines += [f"Seeds {seeds}; {count} runs, of which {len(found.failed)} failed. {versions}.".rstrip(" ."), ""]
        lines[-2] += "."
    return [*lines, f"```bash\n{shlex.join(command)}\n```"] + [
        f"\nFailed: {sentence}" for sentence in _failures(found.failed)
    ]


def _entry(found: Results, part: _Planned, table: pd.DataFrame, home: Path, out: Path, command: Sequence[str]) -> str:
    rows = _rows(table, part.cells)
    if rows.empty:
        return f"## {part.name}\n\n```bash\n{shlex.join(command)}\n```\n\nNothing was trained.\n"
    prints = {str(cell.labels["data"]): str(cell.options["data"]) for cell in part.cells}
    return ledger.ledger_entry(rows, home, title=part.name, command=command, fingerprints=prints, place=out)
