"""The results of a study as Markdown: a table by data set, and an entry for a ledger that says what it rests on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pase_msa.files import write_text
from pase_msa.report.numbers import SHOWN, mean_sd


def reported_metrics(table: pd.DataFrame, split: str) -> list[str]:
    """The metrics of a split that tables have as columns, by kind of task."""
    names = [name for kind in SHOWN.values() for name in kind if f"{split}/{name}" in table.columns]
    return [name for name in names if table[f"{split}/{name}"].notna().any()]


def render_split(table: pd.DataFrame, split: str) -> str:
    """One line per variant: mean ± standard deviation over its seeds, in Markdown."""
    metrics = reported_metrics(table, split)
    lines = [f"| variant | {' | '.join(metrics)} | runs |", "| --- |" + " --- |" * (len(metrics) + 1)]
    for name, rows in table.groupby("variant", sort=False):
        cells = [mean_sd(rows[f"{split}/{metric}"], metric) for metric in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} | {len(rows)} |")
    return "\n".join(lines)


def render(table: pd.DataFrame) -> str:
    """The finished cells of a study by data set and split."""
    if "key" not in table or table.empty:
        return "No cell is finished."
    done = table[table["status"] == "done"]
    parts = []
    for data, rows in done.groupby("data", sort=False):
        for split, description in (
            ("test", "test split, read once per run"),
            ("valid", "validation split, which selects epochs"),
        ):
            if reported_metrics(rows, split):
                parts += [f"`{data}`, {description}:", render_split(rows, split)]
    return "\n\n".join(parts) or "No cell is finished."


def ledger_entry(
    table: pd.DataFrame, root: Path, *, title: str, command: Sequence[str], fingerprints: dict[str, str], place: Path
) -> str:
    """An entry: data with fingerprint, seeds, cells, tables, failures, the command that repeats it, links to the runs.

    Args:
        table: of `run_study`.
        root: folder of the study.
        title: of the entry.
        command: words of the command that repeats the study.
        fingerprints: of the data, by name.
        place: folder of the file that the entry is for; links are relative to it.
    """
    seeds = ", ".join(map(str, sorted(table["seed"].unique())))
    failed = table[table["status"] == "failed"]
    data = ", ".join(f"`{name}` ({mark[:16]})" for name, mark in fingerprints.items())
    versions = ", ".join(dict.fromkeys(table["versions"].dropna())) if "versions" in table else "unknown"
    lines = [
        f"## {title}",
        "",
        f"```bash\n{shlex.join(command)}\n```",
        "",
        f"Data (fingerprint): {data}. Seeds: {seeds}. Cells: {len(table)}, of which {len(failed)} failed. {versions}.",
        "Mean ± standard deviation over seeds; epochs selected on validation.",
        "",
        render(table),
        "",
    ]
    lines += [f"Failed: {row.data}, {row.variant}, seed {row.seed}: {row.error}" for row in failed.itertuples()]
    if "run" in table:
        runs = table.dropna(subset=["run"])
        for variant, rows in runs.groupby("variant", sort=False):
            links = (f"[{row.data} {row.seed}]({_link(root / str(row.run), place)})" for row in rows.itertuples())
            lines.append(f"- {variant}: {', '.join(links)}")
    return "\n".join(lines).rstrip() + "\n"


def _link(target: Path, place: Path) -> str:
    return Path(os.path.relpath(target, place)).as_posix()


def append(ledger: Path, entry: str) -> None:
    """Add an entry to a ledger at its end; the same entry is not added twice."""
    before = ledger.read_text() if ledger.is_file() else "# Ledger\n"
    if entry not in before:
        write_text(ledger, f"{before.rstrip()}\n\n{entry}")
