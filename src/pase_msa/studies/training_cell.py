"""The cell of a study: a run that is trained (or resumed) and evaluated, or a baseline that is solved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from pase_msa.evaluation.evaluate import evaluate
from pase_msa.files import read_json
from pase_msa.studies.cells import Cell
from pase_msa.studies.ridge import ridge
from pase_msa.training.config import RunConfig
from pase_msa.training.run import train
from pase_msa.training.run_folder import RunFolder


def train_and_evaluate(
    options: Mapping[str, Any], data: str | None, seed: int, out: str | Path, test: bool
) -> dict[str, Any]:
    """Train, or resume, or find trained; evaluate on the test split only if asked.

    Args:
        options: of the run, as in a YAML; the model "ridge" is solved and leaves no run folder.
        data: folder or file; None is the synthetic benchmark.
        seed: of the run.
        out: run folder.
        test: read the test split, once.

    Returns:
        "test" (None if it was not asked for) and "valid": metrics; "seconds" of training (of its last session, where it
        was resumed), "seconds_an_epoch", "epochs", "best_epoch", "parameters", "phases", "psi".
    """
    if options.get("model", {}).get("name") == "ridge":
        return ridge(data, options.get("modalities"), label=options.get("label"), test=test)
    folder = RunFolder(out)
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    # a study that only validates and one that tests share the run
    with FileLock(folder.path.with_name(f".{folder.path.name}.lock")):
        if not folder.results.is_file():
            train(RunConfig.from_options(options, data=data, seed=seed, out=str(out)), progress=False)
        done = read_json(folder.results)
        metrics = evaluate(folder.path, data=data)["metrics"] if test else None
    return {
        "test": metrics,
        "valid": done["validation"],
        "seconds": done["seconds"],
        "seconds_an_epoch": round(done["seconds"] / max(done["epochs"], 1), 4),
        "epochs": done["epochs"],
        "best_epoch": done["best_epoch"],
        "parameters": done["parameters"],
        "phases": done["phases"],
        "psi": done["balancing"][-1].get("psi", {}) if done["balancing"] else {},
    }


def study_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """The cell function of `run_study`."""
    options, local = cell.options, cell.local
    out = folder.parent.parent / "runs" / local["run"]
    found = train_and_evaluate(options["run"], local["data"], options.get("seed", 0), out, options["test"])
    found = {name: value for name, value in found.items() if value is not None}
    # the engine's own seconds count the evaluation too
    found["training_seconds"] = found.pop("seconds")
    return {**found, "run": f"runs/{local['run']}" if out.is_dir() else None}
