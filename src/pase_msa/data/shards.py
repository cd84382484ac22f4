"""A feature table in parts: Parquet files in a folder of this machine or at any address that `fsspec` opens.

A sharded table is a folder with `shards.json` and files `00000.parquet`, `00001.parquet`, ... Each holds some rows of
the table in order, with the columns of the table itself, in row groups of 512. `shards.json` is written last and lists
every file with its rows and its size, so that a folder without it is no table, and a file that was cut short is found.

Shards are written in parallel. To be read, they are copied row group by row group into a memory-mapped table in
`$PASE_CACHE` or `~/.cache/pase-msa`, once for each content; memory holds one row group at a time. Or training streams
them, see `pase_msa.data.streaming`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pase_msa.data.guard import reading
from pase_msa.data.table import ARROW, FeatureTable, Schema
from pase_msa.errors import PaSEError
from pase_msa.files import cache_folder

SHARDS = "shards.json"
_ROWS = 512  # of a row group


def is_address(path: str | Path) -> bool:
    """Whether a path is an address of `fsspec`, such as "s3://bucket/table"."""
    return "://" in str(path)


def absolute(path: str | Path) -> str:
    """A path that holds from any working directory; an address as it is."""
    return str(path) if is_address(path) else str(Path(path).resolve())


def write_shards(table: FeatureTable, out: str | Path, count: int, *, jobs: int = -1) -> None:
    """Write a table in parts, several at a time.

    Args:
        table: the data.
        out: folder, or address of one.
        count: of parts; never more than the table has rows.
        jobs: parts that are written at the same time; -1 is one per core.

    Errors:
        PaSEError: less than one part, a table that is there already, or an address that cannot be written to.
    """
    from joblib import Parallel, delayed  # who only reads does not need it

    if count < 1:
        raise PaSEError(f"A table has one shard or more, found --shards {count}; give a larger number.")
    with reading(out, "a place that can be written to", "check the address and the rights"):
        system, folder = fsspec.core.url_to_fs(str(out))
        if system.exists(f"{folder}/{SHARDS}") or system.exists(f"{folder}/{ARROW}"):
            raise PaSEError(f"{out} already holds a feature table; give another folder or remove it.")
        system.makedirs(folder, exist_ok=True)
        count = min(count, len(table))
        ends = [len(table) * number // count for number in range(count + 1)]
        schema = table.schema.arrow()
        tasks = (
            delayed(write_shard)(
                system, f"{folder}/{shard_name(number)}", schema, _slices(table, ends[number], ends[number + 1])
            )
            for number in range(count)
        )
        files = Parallel(n_jobs=jobs, prefer="threads")(tasks)
        write_list(system, folder, table.schema, table.meta, files, table.fingerprint())


def _slices(table: FeatureTable, start: int, end: int) -> Iterator[pa.Table]:
    """The rows from `start` to `end`, a row group at a time."""
    for first in range(start, end, _ROWS):
        yield table.dataset.data.table.slice(first, min(_ROWS, end - first)).cast(table.schema.arrow())


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"{number:05d}.parquet"


def write_shard(system: Any, file: str, schema: pa.Schema, groups: Iterable[pa.Table]) -> dict[str, Any]:
    """Write one part of a table.

    Args:
        system: file system of `fsspec`.
        file: path in it.
        schema: of the rows.
        groups: rows, each a row group of at most 512.

    Returns:
        The entry of the part in the list of all: "file", "rows" and "bytes".
    """
    rows = 0
    with system.open(file, "wb") as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group, row_group_size=_ROWS)
            rows += len(group)
    return {"file": file.rpartition("/")[2], "rows": rows, "bytes": int(system.size(file))}


def write_list(
    system: Any, folder: str, schema: Schema, meta: Mapping[str, Any], files: Sequence[Any], fingerprint: str
) -> None:
    """Write the list of all parts, which makes them a table: the last thing that is written.

    Args:
        system: file system of `fsspec`.
        folder: path of the table in it.
        schema: of the table; the files may have further columns.
        meta: of the table.
        files: entries of its parts that hold rows, in order.
        fingerprint: of the table.
    """
    content = {
        "version": 1,
        "schema": vars(schema),
        "meta": dict(meta),
        "shards": list(files),
        "fingerprint": fingerprint,
    }
    with system.open(f"{folder}/{SHARDS}", "wb") as stream:
        stream.write(json.dumps(content, indent=1).encode())


def has_shards(path: str | Path) -> bool:
    """Whether a folder or an address holds a sharded table."""
    if not is_address(path):
        return (Path(path) / SHARDS).is_file()
    with reading(path, "the address of a feature table", "check the address, the rights and the network"):
        system, folder = fsspec.core.url_to_fs(str(path))
        return bool(system.exists(f"{folder}/{SHARDS}"))


@dataclass(frozen=True)
class Shards:
    """A sharded table as its list describes it.

    Attributes:
        address: of the folder.
        files: of each shard its name ("file"), "rows" and "bytes".
        schema: of the table.
        meta: of the table.
        fingerprint: of the table; None where an earlier version wrote it.
        mark: of the list itself, which holds all of these: a name for what is made of the shards.
    """

    address: str
    files: list[dict[str, Any]]
    schema: Schema
    meta: dict[str, Any]
    fingerprint: str | None
    mark: str


def find_shards(path: str | Path) -> Shards:
    """The shards at a folder or an address, each of which is there in the size that it was written in.

    Errors:
        PaSEError: there is no sharded table, a part of it is missing, or its list is damaged.
    """
    if not has_shards(path):
        raise PaSEError(f"{path} holds no sharded table ({SHARDS}); make one with `pase convert --shards`.")
    with reading(path, "a sharded feature table", "write its shards again"):
        system, folder = fsspec.core.url_to_fs(str(path))
        text = system.cat_file(f"{folder}/{SHARDS}")
        content = json.loads(text)
        for shard in content["shards"]:
            file = f"{folder}/{shard['file']}"
            if not system.exists(file) or system.size(file) != shard["bytes"]:
                raise PaSEError(f"{path}: {shard['file']} is missing or cut short; write the shards again.")
        return Shards(
            str(path),
            content["shards"],
            Schema(**content["schema"]),
            dict(content["meta"]),
            content.get("fingerprint"),
            hashlib.sha256(text).hexdigest(),
        )


def open_shards(path: str | Path, out: Path | None = None) -> FeatureTable:
    """The table that shards make, memory-mapped.

    Args:
        path: folder or address.
        out: folder for the table; the cache if left out.

    Errors:
        PaSEError: there is no sharded table, a part of it is missing, or it is damaged.
    """
    shards = find_shards(path)
    with reading(path, "a sharded feature table", "write its shards again"):
        target = out or cache_folder("tables") / shards.mark[:32]
        if out is None and (target / ARROW).is_file():
            return FeatureTable.load(target)
        return FeatureTable.write((group for _, group in row_groups(shards)), shards.schema, target, shards.meta)


def row_groups(
    shards: Shards, columns: Sequence[str] | None = None, places: Collection[tuple[int, int]] | None = None
) -> Iterator[tuple[tuple[int, int], pa.RecordBatch]]:
    """The rows of the table in order, a row group at a time.

    Args:
        shards: of the table.
        columns: those to read; all of them if None.
        places: (number of the shard, number of the row group) of those to read; all of them if None.

    Yields:
        The place of a row group, and its rows.

    Errors:
        PaSEError: a shard has another number of rows than the list says.
    """
    schema = shards.schema.arrow()
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    system, folder = fsspec.core.url_to_fs(shards.address)
    wanted = None if places is None else {number for number, _ in places}
    for number, shard in enumerate(shards.files):
        if wanted is not None and number not in wanted:
            continue
        with system.open(f"{folder}/{shard['file']}", "rb") as stream:
            file = pq.ParquetFile(stream)
            if file.metadata.num_rows != shard["rows"]:
                raise PaSEError(f"{shard['file']} has {file.metadata.num_rows} rows, not {shard['rows']}.")
            for group in range(file.num_row_groups):
                if places is None or (number, group) in places:
                    table = file.read_row_group(group, columns=schema.names).select(schema.names).cast(schema)
                    for batch in table.combine_chunks().to_batches():
                        yield (number, group), batch


def fingerprint_of(shards: Shards, lengths: Mapping[str, Sequence[int]]) -> str:
    """What `FeatureTable.fingerprint` gives for the table that shards make; they are read once, column by column.

    Args:
        shards: of the table; their own fingerprint and mark are not looked at.
        lengths: by modality, steps of every row, 0 where it is absent.
    """
    digest = hashlib.sha256(json.dumps([shards.schema.modalities, shards.schema.labels]).encode())
    for name in shards.schema.arrow().names:
        columns = (batch.column(0) for _, batch in row_groups(shards, columns=[name]))
        if name.startswith("features."):
            digest.update(np.asarray(lengths[name.removeprefix("features.")], dtype=np.int64).tobytes())
            for column in columns:
                digest.update(np.ascontiguousarray(column.flatten()).tobytes())  # without what is absent
        else:
            digest.update(json.dumps([value for column in columns for value in column.to_pylist()]).encode())
    return digest.hexdigest()
