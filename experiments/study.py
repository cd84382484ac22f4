"""A study: variants of a configuration x seeds, each trained and evaluated once, as one table.

    python -m experiments.study experiments/frozen.yaml --data ../shared/data/mosi --seeds 5 --jobs 2

Every cell is a run folder under `runs/STUDY/DATA/`; a finished one is never run again, an unfinished one is resumed.
The table (mean and standard deviation over seeds, test split, percent where the field prints percent) goes to
`experiments/results/STUDY-DATA.md`, the single values to the CSV beside it. With `--validation-only` the test split is
not read at all: that is for choosing between variants.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

import yaml
from joblib import Parallel, delayed

from experiments.ridge import ridge_cell

SHOWN = ("acc2_nonneg", "acc2_negpos", "f1_nonneg", "f1_negpos", "acc7", "mae", "corr")


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`, nested mappings merged."""
    result = dict(base)
    for key, value in change.items():
        deep = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if deep else value
    return result


def cell(options: dict[str, Any], data: str, seed: int, out: str, test: bool) -> dict[str, Any]:
    """Train (or resume) and evaluate one cell, in a worker process."""
    import torch

    from pase_msa.encoders.text import TextConfig
    from pase_msa.evaluation.evaluate import evaluate
    from pase_msa.training.config import RunConfig, TrainingConfig
    from pase_msa.training.phases import PhaseConfig
    from pase_msa.training.run import train
    from pase_msa.training.run_folder import RunFolder, read_json

    torch.set_num_threads(1)
    if options.get("model", {}).get("name") == "ridge":
        return ridge_cell(data, options.get("modalities"))
    nested = {"text": TextConfig, "training": TrainingConfig, "phases": PhaseConfig}
    plain = {key: nested[key](**value) if key in nested else value for key, value in options.items()}
    folder = RunFolder(out)
    if not folder.results.is_file():
        train(RunConfig(data=data, seed=seed, out=out, **plain), progress=False)
    done = read_json(folder.results)
    return {
        "test": evaluate(out)["metrics"] if test else None,
        "valid": done["validation"],
        "seconds": done["seconds"],
        "epochs": done["epochs"],
        "parameters": done["parameters"],
        "phases": done["phases"],
        "psi": done["modulation"][-1].get("psi", {}) if done["modulation"] else {},
    }


def held(data: str) -> set[str]:
    """Modalities of the data, transcripts included."""
    from pase_msa.data import open_table

    table = open_table(data)
    return set(table.modalities) | ({"text"} if table.schema.text else set())


def run(
    study: Path, data: str, seeds: list[int], jobs: int, only: list[str] | None, test: bool
) -> list[dict[str, Any]]:
    """All cells, in parallel; one row a cell."""
    content = yaml.safe_load(study.read_text())
    modalities = held(data)
    variants = {
        name: merge(content.get("base", {}), change or {})
        for name, change in content["variants"].items()
        if set((change or {}).get("modalities") or []) <= modalities and (only is None or name in only)
    }
    home = Path("runs") / study.stem / Path(data).name
    cells = []
    for name, options in variants.items():
        for seed in seeds:
            slug = name.replace(" ", "").replace("-", "_minus_")
            cells.append((name, seed, options, str(home / f"{slug}-seed{seed}")))
    found = Parallel(n_jobs=jobs, verbose=5)(
        delayed(cell)(options, data, seed, out, test) for _, seed, options, out in cells
    )
    return [{"variant": name, "seed": seed, **row} for (name, seed, _, _), row in zip(cells, found, strict=True)]


def render(rows: list[dict[str, Any]], split: str) -> str:
    """A Markdown table: one line a variant, mean ± standard deviation over its seeds."""
    lines = ["| variant | " + " | ".join(SHOWN) + " |", "| --- |" + " --- |" * len(SHOWN)]
    for name in dict.fromkeys(row["variant"] for row in rows):
        texts = []
        for metric in SHOWN:
            scale = 1 if metric in ("mae", "corr") else 100
            values = [scale * row[split][metric] for row in rows if row["variant"] == name]
            digits = 3 if scale == 1 else 1
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            texts.append(f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}")
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, help="YAML with `base` and `variants`")
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to this")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, one thread each")
    parser.add_argument("--validation-only", action="store_true", help="do not read the test split")
    parser.add_argument("--only", nargs="*", help="some variants only")
    options = parser.parse_args()
    seeds = list(range(1, options.seeds + 1))
    test = not options.validation_only
    rows = run(options.study, options.data, seeds, options.jobs, options.only, test)
    splits = ("test", "valid") if test else ("valid",)
    target = Path("experiments/results") / f"{options.study.stem}-{Path(options.data).name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = f"# {options.study.stem} on {Path(options.data).name}, seeds 1 to {options.seeds}\n\n"
    if test:
        text += f"Test split, read once a run; epochs selected on validation.\n\n{render(rows, 'test')}\n\n"
    text += f"Validation split, by which epochs were selected.\n\n{render(rows, 'valid')}\n"
    target.with_suffix(".md").write_text(text)
    with target.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["variant", "seed", "split", *SHOWN, "seconds"])
        for row in rows:
            for split in splits:
                values = [f"{row[split][metric]:.5f}" for metric in SHOWN]
                writer.writerow([row["variant"], row["seed"], split, *values, row["seconds"]])
    print(text)


if __name__ == "__main__":
    main()
