"""One Markdown page of all results that are there; paragraphs written by hand stay when it is made anew."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pase_msa.errors import PaSEError
from pase_msa.files import write_text

_START, _END = "<!-- words: {} -->", "<!-- end of words -->"
_BY_HAND = re.compile(r"<!-- words: (\S+) -->\n(.*?)<!-- end of words -->", re.S)
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+\.png)\)")


def write_page(page: Path, results: Path) -> Path:
    """Write the page from the Markdown files of `reproduce`; figures are copied to `img/results` beside it.

    Between "<!-- words: NAME -->" and "<!-- end of words -->" there is room for paragraphs, before everything, before
    each data set and after each table or figure. What stands there is kept; words about results that are no longer
    there, at the end.

    Args:
        page: Markdown file.
        results: folder with a folder a data set.

    Errors:
        PaSEError: there are no results.
    """
    folders = sorted({file.parent for file in results.glob("*/*.md") if file.name != "ledger.md"})
    if not folders:
        raise PaSEError(f"There are no results in {results}; give `pase reproduce` a table or figure to make first.")
    words = dict(_BY_HAND.findall(page.read_text())) if page.is_file() else {}
    pictures = page.parent / "img" / "results"
    parts = ["# Results", _room("intro", words)]
    for folder in folders:
        parts += [f"## {folder.name}", _room(folder.name, words)]
        for file in sorted(folder.glob("*.md"), key=_place):
            if file.name != "ledger.md":
                parts += [_section(file, pictures), _room(f"{folder.name}/{file.stem}", words)]
    # kept: the results they are about may come back
    parts += [_room(name, words) for name in list(words) if words[name].strip()]
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, "\n\n".join(parts) + "\n")
    return page


def _room(name: str, words: dict[str, str]) -> str:
    return f"{_START.format(name)}\n{words.pop(name, chr(10))}{_END}"


def _place(file: Path) -> tuple[int, str]:
    order = ("table", "figure")
    return (next((i for i, word in enumerate(order) if file.stem.startswith(word)), len(order)), file.stem)


def _section(file: Path, pictures: Path) -> str:
    """A file's content one heading lower, its pictures copied."""
    prefix = file.parent.name

    def moved(found: re.Match[str]) -> str:
        pictures.mkdir(parents=True, exist_ok=True)
        name = f"{prefix}-{found[2]}"
        shutil.copyfile(file.parent / found[2], pictures / name)
        return f"![{found[1]}](img/results/{name})"

    return _IMAGE.sub(moved, re.sub(r"^# ", "### ", file.read_text(), flags=re.M)).strip()
