"""Damage told from data: checksums of files, and Arrow streams validated before an offset in them is followed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import xxhash

from pase_msa.errors import PaSEError

_BLOCK = 1 << 22


def checksum(file: Path) -> dict[str, int | str]:
    """Size and XXH3 of a file; it is fast rather than safe against forgery, since damage is what it finds."""
    digest, size = xxhash.xxh3_128(), 0
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "xxh3_128": digest.hexdigest()}


def validate_stream(file: Path) -> None:
    """Read an Arrow stream batch by batch, unmapped, and check every length and offset in it.

    Errors:
        PaSEError: it does not hold together. Mapped, such a file can end the process by a signal.
    """
    limit = file.stat().st_size
    try:
        with pa.OSFile(str(file), "rb") as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                if batch.nbytes > limit:
                    raise PaSEError(f"{file} is damaged: it announces more than it holds; convert it again.")
                batch.validate(full=True)
    except pa.ArrowException as error:
        raise PaSEError(f"{file} is damaged ({str(error)[:200]}); convert it again.") from error
