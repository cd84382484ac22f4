"""`pase study`, `pase compare`, `pase sweep`: options and what is printed."""

from __future__ import annotations

import json as json_format
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonargparse

from pase_msa.errors import PaSEError


@dataclass(frozen=True)
class Command:
    """A command with options that a signature cannot say (repeated ones).

    Attributes:
        help: one line.
        options: adds them to a parser.
        run: is given their values.
    """

    help: str
    options: Callable[[jsonargparse.ArgumentParser], None]
    run: Callable[..., None]


def parallel(parser: jsonargparse.ArgumentParser) -> None:
    """Add the options of the engine."""
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--threads", type=int, default=1, help="of each worker; jobs x threads is the budget of cores")
    parser.add_argument("--backend", choices=("loky", "ray"), default="loky", help="this machine, or a Ray cluster")


def _study_options(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("study", type=str, help="YAML with base, variants, and optionally data and seeds")
    parser.add_argument("--data", type=str, action="append", help="folder or file; repeat it for several")
    parser.add_argument("--seeds", type=int, help="seeds 1 to this, in place of the study's")
    parser.add_argument("--only", type=str, action="append", help="a variant; repeat it for several; all if left out")
    parser.add_argument("--validation-only", action="store_true", help="do not read the test split")
    parser.add_argument("--out", type=str, help="folder of the study; runs/NAME if left out")
    parser.add_argument("--ledger", type=str, help="Markdown file that the entry is appended to")
    parallel(parser)


def study(
    study: str,
    data: list[str] | None = None,
    seeds: int | None = None,
    only: list[str] | None = None,
    validation_only: bool = False,
    out: str | None = None,
    ledger: str | None = None,
    jobs: int = 2,
    threads: int = 1,
    backend: Any = "loky",
) -> None:
    """Run a study, print its table, write its ledger entry."""
    from pase_msa.files import write_text
    from pase_msa.report import ledger as entries
    from pase_msa.studies.engine import run_cells
    from pase_msa.studies.study import read_study, study_cells
    from pase_msa.studies.training_cell import study_cell

    plan = read_study(study)
    home = Path(out or f"runs/{plan.name}")
    cells = study_cells(plan, data=data, seeds=seeds, only=only, test=not validation_only)
    table = run_cells(
        cells,
        study_cell,
        home=home,
        jobs=jobs,
        threads=threads,
        backend=backend,
        progress=sys.stderr.isatty(),
        title=plan.name,
    )
    about: dict[str, Any] = {
        "title": plan.name,
        "command": _command(study, data, seeds, only, validation_only, out),
        "fingerprints": {str(cell.labels["data"]): str(cell.options["data"]) for cell in cells},
    }
    write_text(home / "ledger.md", entries.ledger_entry(table, home, place=home, **about))
    if ledger is not None:
        entries.append(Path(ledger), entries.ledger_entry(table, home, place=Path(ledger).parent, **about))
    print(f"{entries.render(table)}\n\ntable: {home / 'table.csv'}\nledger entry: {home / 'ledger.md'}")
    failed = table[table["status"] == "failed"]
    if len(failed):
        said = "; ".join(f"{row.variant}, {row.data}, seed {row.seed}: {row.error}" for row in failed.itertuples())
        raise PaSEError(
            f"{len(failed)} of {len(table)} cells failed ({said}); details are in {home / 'cells'}, and the same "
            "command tries them again."
        )


def _command(
    study: str,
    data: list[str] | None,
    seeds: int | None,
    only: list[str] | None,
    validation_only: bool,
    out: str | None,
) -> list[str]:
    """The command that repeats a study."""
    words = ["pase", "study", study]
    for option, values in (("--data", data or []), ("--only", only or [])):
        words += [word for value in values for word in (option, value)]
    words += [] if seeds is None else ["--seeds", str(seeds)]
    words += ["--validation-only"] if validation_only else []
    return words + ([] if out is None else ["--out", out])


def _compare_options(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=str, nargs="+", help="run folders: A and B, or all of A with --against")
    parser.add_argument("--against", type=str, nargs="+", help="run folders of B, paired with A by seed")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def compare(runs: list[str], against: list[str] | None = None, json: bool = False) -> None:
    """Compare evaluated runs and print the verdicts."""
    from pase_msa.evaluation.compare import compare as compare_runs
    from pase_msa.report.terminal import render_comparison

    if against is None and len(runs) != 2:
        raise PaSEError(
            f"A comparison wants two run folders, or several and as many after --against; found {len(runs)}."
        )
    found = compare_runs(runs, against) if against is not None else compare_runs(runs[:1], runs[1:])
    print(_strict(found) if json else render_comparison(found))


def _strict(found: dict[str, Any]) -> str:
    for entry in found["metrics"].values():
        entry.update({k: None for k, v in entry.items() if isinstance(v, float) and not math.isfinite(v)})
    return json_format.dumps(found, allow_nan=False)


def _sweep_options(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("sweep", type=str, help="YAML with base, space, and optionally data")
    parser.add_argument("--trials", type=int, default=40, help="in all, those of earlier calls included")
    parser.add_argument("--data", type=str, help="folder or file, in place of the sweep's")
    parser.add_argument("--out", type=str, help="folder of the sweep; runs/NAME if left out")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--threads", type=int, default=1, help="of each worker")


def sweep(
    sweep: str,
    trials: int = 40,
    data: str | None = None,
    out: str | None = None,
    seed: int = 0,
    jobs: int = 2,
    threads: int = 1,
) -> None:
    """Run a sweep and print its best trials."""
    from pase_msa.studies.sweep import importances, read_sweep, run_sweep, shown

    plan = read_sweep(sweep)
    plan = plan if data is None else replace(plan, data=data)
    home = Path(out or f"runs/{plan.name}")
    progress = sys.stderr.isatty()
    table = run_sweep(plan, home, trials=trials, jobs=jobs, threads=threads, seed=seed, progress=progress)
    counts = table["state"].value_counts()
    print("\n".join(shown(table, plan)))
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    for name, share in importances(home).items():
        print(f"{name}: {100 * share:.0f} % of the spread")
    print(f"trials: {home / 'trials.csv'}\nnext: pase train {home / 'best.yaml'}")


COMMANDS = {
    "study": Command("Run variants x seeds x data sets in parallel, each once, as one table.", _study_options, study),
    "compare": Command("Compare evaluated runs: paired bootstrap and permutation test.", _compare_options, compare),
    "sweep": Command("Search options by validation with Optuna, in parallel and resumable.", _sweep_options, sweep),
}
