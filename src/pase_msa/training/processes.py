"""What several processes of one run share: who they are, evidence that one of them computes, rows of validation.

Lightning starts the processes of one machine as children of the first one; `torchrun` starts all of them, on any number
of machines. Either way every process runs the same program and tells from its environment which one it is.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from pase_msa.errors import PaSEError
from pase_msa.parallel import rank

__all__ = ["computed_once", "devices_and_nodes", "rank", "share"]

T = TypeVar("T")
# folder with what the first process computed; its children inherit the variable
_SHARED = "PASE_SHARED_EVIDENCE"


def devices_and_nodes(devices: str | int) -> tuple[str | int, int]:
    """Devices of this machine and number of machines: those of `torchrun` where it started this process.

    Args:
        devices: what the options say.

    Errors:
        PaSEError: `torchrun` started another number of processes here than the options say.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()):
        return devices, 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if str(devices).lstrip("+") not in ("auto", str(here)):
        raise PaSEError(
            f"torchrun started {here} process{'' if here == 1 else 'es'} on this machine, found training.devices "
            f"{devices}; start as many with --nproc-per-node, or leave --training.devices out."
        )
    return here, max(int(os.environ["WORLD_SIZE"]) // here, 1)


def computed_once(compute: Callable[[], T], name: str, *, starts_others: bool) -> T:
    """The result of a function, which the first process computes and the processes that it starts read.

    Processes of `torchrun` have no parent in common, so each computes it, all at the same time.

    Args:
        compute: the function; a function of the data and the options alone.
        name: of the result, the same in all processes.
        starts_others: whether this process will start others.
    """
    if shared := os.environ.get(_SHARED):
        file = Path(shared) / f"{name}.pt"
        if rank() and file.is_file():
            # written by the parent of this process, in a folder that no other user may write to
            result: T = torch.load(file, weights_only=False)
            return result
    result = compute()
    if starts_others and not rank():
        folder = Path(os.environ.get(_SHARED) or _shared_folder())
        torch.save(result, folder / f"{name}.pt")
    return result


def _shared_folder() -> str:
    """A folder for the children of this process, which goes when this process ends."""
    folder = os.environ[_SHARED] = tempfile.mkdtemp(prefix="pase-evidence-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def share(count: int, number: int, processes: int) -> slice:
    """Rows of a process, whole and in order: what one process after the other holds is what one would hold.

    Args:
        count: of all rows.
        number: of the process.
        processes: how many there are.
    """
    return slice(count * number // processes, count * (number + 1) // processes)
