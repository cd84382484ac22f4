"""Files that are written whole or not at all, what a machine can refuse, and JSON that every reader accepts."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import re
import tempfile
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError

_LARGEST_TEXT = 2**28
_DEEPEST = 100  # levels of a YAML file
_SPACE = "free some space and give the same command again, which keeps what is finished"
_ELSEWHERE = "name another place"
#: errno -> (what is wrong, what to do)
_REASONS = {
    errno.ENOSPC: ("the disk is full", _SPACE),
    errno.EDQUOT: ("the disk quota is used up", _SPACE),
    errno.EFBIG: ("the file would be larger than is allowed there", _ELSEWHERE),
    errno.EACCES: ("permission is denied", "change the permissions or name another place"),
    errno.EPERM: ("permission is denied", "change the permissions or name another place"),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.ENOENT: ("a folder on the way cannot be made or was removed", _ELSEWHERE),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", _ELSEWHERE),
    errno.EISDIR: ("a folder is there", "name a file"),
    errno.EEXIST: ("something else is there", "remove it or name another place"),
    errno.ELOOP: ("its symbolic links lead in a circle", "mend the links or name another place"),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter one"),
    errno.EMFILE: ("too many files are open", "raise the limit (`ulimit -n`)"),
    errno.ENFILE: ("too many files are open", "close other programs"),
    errno.ESTALE: ("the network folder was changed or is gone", "mount it again and give the same command again"),
    errno.EIO: ("the disk or the network failed", "check the device, or name another place"),
}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how libraries in Rust write errno
_OWN: set[Path] = set()  # the partial files that this process is writing


def refusal(error: BaseException, path: str | Path | None = None) -> str:
    """What the machine refused, as one sentence: the place, the reason, and what to do.

    Args:
        error: an OSError, or what a library made of one.
        path: the place; that of the error if left out.
    """
    cause = _system_error(error) or error
    number = getattr(cause, "errno", None)
    place = path if path is not None else getattr(cause, "filename", None) or "A file"
    reason, remedy = _REASONS.get(number or 0, (getattr(cause, "strerror", None) or " ".join(str(cause).split()), ""))
    return f"{os.fspath(place)!s} cannot be written: {reason}; {remedy or _ELSEWHERE}."


def _system_error(error: BaseException) -> OSError | None:
    """The OSError in an exception, behind it, or in its words; None where it is of another kind."""
    # torch.save tells no errno: the stream writer stops where fewer bytes were written than asked for
    torch_write = isinstance(error, RuntimeError) and re.search(
        "PytorchStreamWriter|inline_container|iostream error", str(error)
    )
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None:  # without a number it is a library's own
            return seen
        if found := _OS_ERROR.search(str(seen)):
            return OSError(int(found[1]), os.strerror(int(found[1])))
        # what was merely being handled says nothing, but for torch
        seen = seen.__cause__ or (seen.__context__ if torch_write else None)
    if torch_write:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what the machine refuses while something is written into one sentence.

    Args:
        path: what is written; an error that names another file is told with that.

    Errors:
        PaSEError: for OSError, and for what torch and safetensors make of it; other exceptions pass.
    """
    try:
        yield
    except (BrokenPipeError, PaSEError):
        raise
    except Exception as error:
        if (cause := _system_error(error)) is None:
            raise
        named = cause.filename if isinstance(cause.filename, str) and not _is_partial(Path(cause.filename)) else path
        raise PaSEError(refusal(cause, named)) from error


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it; it may be there.

    Errors:
        PaSEError: it cannot be made.
    """
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def check_out(path: str | Path, *, folder: bool = False) -> None:
    """Refuse a place that cannot be written to, before the work begins whose result belongs there.

    A few bytes are written beside it and removed again; no folder is made.

    Args:
        path: of the result.
        folder: whether the result is a folder.

    Errors:
        PaSEError: the place is taken by something of another kind, or cannot be written to.
    """
    target = Path(path)
    with writing(target):
        if target.is_dir() and not folder:
            raise IsADirectoryError(errno.EISDIR, "", str(target))
        if folder and not target.is_dir() and (target.is_symlink() or target.exists()):
            raise FileExistsError(errno.EEXIST, "", str(target))
        if len(os.fsencode(target.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, "", str(target))
        place = target if folder else target.parent
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "", str(target))
        try:
            with tempfile.TemporaryFile(dir=place) as trial:
                trial.write(bytes(4096))
                trial.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(target)) from error


def cache_folder(name: str) -> Path:
    """The folder of a cache: `$PASE_CACHE/NAME`, else `~/.cache/pase-msa/NAME`; in the temporary one without a home."""
    if given := os.environ.get("PASE_CACHE"):
        return Path(given) / name
    try:
        return Path.home() / ".cache" / "pase-msa" / name
    except RuntimeError:  # no HOME, and a user that the system does not know
        return Path(tempfile.gettempdir()) / f"pase-msa-{os.getuid() if hasattr(os, 'getuid') else 'user'}" / name


def _host() -> str:
    """A short mark of this machine: process numbers mean something on one machine only."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".partial")


def alive(process: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def remove_orphans(folder: Path, stem: str | None = None) -> None:
    """Delete the partial files that processes of this machine left behind when they were killed.

    Args:
        folder: to look in.
        stem: of the files; all if left out.
    """
    if os.name == "nt":  # there a process cannot be asked whether it is running by a signal
        return
    pattern = re.compile(rf"\.(.+)\.{_host()}-(\d+)-[0-9a-f]{{8}}\.partial")
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            found = pattern.fullmatch(entry.name)
            if found is None or (stem is not None and found[1] != stem) or Path(entry.path) in _OWN:
                continue
            if int(found[2]) == os.getpid() or not alive(int(found[2])):
                Path(entry.path).unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, *, unique: bool = True) -> Iterator[Path]:
    """A name beside `path` to write to; when the block ends, that file takes the place of `path` in one step.

        with replacing(target) as partial:
            frame.to_csv(partial, index=False)

    An exception in the block deletes the new file and leaves the old one. A process that is killed leaves the new file
    behind as `.NAME.HOST-PROCESS-NUMBER.partial`, which the next call that writes `path` removes.

    Args:
        path: the file; its folder exists. A symbolic link is replaced, not followed.
        unique: kept for callers of the first version; every call has a name of its own.

    Errors:
        PaSEError: the machine refuses (see `writing`).
    """
    del unique
    stem = path.name[:60]  # the partial name may be no longer than a file system allows
    remove_orphans(path.parent, stem)
    partial = path.with_name(f".{stem}.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")
    _OWN.add(partial)
    try:
        with writing(path):
            yield partial
            os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    finally:
        _OWN.discard(partial)


def write_text(path: Path, text: str, *, unique: bool = False) -> None:
    """Write a text file in UTF-8, whole or not at all; line ends stay as they are. `unique` as in `replacing`."""
    with replacing(path, unique=unique) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all; NaN and infinity as Python's `json` writes them."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_text(path: Path) -> str:
    """The content of a small text file in UTF-8.

    Errors:
        PaSEError: the file is missing, no plain file, larger than 256 MB, or not in UTF-8.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() or size > _LARGEST_TEXT:
            found = f"{size} bytes" if path.is_file() else "no plain file"
            raise PaSEError(
                f"{path} was to be a text file of at most {_LARGEST_TEXT} bytes, found {found}; restore it."
            )
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError, MemoryError) as error:
        raise PaSEError(f"{path} cannot be read ({_short(error)}); it is missing or damaged.") from error


def read_json(path: Path, *, keys: Collection[str] = (), remedy: str = "restore it or write it again") -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        keys: that it must hold, where it is an object; none is asked for if left out.
        remedy: what to do about a damaged one.

    Errors:
        PaSEError: the file is missing or damaged, or lacks a key.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PaSEError(f"{path} is damaged ({_short(error)}); {remedy}.") from error
    return _with_keys(path, content, keys, remedy)


def read_yaml(
    path: Path, *, keys: Collection[str] = (), remedy: str = "restore it or write it again"
) -> dict[str, Any]:
    """The options in a YAML file that `yaml.safe_dump` wrote; the arguments are those of `read_json`.

    Errors:
        PaSEError: the file is missing or damaged, holds no options or lacks one, or refers to parts of itself, by which
            a small file can stand for a huge one.
    """
    import yaml

    text = read_text(path)
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise PaSEError(f"{path} refers to parts of itself (&, *), which no options need; write them out.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:  # the parser takes time quadratic in the depth
                raise PaSEError(f"{path} is damaged (it is nested more than {_DEEPEST} levels deep); {remedy}.")
        content = yaml.safe_load(text)
    except PaSEError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PaSEError(f"{path} is damaged ({_short(error)}); {remedy}.") from error
    if not isinstance(content, dict):
        raise PaSEError(f"{path} was to hold options by name, found a {type(content).__name__}; {remedy}.")
    _with_keys(path, content, keys, remedy)
    return content


def _with_keys(path: Path, content: Any, keys: Collection[str], remedy: str) -> Any:
    if keys and (not isinstance(content, dict) or (missing := [key for key in keys if key not in content])):
        lacks = f"lacks {missing[0]!r}" if isinstance(content, dict) else f"holds a {type(content).__name__}"
        raise PaSEError(f"{path} was to hold {', '.join(keys)}, but {lacks}; {remedy}.")
    return content


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def strict_json(content: Any) -> str:
    """JSON on one line as the standard has it: NaN and infinity (a metric without any case) become null."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strict(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [strict(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(strict(content), allow_nan=False)
