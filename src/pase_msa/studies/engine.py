"""`run_cells`: many cells in parallel, each played once, as one growing table."""

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
from pase_msa.parallel import Backend, parallel_backend
from pase_msa.studies.cells import Cell, Scalar, finished, row, write_table
from pase_msa.studies.progress import Bar, Watched, display
from pase_msa.studies.worker import CellFunction, play, write_error

_log = logging.getLogger(__name__)
_KILLED = "Its worker process was killed, mostly a sign of too little memory; give the study fewer --jobs."


def run_cells(
    cells: Sequence[Cell],
    function: CellFunction,
    *,
    home: str | Path,
    jobs: int = 2,
    threads: int = 1,
    backend: Backend = "loky",
    progress: bool = True,
    title: str = "study",
) -> pd.DataFrame:
    """Play every cell that is not finished, in parallel processes, and return the table.

    A finished cell (`home/cells/KEY/result.json`) is never played again, not even by a second process that works in the
    same folder at the same time. One that was cut short is played again in the same folder, where the function may
    resume what it finds. One that fails leaves its error in the table and in `error.json`, and the others go on; the
    next call tries it again. `home/table.parquet` and `home/table.csv` grow with every cell.

    Args:
        cells: what to play; cells of the same options are played once and have a line each.
        function: takes a cell and its folder and returns plain containers, in a worker process. Nested mappings become
            columns "outer/inner". It must be importable, or picklable by value (cloudpickle).
        home: folder of the study; on a cluster, one that every machine sees under the same path.
        jobs: worker processes. With 1, cells are played one after the other in this process.
        threads: of each worker (BLAS, OpenMP, torch); `jobs * threads` is the budget of cores.
        backend: "loky", processes of this machine, or "ray": a Ray cluster (`RAY_ADDRESS`, or a local one).
        progress: show a progress bar; a line in the log for each cell otherwise.
        title: of the progress bar.

    Returns:
        One row a finished or failed cell, in the order of the cells: labels, "key", "status" ("done" or "failed"),
        "error", the result's columns, "seconds", "peak_memory_mb", "host", "versions".

    Errors:
        PaSEError: options that are not plain, no core to work on, Ray is not installed.
    """
    if min(jobs, threads) < 1:
        raise PaSEError(f"A study wants 1 or more jobs and threads, found {jobs} and {threads}.")
    cores = os.cpu_count() or 1
    if backend == "loky" and jobs * threads > cores:
        _log.warning("%d jobs of %d threads on %d cores will be in each other's way", jobs, threads, cores)
    folder = Path(home).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pending = list({cell.key: cell for cell in cells if finished(cell, folder) is None}.values())
    for cell in pending:  # told anew if it fails anew
        (cell.folder(folder) / "error.json").unlink(missing_ok=True)
    with display(title, progress) as bar:
        watch = _Watch(cells, folder, bar)
        if pending:
            with parallel_backend(backend, jobs, threads):
                _play_all(pending, function, folder, jobs, threads, watch)
        return watch.table()


def _play_all(
    pending: Sequence[Cell], function: CellFunction, home: Path, jobs: int, threads: int, watch: _Watch
) -> None:
    """Play all; where a worker process dies, go on with the others, and try its cell once more, alone."""
    session = uuid.uuid4().hex

    def run(some: Sequence[Cell], workers: int) -> Exception | None:
        tasks = (delayed(play)(function, cell, home, threads, session) for cell in some)
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
        rest = [cell for cell in rest if row(cell, home) is None]
        died = [cell for cell in rest if _was_playing(cell, home, session)]
        if not died:
            raise error
        suspects += died
        rest = [cell for cell in rest if cell not in died]
    for cell in suspects:
        # two workers, one cell: joblib would play it in this process if there were only one
        if run([cell], 2) is not None and row(cell, home) is None:
            write_error(cell.folder(home), _KILLED)
    watch.check()


def _was_playing(cell: Cell, home: Path, session: str) -> bool:
    marker = cell.folder(home) / ".started"
    return marker.is_file() and marker.read_text() == session


class _Watch:
    """Keeps table and progress bar up to date; joblib calls it from a thread of its own."""

    def __init__(self, cells: Sequence[Cell], home: Path, bar: Bar | None) -> None:
        self.cells, self.home, self.bar = cells, home, bar
        self.rows: dict[str, dict[str, Scalar]] = {}
        self.problem: Exception | None = None
        self.lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Take in what has been finished since."""
        with self.lock:
            try:
                fresh = [
                    (cell, found)
                    for cell in {cell.key: cell for cell in self.cells}.values()
                    if cell.key not in self.rows and (found := row(cell, self.home)) is not None
                ]
                self.rows |= {cell.key: found for cell, found in fresh}
                if fresh:
                    write_table(self._lines(), self.home)
            except Exception as error:  # joblib would wait for ever if its callback raised
                self.problem = error
                return
        if self.bar is not None:
            self.bar.show(len(self._lines()), len(self.cells), self._failed())
        else:
            for cell, found in fresh:
                _log.info("%s: %s", cell.title or cell.key, found["error"] or "done")

    def check(self) -> None:
        """Raise what went wrong in joblib's thread."""
        if self.problem is not None:
            raise self.problem

    def table(self) -> pd.DataFrame:
        """All of it."""
        self.refresh()
        self.check()
        return write_table(self._lines(), self.home)

    def _lines(self) -> list[dict[str, Scalar]]:
        return [{**self.rows[cell.key], **cell.labels} for cell in self.cells if cell.key in self.rows]

    def _failed(self) -> int:
        return sum(line["status"] == "failed" for line in self._lines())
