"""Whatever a file holds, reading it ends in a result or in one sentence."""

from __future__ import annotations

import contextlib
import os
import stat
import traceback
from collections.abc import Iterator
from pathlib import Path

from pase_msa.errors import PaSEError

#: the file that marks a run of several targets
TARGETS = "targets.json"
_DEEPEST = 6  # folders below the one that is named
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@contextlib.contextmanager
def reading(path: str | Path, wanted: str, remedy: str = "download or write it again") -> Iterator[None]:
    """Turn any exception that a damaged or unexpected file causes into one sentence.

    A reader follows what a file says of itself, so that damage can raise anything: IndexError from an empty entry,
    RecursionError from nesting, MemoryError from a size that lies. What the user needs is the same each time: which
    file, what it was to be, where reading stopped, and what to do.

    Args:
        path: file or folder that is read.
        wanted: what it was to be, such as "an MMSA pickle".
        remedy: what to do.

    Errors:
        PaSEError: for every Exception but a PaSEError, which passes as it is.
    """
    try:
        yield
    except PaSEError:
        raise
    except Exception as error:
        raise PaSEError(
            f"{path} was to be {wanted}, but it is damaged or of another structure ({_place(error)}); {remedy}."
        ) from error


def _place(error: Exception) -> str:
    """Type, message and place of an exception; a message of another library may be long."""
    text = " ".join(str(error).split())[:200]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "pase_msa" in frame.filename]
    where = f" in {Path(frames[-1].filename).stem}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}{f': {text}' if text else ''}"


def check_plain(path: Path) -> None:
    """Refuse pipes, devices and sockets below a path: opening one can wait for ever, or never end.

    Args:
        path: file or folder; symbolic links are followed.

    Errors:
        PaSEError: one of them was found, a symbolic link leads in a circle or nowhere, or a folder may not be read.
    """
    pending = [(path, 0)]
    while pending:
        place, depth = pending.pop()
        try:
            mode = os.stat(place).st_mode
            if stat.S_ISDIR(mode) and depth < _DEEPEST:
                with os.scandir(place) as entries:
                    # what is a file itself is plain; where a link leads is looked up below
                    others = [entry.path for entry in entries if not entry.is_file(follow_symlinks=False)]
                pending += [(Path(other), depth + 1) for other in others]
        except FileNotFoundError:
            if not place.is_symlink():
                raise
            raise PaSEError(f"{place} is a symbolic link that leads nowhere; mend or remove it.") from None
        except OSError as error:
            raise PaSEError(f"{place} cannot be read ({error.strerror or error}); mend or remove it.") from error
        for test, kind in _KINDS:
            if test(mode):
                raise PaSEError(f"{place} was to be a plain file, but it is {kind}; give a file.")


def refuse_several_targets(folder: Path) -> None:
    """Say which folders there are to give in place of that of a run of several targets.

    Errors:
        PaSEError: the folder holds such a run.
    """
    if (folder / TARGETS).is_file():
        raise PaSEError(
            f"{folder} holds a run of several targets, and this reads one; give the folder of a target, such as "
            f"{min((folder / 'targets').glob('*'), default=folder / 'targets')}."
        )
