"""From names of tables and figures to cells, runs and files."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.paper.layout import write_section
from pase_msa.paper.methods import completed
from pase_msa.paper.protocol import Protocol
from pase_msa.paper.results import Results
from pase_msa.parallel import Backend
from pase_msa.ranges import nearest
from pase_msa.report import ledger
from pase_msa.studies.cells import Cell
from pase_msa.studies.engine import run_cells
from pase_msa.studies.study import Study, study_cells
from pase_msa.studies.training_cell import study_cell

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Planned:
    """A table or figure with the cells that it needs.

    Attributes:
        name: of the plug-in.
        module: it.
        cells: of the methods that were chosen.
        chosen: its methods, or those of them that were asked for.
        offered: all its methods.
    """

    name: str
    module: ModuleType
    cells: list[Cell]
    chosen: list[str]
    offered: list[str]


def names() -> list[str]:
    """Tables and figures that can be made."""
    return plugins.names("paper")


def expand(wanted: Sequence[str]) -> dict[str, bool]:
    """Names in order, each with whether it was named itself.

    "extra" stands for what is not in the paper, "all" for everything.
    """
    available = names()
    chosen: dict[str, bool] = {}
    for name in wanted:
        if name == "all":
            members = available
        elif name == "extra":
            members = [member for member in available if not member.startswith(("table", "figure"))]
        else:
            plugins.load("paper", name)
            chosen[name] = True
            continue
        for member in members:
            chosen.setdefault(member, False)
    return chosen


def reproduce(
    wanted: Sequence[str],
    protocol: Protocol,
    *,
    out: Path,
    root: Path,
    command: Sequence[str],
    methods: Sequence[str] | None = None,
    jobs: int = 2,
    threads: int = 1,
    backend: Backend = "loky",
    progress: bool = True,
    timeout: float | None = None,
) -> tuple[list[Path], list[str]]:
    """Run what the tables and figures need, each cell once, and write them.

    Args:
        wanted: names of tables and figures, "extra", "all".
        protocol: data, split, seeds and options.
        out: folder of the files.
        root: folder of the cells and runs, shared by everything on these data.
        command: the words that repeat this, printed in the files.
        methods: only these rows of the tables, by their names without the words in brackets; all of them if None.
            Tables of some rows are to have another folder than tables of all.
        jobs: worker processes.
        threads: of each.
        backend: of the engine.
        progress: whether to show a bar.
        timeout: longest duration of a cell in seconds; None sets no limit.

    Returns:
        The Markdown files that were written, and sentences on cells that failed.

    Errors:
        PaSEError: an unknown name, a method that no table has, also among those with chosen options, or a table that
            does not fit these data or has none of the methods (left out with a warning if it was not named itself).
    """
    planned = []
    for name, explicit in expand(wanted).items():
        try:
            planned.append(_plan(name, protocol, root, methods))
        except PaSEError as error:
            if explicit:
                raise
            _log.warning("%s is left out: %s", name, error)
    if protocol.tuned is not None:
        protocol.tuned.check({str(c.labels["variant"]) for part in planned for c in part.cells}, protocol.text)
    # tables share cells: each is run once
    cells = list({(cell.key, *cell.labels.values()): cell for part in planned for cell in part.cells}.values())
    _check_methods(methods, planned)
    table = run_cells(
        cells,
        study_cell,
        root=root,
        jobs=jobs,
        threads=threads,
        backend=backend,
        progress=progress,
        title=protocol.name,
        timeout=timeout,
    )
    written, failures = [], _failures(table)
    for part in planned:
        results = Results(protocol, _rows(table, part.cells), root, part.name)
        try:
            section = part.module.build(results)
        except PaSEError as error:
            failures.append(f"{part.name} could not be made: {error}")
            continue
        if protocol.tuned is not None and part.cells:
            names = list(dict.fromkeys(str(cell.labels["variant"]) for cell in part.cells))
            section = replace(section, notes=[*section.notes, *protocol.tuned.notes(names, protocol.table)])
        about = _about(results, part, command)
        written.append(write_section(section, out, part.name, about))
        ledger.append(out / "ledger.md", _entry(part, table, root, out, command))
    return written, failures


def _plan(name: str, protocol: Protocol, root: Path, methods: Sequence[str] | None) -> _Planned:
    module = plugins.load("paper", name)
    variants = {key: completed(protocol, options, key) for key, options in module.variants(protocol).items()}
    if not variants:
        return _Planned(name, module, [], [], [])
    offered = list(variants)
    if methods is not None:
        variants = {key: options for key, options in variants.items() if key in methods}
        if not variants:
            raise PaSEError(_without(name, next(iter(methods), ""), offered))
    folders = module.datasets(protocol, root) if hasattr(module, "datasets") else [protocol.path]
    study = Study(name, variants, [], list(protocol.seeds))
    data = None if folders == [None] else [str(folder) for folder in folders]
    cells = study_cells(study, data=data, test=protocol.split == "test")
    return _Planned(name, module, cells, list(variants), offered)


def _check_methods(methods: Sequence[str] | None, planned: Sequence[_Planned]) -> None:
    """Refuse a method that none of the tables has.

    Errors:
        PaSEError: there is one; the sentence gives the nearest name.
    """
    offered = list(dict.fromkeys(name for part in planned for name in part.offered))
    tables = ", ".join(part.name for part in planned if part.offered)
    for method in methods or ():
        if method not in offered:
            raise PaSEError(_without(tables or "No table", method, offered))


def _without(tables: str, method: str, offered: Sequence[str]) -> str:
    """The sentence on a method that there is not."""
    hint = nearest(method, offered, "name some of these.")
    return f"--methods: {tables} has no {method!r}; there is {', '.join(offered) or 'nothing'}; {hint}"


def _rows(table: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """The rows of some cells."""
    if table.empty:
        return pd.DataFrame({"variant": [], "data": [], "seed": [], "status": []})
    labels = pd.DataFrame([dict(cell.labels) for cell in cells], columns=["data", "variant", "seed"])
    return labels.merge(table, on=["data", "variant", "seed"], how="inner")


def _failures(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    failed = table[table["status"] == "failed"].drop_duplicates("key")
    return [f"{row.variant}, {row.data}, seed {row.seed}: {row.error}" for row in failed.itertuples()]


def _about(results: Results, part: _Planned, command: Sequence[str]) -> list[str]:
    """What the numbers rest on: data, split, seeds, runs, methods where some were chosen, command, failures."""
    protocol, cells = results.protocol, part.cells
    marks: Mapping[str, Any] = {str(cell.labels["data"]): cell.options["data"] for cell in cells}
    data = ", ".join(f"`{name}` ({str(mark)[:16]})" for name, mark in marks.items()) or f"`{protocol.name}`"
    split = (
        "Measured on the test split, which is read once per run and chooses nothing; epochs are selected on validation."
        if protocol.split == "test"
        else "Measured on the validation split, which also selects the epochs; the test split was not read."
    )
    context = "" if protocol.context == "none" else f" Context: {protocol.context}."
    lines = [f"Data (fingerprint): {data}. Text: {protocol.text}.{context} {split}", ""]
    if cells:
        seeds = ", ".join(map(str, protocol.seeds))
        count = len({cell.key for cell in cells})
        versions = ", ".join(dict.fromkeys(results.done["versions"])) if "versions" in results.done else ""
        sentence = f"Seeds {seeds}; {count} runs, of which {len(results.failed)} failed. {versions}."
        lines += [sentence.rstrip(" .") + ".", ""]
    if len(part.chosen) < len(part.offered):
        lines += [
            f"{len(part.chosen)} of {len(part.offered)} methods were chosen; the best baseline is the best of these.",
            "",
        ]
    return [*lines, f"```bash\n{shlex.join(command)}\n```"] + [
        f"\nFailed: {sentence}" for sentence in _failures(results.failed)
    ]


def _entry(part: _Planned, table: pd.DataFrame, root: Path, out: Path, command: Sequence[str]) -> str:
    rows = _rows(table, part.cells)
    if rows.empty:
        return f"## {part.name}\n\n```bash\n{shlex.join(command)}\n```\n\nNothing was trained.\n"
    prints = {str(cell.labels["data"]): str(cell.options["data"]) for cell in part.cells}
    return ledger.ledger_entry(rows, root, title=part.name, command=command, fingerprints=prints, place=out)
