"""The speed of a study with two workers against one: `python -m benchmarks.studies`.

The cells are single-threaded trainings on the synthetic benchmark. Workers are started and warmed up before, since
a study takes hours and the start of a worker seconds; the time with a cold start is printed too.

    python -m benchmarks.studies --stress 200      # studies with a killed worker: how many hang

A stress study has cells that end, raise, kill their worker and freeze it; it must end with each error in its row.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pase_msa.studies.cells import Cell
from pase_msa.studies.engine import run_cells

CELLS = 8
EPOCHS = 12
RUN = {
    "model": {"name": "concat"},
    "training": {"epochs": EPOCHS, "patience": EPOCHS, "threads": 1, "accelerator": "cpu"},
}


def measure(root: Path, data: str, jobs: int, cells: int) -> float:
    """Seconds of a study of so many cells in a fresh folder."""
    from pase_msa.studies.study import Study, study_cells  # the workers of a stress study need no training
    from pase_msa.studies.training_cell import study_cell

    plan = Study("benchmark", {"concat": RUN}, [data], list(range(1, cells + 1)))
    some = study_cells(plan, test=False)
    began = time.perf_counter()
    table = run_cells(some, study_cell, root=root, jobs=jobs, progress=False)
    assert list(table.status) == ["done"] * cells
    return time.perf_counter() - began


LONGEST = 600  # seconds after which a stress study counts as one that hangs; several at once take a minute or two
FATES = ("ends", "raises", "killed", "frozen", "ends", "ends")


def fate(cell: Cell, folder: Path) -> dict[str, int]:
    """A cell of the stress study."""
    match cell.options["fate"]:
        case "raises":
            raise ValueError("raised")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "frozen":
            os.kill(os.getpid(), signal.SIGSTOP)
    return {"number": int(cell.options["number"])}


def one_study(root: str) -> None:
    """One stress study; fails unless every cell ended as it had to."""
    cells = [Cell({"number": number, "fate": kind}, {"fate": kind}) for number, kind in enumerate(FATES)]
    # the limit must be beyond the start of a worker on a busy machine, so that it ends the frozen cell only
    table = run_cells(cells, fate, root=root, jobs=2, progress=False, timeout=60)
    assert list(table.status) == ["done" if kind == "ends" else "failed" for kind in FATES], table[["fate", "error"]]


def stressed(_: int) -> str:
    """How one stress study ended that has a process of its own: "", "hung" or "wrong"."""
    with tempfile.TemporaryDirectory() as root:
        child = subprocess.Popen([sys.executable, "-m", "benchmarks.studies", "--one", root], start_new_session=True)
        try:
            return "wrong" if child.wait(LONGEST) else ""
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return "hung"


def stress(count: int, at_once: int) -> int:
    """Run so many stress studies, some of them at the same time; the number that hung or ended otherwise."""
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        ends = Counter(pool.map(stressed, range(count)))
    print(
        f"{count} studies, {at_once} at once, in {time.perf_counter() - began:.0f} s: {ends['hung']} hung, "
        f"{ends['wrong']} ended otherwise",
        flush=True,
    )
    return count - ends[""]


def main() -> None:
    """Print the table, or the result of the stress."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--stress", type=int, metavar="COUNT", help="studies whose workers are killed")
    parser.add_argument("--one", metavar="FOLDER", help="one of them")
    parser.add_argument("--at-once", type=int, default=4, metavar="COUNT", help="stress studies at the same time")
    options = parser.parse_args()
    if options.one is not None:
        one_study(options.one)
    elif options.stress is not None:
        raise SystemExit(1 if stress(options.stress, options.at_once) else 0)
    else:
        speed()


def speed() -> None:
    """Print the table of speed."""
    from pase_msa.data.synthetic.generate import synthetic_table

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
