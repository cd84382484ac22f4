"""A section of results as files: tables as Markdown and CSV, figures as PNG, SVG and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as MplFigure

from pase_msa.files import make_folder, write_text
from pase_msa.paper.saving import save, save_table


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        stem: name of its CSV file, without the suffix.
        title: printed above it.
        columns: headings.
        rows: cells as they are printed.
        data: the same results as numbers, one result per row.
    """

    stem: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    data: pd.DataFrame

    @property
    def markdown(self) -> str:
        """The table in Markdown."""
        return "\n".join(
            ["| " + " | ".join(line) + " |" for line in (self.columns, ["---"] * len(self.columns), *self.rows)]
        )


@dataclass(frozen=True)
class Figure:
    """A figure with the data that it was drawn from.

    Attributes:
        stem: name of its files, without the suffix.
        caption: a sentence.
        drawing: of matplotlib.
        data: what was drawn.
    """

    stem: str
    caption: str
    drawing: MplFigure
    data: pd.DataFrame


@dataclass(frozen=True)
class Section:
    """What `build` of one file of this package returns.

    Attributes:
        title: heading.
        tables: in order.
        figures: in order.
        notes: sentences on how to read them.
        stem: name of the Markdown file, without the suffix; that of the plug-in if left out.
    """

    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    stem: str | None = None


def write_section(section: Section, out: Path, name: str, about: Sequence[str]) -> Path:
    """Write the CSV files and figures, and last the Markdown file, which links to all of them.

    Args:
        section: to write.
        out: folder.
        name: of the plug-in.
        about: lines on data, seeds and runs, printed below the heading.

    Returns:
        The Markdown file.
    """
    make_folder(out)
    lines = [f"# {section.title}", "", *about, ""]
    for table in section.tables:
        save_table(table.data, out / table.stem)
        lines += [f"**{table.title}**", "", table.markdown, "", f"Numbers: `{table.stem}.csv`.", ""]
    for figure in section.figures:
        save(figure.drawing, figure.data, out / figure.stem)
        lines += [f"![{figure.caption}]({figure.stem}.png)", "", f"{figure.caption} Data: `{figure.stem}.csv`.", ""]
    lines += [f"- {note}" for note in section.notes]
    file = out / f"{section.stem or name}.md"
    write_text(file, "\n".join(lines).rstrip() + "\n")
    return file
