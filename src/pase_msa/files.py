"""Files written whole or not at all, and JSON that every reader takes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError


def strict_json(content: Any) -> str:
    """Strict JSON: what is not a number (a metric without any case) is null."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strict(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [strict(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(strict(content), allow_nan=False)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The path of a hidden file beside `path`, which takes its name when the block ends without an error.

    The folder is made if it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    os.replace(partial, path)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; its folder must be there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PaSEError(f"{path} cannot be read ({error}); the run folder is damaged.") from error
