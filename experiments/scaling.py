"""What robust scaling changes on data as they are: validation metrics with three ways to find location and scale.

    python -m experiments.scaling --data ../shared/data/mosi ../shared/data/mosi3 --seeds 3

* "plain": mean and standard deviation of all values, as before;
* "winsorised": mean and deviation of the values within ten robust deviations of the median, as shipped;
* "median": median and robust deviation themselves.

Each is used everywhere: in the model, in the diagnosis and in the closed-form reference. The test split is not read.
The table goes to `experiments/results/scaling.md`, every run to the CSV file beside it; runs that it holds are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from unittest import mock

import numpy as np

from pase_msa.data import scaling
from pase_msa.data.scaling import Limits, Scale

RESULTS = Path(__file__).parent / "results" / "scaling.csv"
MODELS = ("concat", "pase")
#: label column of a data folder that has several
LABELS = {"iemocap": "emotion4"}
METRICS = ("mae", "corr", "acc2_negpos", "wa", "f1_weighted")
FIELDS = ("data", "model", "seed", "scaling", "cut", "seconds", *METRICS)


def _plain() -> Any:
    find: Callable[..., Limits] = scaling.find_limits

    def unlimited(sample: Any) -> Limits:
        found = find(sample)
        return dataclasses.replace(found, low=np.full_like(found.low, -np.inf), high=np.full_like(found.high, np.inf))

    return mock.patch.object(scaling, "find_limits", unlimited)


def _median() -> Any:
    measure: Callable[..., Scale] = scaling.measure_scale

    def robust(blocks: Any, limits: Limits) -> Scale:
        return dataclasses.replace(measure(blocks, limits), mean=limits.median, deviation=limits.spread)

    return mock.patch.object(scaling, "measure_scale", robust)


SCALINGS: dict[str, Callable[[], Any]] = {"plain": _plain, "winsorised": contextlib.nullcontext, "median": _median}


def measure(data: Path, model: str, seed: int, name: str) -> dict[str, Any]:
    """One training run, with the metrics of its best epoch on validation, and the share of values that were cut off."""
    import tempfile

    from pase_msa.files import read_json
    from pase_msa.training.config import RunConfig
    from pase_msa.training.run import train

    began = time.perf_counter()
    label = LABELS.get(data.name.partition("-")[0])
    with SCALINGS[name](), tempfile.TemporaryDirectory() as folder:
        config = RunConfig(data=str(data), out=f"{folder}/run", seed=seed, label=label, model={"name": model})
        found = read_json(train(config, progress=False).results)["validation"]
    row = {"data": data.name, "model": model, "seed": seed, "scaling": name, "cut": cut_off(data, label)}
    return {**row, "seconds": round(time.perf_counter() - began, 1), **{key: found.get(key, "") for key in METRICS}}


def cut_off(data: Path, label: str | None) -> float:
    """Largest share, over modalities, of training values beyond the limits."""
    from pase_msa.data.opening import open_data
    from pase_msa.data.problem import Problem, ProblemOptions

    problem = Problem.from_table(open_data(data), ProblemOptions(label=label))
    shares = []
    for column in problem.columns.values():
        scale = scaling.column_scale(column, problem.train.rows)
        steps = int(column.lengths[problem.train.rows].sum())
        shares.append(float(scale.beyond.sum()) / max(steps * column.dim, 1))
    return max(shares)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Mean and deviation over seeds, in Markdown."""
    yield "| data | model | values cut | scaling | " + " | ".join(METRICS) + " |"
    yield "| --- | --- | ---: | --- | " + " | ".join("---:" for _ in METRICS) + " |"
    for (data, model), part in itertools.groupby(rows, key=lambda row: (row["data"], row["model"])):
        runs = list(part)
        for name in SCALINGS:
            chosen = [run for run in runs if run["scaling"] == name]
            cells = []
            for key in METRICS:
                values = [float(run[key]) for run in chosen if run[key] != ""]
                spread = stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{mean(values):.3f} ± {spread:.3f}" if values else "")
            yield f"| {data} | {model} | {float(runs[0]['cut']):.2%} | {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data folders")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("pase_msa").setLevel(logging.ERROR)
    rows: list[dict[str, Any]] = []
    if RESULTS.is_file():
        with RESULTS.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    done = {(row["data"], row["model"], str(row["seed"]), row["scaling"]) for row in rows}
    for data, model, seed, name in itertools.product(options.data, MODELS, range(1, options.seeds + 1), SCALINGS):
        if (data.name, model, str(seed), name) in done:
            continue
        rows.append(measure(data, model, seed, name))
        print(rows[-1], flush=True)
        with RESULTS.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    rows.sort(key=lambda row: (row["data"], row["model"]))
    text = "\n".join(table(rows)) + "\n"
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
