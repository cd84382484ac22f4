"""`run_cells`: many cells in parallel, each run once, as one growing table."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from joblib import delayed

from pase_msa.errors import PaSEError
from pase_msa.files import make_folder
from pase_msa.parallel import Backend, parallel_backend
from pase_msa.studies.cells import Cell, Scalar, finished, row, write_table
from pase_msa.studies.progress import Bar, Watched, display
from pase_msa.studies.worker import CellFunction, run_cell, write_error

_log = logging.getLogger(__name__)
_KILLED = "Its worker process was killed, which mostly means too little memory; give the study fewer --jobs."


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
) -> pd.DataFrame:
    """Run every cell that is not finished, in parallel processes, and return the table.

    - A finished cell (`root/cells/KEY/result.json`) is never run again, not even by a second process that works in the
      same folder at the same time.
    - A cell that was cut short is run again in the same folder, where the function may resume what it finds.
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

    Returns:
        One row per finished or failed cell, in the order of the cells: labels, "key", "status" ("done" or "failed"),
        "error", the result's columns, "seconds", "peak_memory_mb", "host", "versions".

    Errors:
        PaSEError: options that are not plain, no core to work on, Ray is not installed.
    """
    _check_cores(jobs, threads, backend)
    folder = Path(root).resolve()
    make_folder(folder)
    pending = list({cell.key: cell for cell in cells if finished(cell, folder) is None}.values())
    for cell in pending:  # written again if the cell fails again
        (cell.folder(folder) / "error.json").unlink(missing_ok=True)
    with display(title, progress) as bar:
        watch = _Watch(cells, folder, bar)
        if pending:
            with parallel_backend(backend, jobs, threads):
                _run_all(pending, function, folder, jobs, threads, watch)
        return watch.table()


def _check_cores(jobs: int, threads: int, backend: Backend) -> None:
    """Refuse a study without workers, and warn of one with more threads than cores."""
    if min(jobs, threads) < 1:
        raise PaSEError(f"A study wants 1 or more jobs and threads, found {jobs} and {threads}.")
    cores = os.cpu_count() or 1
    if backend == "loky" and jobs * threads > cores:
        _log.warning("%d jobs of %d threads on %d cores slow each other down", jobs, threads, cores)


def _run_all(
    pending: Sequence[Cell], function: CellFunction, root: Path, jobs: int, threads: int, watch: _Watch
) -> None:
    """Run all cells. Where a worker process dies, go on with the others, and run its cell once more on its own."""
    session = uuid.uuid4().hex

    def run(chosen: Sequence[Cell], workers: int) -> Exception | None:
        tasks = (delayed(run_cell)(function, cell, root, threads, session) for cell in chosen)
        try:
            Watched(watch.refresh, n_jobs=workers)(tasks)
        except Exception as error:
            return error
        finally:
            watch.refresh()
        return None

    suspects: list[Cell] = []
    rest = list(pending)
    while rest and (error := run(rest, jobs)) is not None:
        watch.check()
        rest = [cell for cell in rest if row(cell, root) is None]
        died = [cell for cell in rest if _was_running(cell, root, session)]
        if not died:
            raise error
        suspects += died
        rest = [cell for cell in rest if cell not in died]
    for cell in suspects:
        # two workers for one cell: with one worker joblib would run it in this process, which might be killed too
        if run([cell], 2) is not None and row(cell, root) is None:
            write_error(cell.folder(root), _KILLED)
    watch.check()


def _was_running(cell: Cell, root: Path, session: str) -> bool:
    """Whether a worker of this session had begun the cell and not ended it."""
    marker = cell.folder(root) / ".started"
    return marker.is_file() and marker.read_text() == session


class _Watch:
    """Keeps the table and the progress bar up to date; joblib calls it from another thread."""

    def __init__(self, cells: Sequence[Cell], root: Path, bar: Bar | None) -> None:
        self.cells, self.root, self.bar = cells, root, bar
        self.rows: dict[str, dict[str, Scalar]] = {}
        self.problem: Exception | None = None
        self.lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Add the cells that were finished since the last call."""
        with self.lock:
            try:
                fresh = [
                    (cell, line)
                    for cell in {cell.key: cell for cell in self.cells}.values()
                    if cell.key not in self.rows and (line := row(cell, self.root)) is not None
                ]
                self.rows |= {cell.key: line for cell, line in fresh}
                if fresh:
                    write_table(self._lines(), self.root)
            except Exception as error:  # joblib waits for ever when its callback raises
                self.problem = error
                return
        if self.bar is not None:
            self.bar.show(len(self._lines()), len(self.cells), self._failed())
        else:
            for cell, line in fresh:
                _log.info("%s: %s", cell.title or cell.key, line["error"] or "done")

    def check(self) -> None:
        """Raise the error of joblib's thread, if there was one."""
        if self.problem is not None:
            raise self.problem

    def table(self) -> pd.DataFrame:
        """The table of all cells that are finished or failed."""
        self.refresh()
        self.check()
        return write_table(self._lines(), self.root)

    def _lines(self) -> list[dict[str, Scalar]]:
        return [{**self.rows[cell.key], **cell.labels} for cell in self.cells if cell.key in self.rows]

    def _failed(self) -> int:
        return sum(line["status"] == "failed" for line in self._lines())
