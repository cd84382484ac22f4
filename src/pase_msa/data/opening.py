"""Open a data set in any format that has a reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pase_msa import plugins
from pase_msa.data.guard import check_plain, reading
from pase_msa.data.reading import PICKLES, describe_pickle
from pase_msa.data.shards import has_shards, is_address, open_shards
from pase_msa.data.table import ARROW, FeatureTable
from pase_msa.errors import PaSEError

SplitRule = Literal["given", "auto"]
Part = tuple[tuple[str, ...], int]
"""Of a sharded table that is streamed: the splits to have at hand, and about how many training utterances."""

_SAMPLE = 5000  # for scalers, prior and report; the diagnosis reads as many at most


def training_part(options: Mapping[str, Any]) -> Part | None:
    """What a run with these options has at hand of its data: a part where it streams them, None for all."""
    return (("valid",), _SAMPLE) if (options.get("training") or {}).get("shuffle_buffer") else None


def evaluated_part(options: Mapping[str, Any], split: str) -> Part | None:
    """What an evaluation of such a run has at hand: one split."""
    return ((split,), 0) if training_part(options) else None


def open_table(path: str | Path, *, format: str | None = None, out: str | Path | None = None) -> FeatureTable:
    """A feature table from a folder or a file in any format that `pase_msa.data.formats` reads.

    Args:
        path: our own table, a folder of arrays, a published file, or a sharded table (`pase convert --shards`), which
            may also lie at any address that `fsspec` opens, such as "s3://bucket/table".
        format: name of the reader; recognised by the content if left out.
        out: folder to stream the converted table to; in memory if left out.

    Errors:
        PaSEError: nothing is there, no reader recognises it, or it is damaged; no other exception leaves a reader.
    """
    if is_address(path):
        return open_shards(path, None if out is None else Path(out))
    source = Path(path)
    with reading(source, "a file or a folder", "name another place"):
        if not source.exists() and not source.is_symlink():
            raise PaSEError(f"There is no {source}; give the folder or file that holds the data.")
        check_plain(source)
    target = None if out is None else Path(out)
    if format is None and has_shards(source):
        return open_shards(source, target)
    if format is None and (source / ARROW).is_file():
        with reading(source, "a feature table", "convert it again"):
            table = FeatureTable.load(source)
            return table if target is None else table.save(target)
    name, reader = _reader(source, format)
    with reading(source, f"data of the format {name!r}"):
        converted = reader.read(source, target)
        assert isinstance(converted, FeatureTable)
        return converted


def _reader(source: Path, format: str | None) -> tuple[str, Any]:
    """The reader that was asked for, or the first that recognises the data.

    A file that one reader cannot even look into may be another's. Its error is raised only where no reader recognises
    the data.
    """
    if format is not None:
        return format, plugins.load("data.formats", format)
    errors = []
    for name in plugins.names("data.formats"):
        reader = plugins.load("data.formats", name)
        try:
            with reading(source, f"data of the format {name!r}"):
                if reader.sniff(source):
                    return name, reader
        except PaSEError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    found = f" It holds {describe_pickle(source)}." if source.suffix.lower() in PICKLES and source.is_file() else ""
    raise PaSEError(
        f"{source} is in no format that has a reader here ({', '.join(plugins.names('data.formats'))}); "
        f"name one with --format, or write utterances.csv and beside it one NAME.npy per modality.{found}"
    )


def open_data(
    path: str | Path | None,
    split: SplitRule = "given",
    label: str | None = None,
    part: Part | None = None,
) -> FeatureTable:
    """The table at a path in any known format, or the bundled synthetic benchmark if `path` is None.

    Args:
        path: of the data.
        split: "auto" draws the splits that the data lack, see `assign_splits`.
        label: column whose values have equal shares in drawn splits.
        part: of a sharded table, where training streams it; see `training_part`.

    Errors:
        PaSEError: there are no such data, or no shards where they are to be streamed.
    """
    if part is not None:
        from pase_msa.data.streaming import open_part  # only here: most users do not stream

        if path is None or split == "auto" or not has_shards(path):
            raise PaSEError(
                f"training.shuffle_buffer streams a sharded table with splits, found {path or 'no data'}"
                f"{' and --split auto' if split == 'auto' else ''}; write one with `pase convert --shards N`"
                f"{' --split auto' if split == 'auto' else ''}, or leave it out."
            )
        return open_part(path, *part)
    if path is not None:
        table = open_table(path)
        if split == "auto":
            from pase_msa.data.splits import assign_splits

            return assign_splits(table, label)
        return table
    from pase_msa.data.synthetic.generate import synthetic_table  # only here: users of their own data do not need it

    return synthetic_table()
