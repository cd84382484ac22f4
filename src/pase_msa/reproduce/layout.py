"""A table or figure of the reproduction as files: Markdown, CSV, PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pase_msa.figures.saving import save, save_table
from pase_msa.files import write_text


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        stem: of its CSV file.
        title: above it.
        columns: headings.
        rows: what is shown.
        data: the same as numbers, one a row.
    """

    stem: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    data: pd.DataFrame

    @property
    def markdown(self) -> str:
        """As Markdown."""
        return "\n".join(
            ["| " + " | ".join(line) + " |" for line in (self.columns, ["---"] * len(self.columns), *self.rows)]
        )


@dataclass(frozen=True)
class Picture:
    """A figure with the data that it was drawn from."""

    stem: str
    caption: str
    figure: Figure
    data: pd.DataFrame


@dataclass(frozen=True)
class Part:
    """What one file of the reproduction makes.

    Attributes:
        title: heading.
        tables: in order.
        pictures: in order.
        notes: sentences on how to read them.
    """

    title: str
    tables: Sequence[Grid] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = field(default_factory=list)


def write_part(part: Part, out: Path, name: str, about: Sequence[str]) -> Path:
    """Write the CSVs and pictures, and last `NAME.md`, which names them all.

    Args:
        part: what to write.
        out: folder.
        name: of the Markdown file.
        about: lines on data, seeds and runs.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = [f"# {part.title}", "", *about, ""]
    for table in part.tables:
        save_table(table.data, out / table.stem)
        lines += [f"**{table.title}**", "", table.markdown, "", f"Numbers: `{table.stem}.csv`.", ""]
    for picture in part.pictures:
        save(picture.figure, picture.data, out / picture.stem)
        lines += [f"![{picture.caption}]({picture.stem}.png)", "", f"{picture.caption} Data: `{picture.stem}.csv`.", ""]
    lines += [f"- {note}" for note in part.notes]
    file = out / f"{name}.md"
    write_text(file, "\n".join(lines).rstrip() + "\n")
    return file
