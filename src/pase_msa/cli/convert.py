"""`pase convert`."""

from __future__ import annotations


def convert(file: str, out: str, *, format: str | None = None) -> None:
    """Convert a published feature format to a feature table.

    Args:
        file: file or folder to read.
        out: folder for the table; it must not hold one yet.
        format: name of the reader; found from the content if left out.
    """
    from pase_msa.data import open_table
    from pase_msa.files import check_out

    check_out(out, folder=True)
    table = open_table(file, format=format, out=out)
    parts = ", ".join(f"{name} ({dim})" for name, dim in table.modalities.items())
    print(f"{len(table)} utterances in {out}: {parts or 'no features'}{', transcripts' if table.schema.text else ''}")
    for note in table.meta.get("notes", []):
        print(f"note: {note}")
