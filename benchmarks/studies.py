"""The speed of a study with two workers against one: `python -m benchmarks.studies`.

The cells are single-threaded trainings on the synthetic benchmark. Workers are started and warmed up before, since
a study takes hours and the start of a worker seconds; the time with a cold start is printed too.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.studies.engine import run_cells
from pase_msa.studies.study import Study, study_cells
from pase_msa.studies.training_cell import study_cell

CELLS = 8
EPOCHS = 12
RUN = {
    "model": {"name": "concat"},
    "training": {"epochs": EPOCHS, "patience": EPOCHS, "threads": 1, "accelerator": "cpu"},
}


def measure(root: Path, data: str, jobs: int, cells: int) -> float:
    """Seconds of a study of so many cells in a fresh folder."""
    plan = Study("benchmark", {"concat": RUN}, [data], list(range(1, cells + 1)))
    some = study_cells(plan, test=False)
    began = time.perf_counter()
    table = run_cells(some, study_cell, root=root, jobs=jobs, progress=False)
    assert list(table.status) == ["done"] * cells
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    print(f"{CELLS} cells of {EPOCHS} epochs, one thread each; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder), str(Path(folder) / "data")
        synthetic_table(path=data)
        cold = {}
        warm = {}
        for jobs in (1, 2):
            cold[jobs] = measure(root / f"cold{jobs}", data, jobs, jobs)
            warm[jobs] = measure(root / f"warm{jobs}", data, jobs, CELLS)
    print("| workers | first cell of each, s | all cells, s | cells a minute |")
    print("| --- | --- | --- | --- |")
    for jobs, seconds in warm.items():
        print(f"| {jobs} | {cold[jobs]:.1f} | {seconds:.1f} | {60 * CELLS / seconds:.1f} |")
    print(f"two workers are {warm[1] / warm[2]:.2f} times as fast as one")


if __name__ == "__main__":
    main()
