"""Where an extraction into shards is written: a folder of this machine, or any address that `fsspec` opens."""

from __future__ import annotations

import contextlib
import hashlib
import json
from contextlib import AbstractContextManager
from pathlib import Path

import fsspec

from pase_msa.data.guard import reading
from pase_msa.data.shards import SHARDS, is_address
from pase_msa.data.table import ARROW
from pase_msa.errors import PaSEError
from pase_msa.files import cache_folder
from pase_msa.media.table import PARTS, PLAN


class Place:
    """A folder of shards and their records. What is written there is whole once its record is.

    Args:
        out: folder, or address of one.

    Attributes:
        out: as it was given.
        system: file system of `fsspec`.
        folder: path in it.
        work: folder of this machine for clips that are finished and not yet in a shard.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = out
        with self.writing():
            self.system, folder = fsspec.core.url_to_fs(str(out))
        self.folder = str(folder).rstrip("/")
        mark = hashlib.sha256(str(out).encode()).hexdigest()[:32]
        self.work = cache_folder("extractions") / mark if is_address(out) else Path(out) / PARTS

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.folder.rpartition("/")[2]

    def writing(self) -> AbstractContextManager[None]:
        """Turns whatever goes wrong there into one sentence."""
        return reading(self.out, "a place that can be written to", "check the address, the rights and the space")

    def path(self, name: str) -> str:
        """Path of a file in the file system."""
        return f"{self.folder}/{name}"

    def begin(self, shards: int) -> None:
        """Mark the place as an extraction into so many shards, which also tells whether it can be written to.

        Errors:
            PaSEError: it holds something else, or cannot be written to.
        """
        plan = self.read(f"{PARTS}/{PLAN}")
        if plan is None:
            self._check_empty()
            with self.writing():
                self.system.makedirs(self.path(PARTS), exist_ok=True)
            self.write(f"{PARTS}/{PLAN}", json.dumps({"version": 1, "shards": shards}).encode())
            return
        with reading(self.out, "an extraction into shards", "give another place"):
            before = int(json.loads(plan)["shards"])
        if before != shards:
            raise PaSEError(
                f"{self.out} holds an extraction into {before} shards, found --shards {shards}; give the same number, "
                "or another place."
            )

    def _check_empty(self) -> None:
        with self.writing():
            if self.system.exists(self.path(ARROW)) or self.system.exists(self.path(SHARDS)):
                kind = "an unsharded" if self.system.exists(self.path(ARROW)) else "a finished"
                raise PaSEError(f"{self.out} already holds {kind} table; give another place or remove it.")
            if self.system.exists(self.folder) and self.system.ls(self.folder, detail=False):
                raise PaSEError(f"{self.out} is there already and holds no extraction into shards; give another place.")

    def read(self, name: str) -> bytes | None:
        """Content of a small file; None where there is none."""
        with self.writing(), contextlib.suppress(FileNotFoundError):
            content: bytes = self.system.cat_file(self.path(name))
            return content
        return None

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""
        with self.writing(), contextlib.suppress(FileNotFoundError):
            return int(self.system.size(self.path(name)))
        return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        with self.writing():
            self.system.pipe_file(self.path(name), content)
