"""Files that are written whole or not at all, and JSON that every reader accepts."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError


@contextmanager
def replacing(path: Path, *, unique: bool = False) -> Iterator[Path]:
    """A name beside `path` to write to; when the block ends, that file takes the place of `path` in one step.

        with replacing(target) as partial:
            frame.to_csv(partial, index=False)

    An exception in the block deletes the new file and leaves the old one. A process that is killed leaves the new file
    behind as `.NAME.partial`, which the next call overwrites.

    Args:
        path: the file; its folder exists.
        unique: whether to give each call a name of its own, for a file that several processes may write at once.
    """
    mark = f".{uuid.uuid4().hex}" if unique else ""
    partial = path.with_name(f".{path.name}{mark}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, *, unique: bool = False) -> None:
    """Write a text file in UTF-8, whole or not at all; line ends stay as they are. `unique` as in `replacing`."""
    with replacing(path, unique=unique) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all; NaN and infinity as Python's `json` writes them."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Errors:
        PaSEError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PaSEError(f"{path} cannot be read ({error}); the run folder is damaged.") from error


def strict_json(content: Any) -> str:
    """JSON on one line as the standard has it: NaN and infinity (a metric without any case) become null."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strict(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [strict(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(strict(content), allow_nan=False)
