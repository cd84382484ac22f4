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
    """Search options by validation with Optuna, of one method or of many, in parallel and resumable.

    Args:
        sweep: YAML file with base, space, and optionally data and methods.
        trials: number in all, or of each method, those of earlier calls included.
        data: folder or file, in place of the sweep's.
        out: folder of the sweep; runs/NAME if left out.
        seed: of the search.
        jobs: worker processes.
        threads: of each worker; jobs x threads is the number of cores in use.
        timeout: longest duration of a trial in seconds; one that takes longer has failed. No limit if left out.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.studies.method_sweep import method_lines, run_method_sweep
    from pase_msa.studies.sweep import best_trials, importances, read_sweep, run_sweep

    plan = read_sweep(sweep)
    plan = plan if data is None else replace(plan, data=data)
    root = Path(out or f"runs/{plan.name}")
    search = run_sweep if plan.methods is None else run_method_sweep
    table = search(
        plan,
        root,
        trials=trials,
        jobs=jobs,
        threads=threads,
        seed=seed,
        progress=sys.stderr.isatty(),
        timeout=timeout,
    )
    if plan.methods is not None:
        print("\n".join(method_lines(table)))
        words = "" if plan.data is None else f" --data {plan.data}"
        options = root / "options.yaml"
        print(f"methods: {root / 'methods.csv'}\nnext: pase reproduce table1{words} --tuned {options}")
        short = table[table["complete"] + table["pruned"] < trials]
        if len(short):
            reasons = "; ".join(
                f"{row.method} has {row.complete + row.pruned} trials of {trials} ({str(row.error).rstrip('.')})"
                for row in short.itertuples()
            )
            raise PaSEError(f"Not finished: {reasons}. The same command makes up for trials that failed.")
        return
    counts = table["state"].value_counts()
    print("\n".join(best_trials(table, plan)))
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    for name, share in importances(root).items():
        print(f"{name}: {100 * share:.0f} % of the spread")
    print(f"trials: {root / 'trials.csv'}\nnext: pase train {root / 'best.yaml'}")
