"""`run_cells`: many cells in parallel, each run once, as one growing table."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.files import make_folder
from pase_msa.parallel import Backend
from pase_msa.studies.cells import Cell, Scalar, finished, row, write_table
from pase_msa.studies.progress import Bar, display
from pase_msa.studies.worker import CellFunction, run_cell, sentence, write_error
from pase_msa.tasks import Outcome, check_limit, run_tasks

_log = logging.getLogger(__name__)


def run_cells(
    cells: Sequence[Cell],
    function: CellFunction,
    *,
    root: str | Path,
    jobs: int = 2,
    threads: int = 1,
    backend: Backend = "loky",
    progress: bool = True,
    title: str = "study",
    timeout: float | None = None,
) -> pd.DataFrame:
    """Run every cell that is not finished, in parallel processes, and return the table.

    - A finished cell (`root/cells/KEY/result.json`) is never run again, not even by a second process that works in the
      same folder at the same time.
    - A cell that was cut short is run again in the same folder, where the function may resume what it finds.
    - A cell whose worker is killed is tried once more, after the others; one that takes longer than the limit is not.
    - A cell that fails leaves its error in the table and in `error.json`. The others go on, and the next call tries it
      again.

    `root/table.parquet` and `root/table.csv` grow with every cell.

    Args:
        cells: what to run; cells of the same options are run once and have a row each.
        function: takes a cell and its folder and returns plain containers, in a worker process. Nested mappings become
            columns "outer/inner". It must be importable, or picklable by value (cloudpickle).
        root: folder of the study; on a cluster, one that every machine sees under the same path.
        jobs: worker processes. With 1, cells are run one after the other in this process.
        threads: per worker (BLAS, OpenMP, torch); `jobs * threads` cores are used at most.
        backend: "loky", processes of this machine, or "ray": a Ray cluster (`RAY_ADDRESS`, or a local one).
        progress: whether to show a progress bar; otherwise the log has a line per cell.
        title: of the progress bar.
        timeout: longest duration of a cell in seconds; one that takes longer is ended and has failed. None: no limit.

    Returns:
        One row per finished or failed cell, in the order of the cells: labels, "key", "status" ("done" or "failed"),
        "error", the result's columns, "seconds", "peak_memory_mb", "host", "versions".

    Errors:
        PaSEError: options that are not plain, no core to work on, Ray is not installed.
    """
    _check_cores(jobs, threads, backend)
    check_limit(timeout)
    folder = Path(root).resolve()
    make_folder(folder)
    pending = list({cell.key: cell for cell in cells if finished(cell, folder) is None}.values())
    for cell in pending:  # written again if the cell fails again
        (cell.folder(folder) / "error.json").unlink(missing_ok=True)
    with display(title, progress) as bar:
        watch = _Watch(cells, folder, bar)
        arguments = [(function, cell, folder, threads) for cell in pending]
        outcomes = (
            # one after the other in this process, where nothing can be ended from outside
            _one_by_one(arguments)
            if jobs == 1 and backend == "loky" and timeout is None
            else run_tasks(run_cell, arguments, jobs=jobs, threads=threads, backend=backend, seconds=timeout)
        )
        for outcome in outcomes:
            _note(outcome, pending[outcome.index], folder)
            watch.refresh()
        return watch.table()


def _one_by_one(arguments: Sequence[tuple[CellFunction, Cell, Path, int]]) -> Iterator[Outcome]:
    for index, each in enumerate(arguments):
        run_cell(*each)
        yield Outcome(index)


def _check_cores(jobs: int, threads: int, backend: Backend) -> None:
    """Refuse a study without workers, and warn of one with more threads than cores."""
    if min(jobs, threads) < 1:
        raise PaSEError(f"A study wants 1 or more jobs and threads, found {jobs} and {threads}.")
    cores = os.cpu_count() or 1
    if backend == "loky" and jobs * threads > cores:
        _log.warning("%d jobs of %d threads on %d cores slow each other down", jobs, threads, cores)


def _note(outcome: Outcome, cell: Cell, root: Path) -> None:
    """Write the error of a cell that its worker could not write."""
    reason = outcome.lost if outcome.error is None else sentence(outcome.error)
    if reason is not None and finished(cell, root) is None:
        write_error(cell.folder(root), reason)


class _Watch:
    """Keeps the table and the progress bar up to date."""

    def __init__(self, cells: Sequence[Cell], root: Path, bar: Bar | None) -> None:
        self.cells, self.root, self.bar = cells, root, bar
        self.rows: dict[str, dict[str, Scalar]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Add the cells that were finished since the last call."""
        fresh = [
            (cell, line)
            for cell in {cell.key: cell for cell in self.cells}.values()
            if cell.key not in self.rows and (line := row(cell, self.root)) is not None
        ]
        self.rows |= {cell.key: line for cell, line in fresh}
        if fresh:
            write_table(self._lines(), self.root)
        if self.bar is not None:
            self.bar.show(len(self._lines()), len(self.cells), self._failed())
        else:
            for cell, line in fresh:
                _log.info("%s: %s", cell.title or cell.key, line["error"] or "done")

    def table(self) -> pd.DataFrame:
        """The table of all cells that are finished or failed."""
        self.refresh()
        return write_table(self._lines(), self.root)

    def _lines(self) -> list[dict[str, Scalar]]:
        return [{**self.rows[cell.key], **cell.labels} for cell in self.cells if cell.key in self.rows]

    def _failed(self) -> int:
        return sum(line["status"] == "failed" for line in self._lines())
