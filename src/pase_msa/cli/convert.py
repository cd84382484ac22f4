"""`pase convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pase_msa.data.table import FeatureTable


def convert(
    file: str,
    out: str,
    *,
    format: str | None = None,
    columns: str | None = None,
    take: list[str] | None = None,
    order: str | None = None,
    where: str | None = None,
    shards: int = 0,
    split: Literal["given", "auto"] = "given",
    label: str | None = None,
) -> None:
    """Convert a published feature format to a feature table.

    Args:
        file: file or folder to read.
        out: folder for the table; it must not hold one yet. With --shards it may be an address, such as s3://BUCKET/NAME.
        format: name of the reader; found from the content if left out.
        columns: CSV file with further columns, such as speaker, which are joined by its column id.
        take: columns of that file to join; all if left out.
        order: column of numbers by which the utterances of a video are put in order, such as the start in seconds; of
            the data, or else of --columns.
        where: COLUMN=PATTERN keeps the utterances whose value matches a regular expression, such as video=impro.
        shards: write the table in so many Parquet files, which need not lie on this machine; 0 writes one Arrow file.
        split: auto draws the splits that the data lack, by video or speaker, and writes them into the table.
        label: column whose values are to have equal shares in drawn splits.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from pase_msa.data import open_table
    from pase_msa.data.joining import in_order, join_columns, matching
    from pase_msa.data.shards import is_address, write_shards
    from pase_msa.data.splits import assign_splits
    from pase_msa.errors import PaSEError
    from pase_msa.files import check_out

    if is_address(out) and shards < 1:
        raise PaSEError(f"{out} is an address, where a table lies in shards; say how many with --shards N.")
    if take and columns is None:
        raise PaSEError(f"--take {','.join(take)} names columns of a CSV file; give that with --columns FILE.")
    if not is_address(out):
        check_out(out, folder=True)
    if not (shards or split == "auto" or columns or order or where):
        _summarise(open_table(file, format=format, out=out), out)
        return
    with TemporaryDirectory(prefix="pase-convert-") as folder:
        table = open_table(file, format=format, out=f"{folder}/table")
        if columns is not None:
            table = join_columns(table, Path(columns), take)
        if where is not None:
            table = matching(table, where, f"{folder}/matching")
        if order is not None:
            table = in_order(table, order, f"{folder}/ordered", columns=None if columns is None else Path(columns))
        if split == "auto":
            table = assign_splits(table, label)
        if shards:
            write_shards(table, out, shards)
        else:
            table.save(Path(out))
        _summarise(table, out)


def _summarise(table: FeatureTable, out: str) -> None:
    """One line about a table, and what its reader noted."""
    parts = ", ".join(f"{name} ({dim})" for name, dim in table.modalities.items())
    print(f"{len(table)} utterances in {out}: {parts or 'no features'}{', transcripts' if table.schema.text else ''}")
    for note in table.meta.get("notes", []):
        print(f"note: {note}")
