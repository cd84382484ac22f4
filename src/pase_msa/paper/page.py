"""Markdown pages of all results: one per data set; paragraphs written by hand stay when the pages are made anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, write_text
from pase_msa.paper.quoted import DOUBT

_START, _END = "<!-- words: {} -->", "<!-- end of words -->"
_BY_HAND = re.compile(r"<!-- words: (\S+) -->\n(.*?)<!-- end of words -->", re.S)
_TABLE = re.compile(r"^\*\*(.+)\*\*\n\n((?:\|.*\n)+)\nNumbers: `(.+\.csv)`\.$", re.M)
_FIGURE = re.compile(r"^!\[([^\]]*)\]\(([^)]+\.png)\)\n\n(.*) Data: `(.+\.csv)`\.$", re.M)


def write_page(folder: Path, results: Path) -> Path:
    """Write `index.md` and a page per data set from the Markdown files of `pase reproduce`.

    A page shows one table in full, its headline, and every figure. All other tables, such as the paired differences,
    are links to the files in `results`. Between "<!-- words: NAME -->" and "<!-- end of words -->" there is room for
    paragraphs: on the index, at the head of a page, and under each table or figure. What stands there is kept; words
    about results that are no longer there move to the end of their page.

    Args:
        folder: of the pages.
        results: folder with one folder per data set.

    Returns:
        The index.

    Errors:
        PaSEError: there are no results.
    """
    data = sorted({file.parent for file in results.glob("*/*.md") if file.name != "ledger.md"})
    if not data:
        raise PaSEError(f"There are no results in {results}; give `pase reproduce` a table or figure to make first.")
    make_folder(folder)
    for source in data:
        page = folder / f"{source.name}.md"
        write_text(page, _page(source, page))
    index = folder / "index.md"
    words = _words(index)
    rows = [f"| [{source.name}]({source.name}.md) | {_titles(source)} |" for source in data]
    links = "\n".join(["| data | tables and figures |", "| --- | --- |", *rows])
    write_text(index, "\n\n".join(["# Results", _room("intro", words), links, *_rest(words)]) + "\n")
    return index


def _page(source: Path, page: Path) -> str:
    """The page of a data set."""
    words, name = _words(page), source.name
    files = [file for file in sorted(source.glob("*.md"), key=_place) if file.name != "ledger.md"]
    parts = [f"# Results: {name}", _room(name, words), _headline(files[0], page)]
    for file in files:
        parts += [f"## {_title(file)}", _room(f"{name}/{file.stem}", words), *_figures(file, page), _links(file, page)]
    return "\n\n".join(part for part in [*parts, *_rest(words)] if part) + "\n"


def _headline(file: Path, page: Path) -> str:
    """The first table of a file: its metrics, without intervals and costs."""
    found = _TABLE.search(file.read_text())
    if found is None:
        return ""
    title, table, numbers = found.groups()
    rows = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in table.splitlines()]
    kept = ("method", "seeds")
    metrics = [i for i, cell in enumerate(rows[0]) if i == 0 or cell.endswith(("↑", "↓")) or cell in kept]
    columns = metrics if len(metrics) > 2 else range(len(rows[0]))
    lines = ["| " + " | ".join(row[i] for i in columns) + " |" for row in rows]
    source = f"[All columns]({_link(file, page)}), [CSV]({_link(file.with_name(numbers), page)})."
    if DOUBT in table:
        source += f" {DOUBT}: doubtful in print; the notes below all columns say why."
    return "\n".join([f"**{title}**", "", *lines, "", source])


def _figures(file: Path, page: Path) -> list[str]:
    """The figures of a file, each with its caption and a link to its data."""
    return [
        f"![{alt}]({_link(file.with_name(png), page)})\n\n{caption} "
        f"[Data as CSV]({_link(file.with_name(numbers), page)})."
        for alt, png, caption, numbers in _FIGURE.findall(file.read_text())
    ]


def _links(file: Path, page: Path) -> str:
    """Links to the tables of a file."""
    tables = [
        f"[{title}]({_link(file.with_name(numbers), page)}) (CSV)"
        for title, _, numbers in _TABLE.findall(file.read_text())
    ]
    return "\n".join(f"- {item}" for item in [*tables, f"[Tables in full, seeds, command, notes]({_link(file, page)})"])


def _link(file: Path, page: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()


def _title(file: Path) -> str:
    return file.read_text().splitlines()[0].removeprefix("# ")


def _titles(source: Path) -> str:
    files = [file for file in sorted(source.glob("*.md"), key=_place) if file.name != "ledger.md"]
    return ", ".join(_title(file).split(":")[0].split(" on ")[0] for file in files)


def _words(page: Path) -> dict[str, str]:
    """What was written by hand, by place."""
    return dict(_BY_HAND.findall(page.read_text())) if page.is_file() else {}


def _room(name: str, words: dict[str, str]) -> str:
    return f"{_START.format(name)}\n{words.pop(name, chr(10))}{_END}"


def _rest(words: dict[str, str]) -> list[str]:
    """Words whose results are gone: they are kept, since the results may come back."""
    return [_room(name, words) for name in list(words) if words[name].strip()]


def _place(file: Path) -> tuple[int, str]:
    """Tables first, then figures, then what the paper does not have."""
    order = ("table", "figure")
    return (next((i for i, word in enumerate(order) if file.stem.startswith(word)), len(order)), file.stem)
