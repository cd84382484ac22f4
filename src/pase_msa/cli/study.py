"""`pase study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal


def study(
    study: str,
    *,
    data: list[str] | None = None,
    seeds: int | None = None,
    only: list[str] | None = None,
    validation_only: bool = False,
    out: str | None = None,
    ledger: str | None = None,
    jobs: int = 2,
    threads: int = 1,
    backend: Literal["loky", "ray"] = "loky",
    timeout: float | None = None,
) -> None:
    """Run variants x seeds x data sets in parallel, each once, as one table.

    Args:
        study: YAML file with base, variants, and optionally data and seeds.
        data: folders or files; repeat the option for several.
        seeds: number of seeds, 1 to this, in place of the study's.
        only: variants to run; all if left out.
        validation_only: do not read the test split.
        out: folder of the study; runs/NAME if left out.
        ledger: Markdown file that the entry is appended to.
        jobs: worker processes.
        threads: of each worker; jobs x threads is the number of cores in use.
        backend: loky for processes of this machine, ray for a Ray cluster.
        timeout: longest duration of a cell in seconds; one that takes longer has failed. No limit if left out.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.files import write_text
    from pase_msa.report import ledger as entries
    from pase_msa.studies.engine import run_cells
    from pase_msa.studies.study import read_study, study_cells
    from pase_msa.studies.training_cell import study_cell

    plan = read_study(study)
    root = Path(out or f"runs/{plan.name}")
    cells = study_cells(plan, data=data, seeds=seeds, only=only, test=not validation_only)
    table = run_cells(
        cells,
        study_cell,
        root=root,
        jobs=jobs,
        threads=threads,
        backend=backend,
        progress=sys.stderr.isatty(),
        title=plan.name,
        timeout=timeout,
    )
    about: dict[str, Any] = {
        "title": plan.name,
        "command": _command(study, data, seeds, only, validation_only, out),
        "fingerprints": {str(cell.labels["data"]): str(cell.options["data"]) for cell in cells},
    }
    write_text(root / "ledger.md", entries.ledger_entry(table, root, place=root, **about))
    if ledger is not None:
        entries.append(Path(ledger), entries.ledger_entry(table, root, place=Path(ledger).parent, **about))
    print(f"{entries.render(table)}\n\ntable: {root / 'table.csv'}\nledger entry: {root / 'ledger.md'}")
    failed = table[table["status"] == "failed"]
    if len(failed):
        reasons = "; ".join(f"{row.variant}, {row.data}, seed {row.seed}: {row.error}" for row in failed.itertuples())
        raise PaSEError(
            f"{len(failed)} of {len(table)} cells failed ({reasons}); details are in {root / 'cells'}, and the same "
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
