"""One cell in a worker process: its lock, and its result or its error."""

from __future__ import annotations

import gc
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
from pase_msa.files import make_folder, write_json
from pase_msa.studies.cells import Cell, finished
from pase_msa.training.isolation import preserve_global_state

CellFunction = Callable[[Cell, Path], Mapping[str, Any]]
_PACKAGES = ("pase-msa", "torch", "numpy")


def run_cell(function: CellFunction, cell: Cell, root: Path, threads: int) -> None:
    """Run a cell unless it is finished, and write `result.json` or `error.json` to its folder.

    The folder is locked in the meantime. The system lifts the lock of a process that dies, so that nothing needs to be
    cleaned up. A worker that outlives its killed study finishes its cell, and the next study takes the result.

    Args:
        function: of the study.
        cell: to run.
        root: folder of the study.
        threads: of the function.
    """
    folder = cell.folder(root)
    make_folder(folder)
    with FileLock(folder / ".lock"):
        if finished(cell, root) is not None:
            return
        (folder / "error.json").unlink(missing_ok=True)
        reset_peak()
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
            json.dumps(content)  # a result that JSON cannot hold is an error of the cell
            write_json(folder / "result.json", content)
        except Exception as error:
            write_error(folder, sentence(error), traceback.format_exc())
        finally:
            # a model and its trainer refer to each other, and Python would keep them for several cells more: few
            # objects, but gigabytes where a language model is fine-tuned
            gc.collect()


def write_error(folder: Path, error: str, trace: str = "") -> None:
    """Write `error.json`: a sentence, and the traceback."""
    write_json(folder / "error.json", {"error": error, "traceback": trace})


def sentence(error: BaseException) -> str:
    """An error in one line; with its type where it is a bug and no mistake of the user."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PaSEError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def versions() -> str:
    """The versions of Python and of the packages that numbers depend on, in one line."""
    return ", ".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)])


def reset_peak() -> None:
    """Reset the peak of memory, since a worker runs many cells; only Linux can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> float:
    """Peak of the resident memory of this process in MiB: since the cell began on Linux, elsewhere since it started."""
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        match = None
    if match is not None:
        return round(int(match[1]) / 1024, 1)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
