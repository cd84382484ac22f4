"""The cell of a study: a run that is trained (or resumed) and evaluated, or the ridge baseline, which is solved."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from pase_msa.evaluation.evaluate import evaluate
from pase_msa.files import make_folder, read_json
from pase_msa.studies.cells import Cell
from pase_msa.studies.ridge_baseline import RIDGE, solve_ridge
from pase_msa.training.config import RunConfig
from pase_msa.training.run import train
from pase_msa.training.run_folder import RunFolder


def train_and_evaluate(
    options: Mapping[str, Any], data: str | None, seed: int, out: str | Path, test: bool
) -> dict[str, Any]:
    """Train a run, resume it, or take it as it is where it is finished; then evaluate it.

    Args:
        options: of the run, as in a YAML file; the model "ridge" is solved and leaves no run folder.
        data: folder or file; None is the synthetic benchmark.
        seed: of the run.
        out: run folder.
        test: whether to evaluate on the test split.

    Returns:
        Metrics "test" (None without `test`) and "valid"; "seconds" of training (of the last session of a resumed run),
        "seconds_an_epoch", "epochs", "best_epoch", "parameters", "phases", "psi".
    """
    if options.get("model", {}).get("name") == RIDGE:
        return solve_ridge(
            data,
            options.get("modalities"),
            label=options.get("label"),
            context=options.get("context", "none"),
            context_of=options.get("context_of"),
            test=test,
        )
    folder = RunFolder(out)
    make_folder(folder.path.parent)
    # locked, because a study that only validates and one that tests share the run
    with FileLock(folder.path.with_name(f".{folder.path.name}.lock")):
        if not folder.results.is_file():
            train(RunConfig.from_options(options, data=data, seed=seed, out=str(out)), progress=False)
        # what a run needs to go on, and a second copy of the weights: six times the model, for each of hundreds of runs
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        results = read_json(folder.results)
        metrics = evaluate(folder.path, data=data)["metrics"] if test else None
    return {
        "test": metrics,
        "valid": results["validation"],
        "seconds": results["seconds"],
        "seconds_an_epoch": round(results["seconds"] / max(results["epochs"], 1), 4),
        "epochs": results["epochs"],
        "best_epoch": results["best_epoch"],
        "parameters": results["parameters"],
        "phases": results["phases"],
        "psi": results["balancing"][-1].get("psi", {}) if results["balancing"] else {},
    }


def study_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """The cell function of `run_study`."""
    options, local = cell.options, cell.local
    out = folder.parent.parent / "runs" / local["run"]
    result = train_and_evaluate(options["run"], local["data"], options.get("seed", 0), out, options["test"])
    result = {name: value for name, value in result.items() if value is not None}
    # "seconds" is the column of the engine, which counts the evaluation too
    result["training_seconds"] = result.pop("seconds")
    return {**result, "run": f"runs/{local['run']}" if out.is_dir() else None}
