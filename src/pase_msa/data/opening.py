"""Open a data set in any format that has a reader."""

from __future__ import annotations

from pathlib import Path

from pase_msa import plugins
from pase_msa.data.table import ARROW, FeatureTable
from pase_msa.errors import PaSEError


def open_table(path: str | Path, *, format: str | None = None, out: str | Path | None = None) -> FeatureTable:
    """A feature table from a folder or a file in any format that `pase_msa.data.formats` reads.

    Args:
        path: our own table, a folder of arrays, or a published file.
        format: name of the reader; recognised by the content if left out.
        out: folder to stream the converted table to; in memory if left out.

    Errors:
        PaSEError: nothing is there, or no reader recognises it.
    """
    source = Path(path)
    if not source.exists():
        raise PaSEError(f"There is no {source}; give the folder or file that holds the data.")
    target = None if out is None else Path(out)
    if format is None and (source / ARROW).is_file():
        table = FeatureTable.load(source)
        return table if target is None else table.save(target)
    if format is not None:
        table = plugins.load("data.formats", format).read(source, target)
        assert isinstance(table, FeatureTable)
        return table
    for name in plugins.names("data.formats"):
        reader = plugins.load("data.formats", name)
        if reader.sniff(source):
            return reader.read(source, target)  # type: ignore[no-any-return]
    raise PaSEError(
        f"{source} is in no format that has a reader here ({', '.join(plugins.names('data.formats'))}); "
        "name one with --format, or write utterances.csv and beside it one NAME.npy per modality."
    )


def open_data(path: str | Path | None) -> FeatureTable:
    """The table at a path in any known format, or the bundled synthetic benchmark if `path` is None."""
    if path is not None:
        return open_table(path)
    from pase_msa.data.synthetic.generate import synthetic_table  # only here: users of their own data do not need it

    return synthetic_table()
