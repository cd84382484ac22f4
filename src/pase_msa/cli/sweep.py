"""`pase sweep`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path


def sweep(
    sweep: str,
    *,
    trials: int = 40,
    data: str | None = None,
    out: str | None = None,
    seed: int = 0,
    jobs: int = 2,
    threads: int = 1,
    timeout: float | None = None,
) -> None:
    """Search options by validation with Optuna, in parallel and resumable.

    Args:
        sweep: YAML file with base, space, and optionally data.
        trials: number in all, those of earlier calls included.
        data: folder or file, in place of the sweep's.
        out: folder of the sweep; runs/NAME if left out.
        seed: of the search.
        jobs: worker processes.
        threads: of each worker; jobs x threads is the number of cores in use.
        timeout: longest duration of a trial in seconds; one that takes longer has failed. No limit if left out.
    """
    from pase_msa.studies.sweep import best_trials, importances, read_sweep, run_sweep

    plan = read_sweep(sweep)
    plan = plan if data is None else replace(plan, data=data)
    root = Path(out or f"runs/{plan.name}")
    progress = sys.stderr.isatty()
    table = run_sweep(
        plan, root, trials=trials, jobs=jobs, threads=threads, seed=seed, progress=progress, timeout=timeout
    )
    counts = table["state"].value_counts()
    print("\n".join(best_trials(table, plan)))
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    for name, share in importances(root).items():
        print(f"{name}: {100 * share:.0f} % of the spread")
    print(f"trials: {root / 'trials.csv'}\nnext: pase train {root / 'best.yaml'}")
