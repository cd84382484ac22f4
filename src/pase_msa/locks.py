"""Locks on folders that one process at a time may write to."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pase_msa.errors import PaSEError
from pase_msa.files import cache_folder, make_folder, write_json, writing

LOCK, HOLDER = ".lock", ".holder.json"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
_log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made; no other process may hold it at the same time.

    The system lifts the lock of a process that dies. A network folder that has no locks is used without, with a note.

    Args:
        folder: to hold; `.lock` and `.holder.json` are in it in the meantime.

    Errors:
        PaSEError: another process holds it (the sentence says which), or it cannot be written to.
    """
    make_folder(folder)
    if not _has_locks(folder):
        _log.warning("%s has no file locks; take care that no second command writes there", folder)
        yield
        return
    lock = FileLock(folder / LOCK)
    with writing(folder):
        try:
            lock.acquire(timeout=0.5)  # another that starts now looks whether there are locks
        except Timeout:  # an OSError too
            raise PaSEError(
                f"{folder} is being written by another command ({_holder(folder)}); wait until it is done, or name "
                "another place."
            ) from None
    try:
        holder = {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        write_json(folder / HOLDER, holder)
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
            if os.name != "nt":  # an open file cannot be removed there
                (folder / LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def one_after_the_other(file: Path, seconds: float = 600) -> Iterator[None]:
    """Let one process at a time make a file of a cache, so that the others find it made.

    Nothing depends on it: where no lock can be had, or another process has held it for too long, it is not waited for.

    Args:
        file: that is made.
        seconds: longest wait.
    """
    lock = None
    with contextlib.suppress(PaSEError, OSError):  # a Timeout is an OSError
        place = cache_folder("locks")  # beside the folders of the cache, which hold whole entries only
        make_folder(place)
        if _has_locks(place):
            lock = FileLock(place / f"{file.name}{LOCK}")
            lock.acquire(timeout=seconds)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _holder(folder: Path) -> str:
    """Who holds the folder, in words."""
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {found['process']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which has just begun"


def _has_locks(folder: Path) -> bool:
    """Whether the file system has locks; filelock takes an error of one that has none for a lock of another's."""
    try:
        import fcntl
    except ImportError:  # Windows has locks on every file system
        return True
    with writing(folder), (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                (folder / LOCK).unlink(missing_ok=True)
                return False
    return True
