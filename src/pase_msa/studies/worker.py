"""What happens in a worker process: one cell, its lock, its result or its error."""

from __future__ import annotations

import json
import platform
import re
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock
from threadpoolctl import threadpool_limits

from pase_msa.errors import PaSEError
from pase_msa.files import write_json
from pase_msa.studies.cells import Cell, finished
from pase_msa.training.isolation import preserve_global_state

CellFunction = Callable[[Cell, Path], Mapping[str, Any]]
_PACKAGES = ("pase-msa", "torch", "numpy")


def play(function: CellFunction, cell: Cell, home: Path, threads: int, session: str) -> None:
    """Play a cell unless it is finished, and leave `result.json` or `error.json` in its folder.

    The folder is locked meanwhile. The system lifts the lock of a process that dies, so nothing has to be cleared
    away; a worker that outlived its killed study finishes in peace, and the next study takes its result.
    """
    folder = cell.folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if finished(cell, home) is not None:
            return
        (folder / "error.json").unlink(missing_ok=True)
        (folder / ".started").write_text(session)
        _reset_peak()
        began = time.perf_counter()
        try:
            with threadpool_limits(threads), preserve_global_state(verbose=True, threads=threads):
                result = dict(function(cell, folder))
            content = {
                "key": cell.key,
                "labels": dict(cell.labels),
                "options": cell.options,
                "result": result,
                "seconds": round(time.perf_counter() - began, 3),
                "peak_memory_mb": peak_memory(),
                "host": platform.node(),
                "versions": versions(),
            }
            json.dumps(content)  # what is not plain is an error of the cell
            write_json(folder / "result.json", content)
        except Exception as error:
            write_error(folder, sentence(error), traceback.format_exc())
        (folder / ".started").unlink(missing_ok=True)


def write_error(folder: Path, error: str, trace: str = "") -> None:
    """Say why a cell failed."""
    write_json(folder / "error.json", {"error": error, "traceback": trace})


def sentence(error: BaseException) -> str:
    """An error in one line; that of a mistake of ours with its type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PaSEError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def versions() -> str:
    """Python and the packages that move numbers, in one line."""
    return ", ".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)])


def _reset_peak() -> None:
    """Let the peak begin anew, since a worker plays many cells; only Linux can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> float:
    """Largest resident memory, in MiB, of this process: since the cell began on Linux, else since the process did."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found is not None:
        return round(int(found[1]) / 1024, 1)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
