"""Cells for the tests of the engine, and a study to kill: `python -m tests.studies.example_cells ROOT BACKEND`."""

import os
import signal
import sys
import time

from pase_msa.models import concat
from pase_msa.studies.cells import Cell
from pase_msa.studies.engine import run_cells


def cells(count=6, **more):
    return [Cell({"number": number, **more}, {"name": f"n{number}"}) for number in range(count)]


def note(folder, word):
    with (folder / "notes").open("a") as stream:
        stream.write(f"{word}\n")


def slow_square(cell, folder):
    """The square, and a note of when it was begun and ended."""
    note(folder, "begun")
    time.sleep(0.3)
    note(folder, "ended")
    return {"square": cell.options["number"] ** 2, "nested": {"half": cell.options["number"] / 2}, "list": [1, 2]}


def moody(cell, folder):
    """Cell 1 raises an error until it is mended, cell 2 kills its process."""
    note(folder, "begun")
    if cell.options["number"] == 1 and not (folder / "mended").exists():
        raise ValueError("one is\n no number")
    if cell.options["number"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"number": cell.options["number"]}


class Deadly:
    """A model whose making ends the process."""

    Config = concat.Config

    @staticmethod
    def build(task, inputs, config):
        os.kill(os.getpid(), signal.SIGKILL)


def unplain(cell, folder):
    """A result that JSON cannot hold."""
    return {"numbers": {1, 2}}


if __name__ == "__main__":
    run_cells(cells(), slow_square, root=sys.argv[1], backend=sys.argv[2], progress=False)
