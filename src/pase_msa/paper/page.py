"""One Markdown page of all stored results, which keeps its paragraphs written by hand when it is made anew."""

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
    """Write the page from the Markdown files of `reproduce`. Figures are copied to `img/results` beside it.

    Paragraphs written by hand stand between "<!-- words: NAME -->" and "<!-- end of words -->": at the top, before
    each data set and after each table or figure. They are kept. Those on results that no longer exist go to the end.

    Args:
        page: Markdown file.
        results: folder with one folder per data set.

    Errors:
        PaSEError: there are no results.
    """
    folders = sorted({file.parent for file in results.glob("*/*.md") if file.name != "ledger.md"})
    if not folders:
        raise PaSEError(f"There are no results in {results}; give `pase reproduce` a table or figure to make first.")
    words = dict(_BY_HAND.findall(page.read_text())) if page.is_file() else {}
    pictures = page.parent / "img" / "results"
    parts = ["# Results", _place_for_words("intro", words)]
    for folder in folders:
        parts += [f"## {folder.name}", _place_for_words(folder.name, words)]
        for file in sorted(folder.glob("*.md"), key=_rank):
            if file.name != "ledger.md":
                parts += [_section(file, pictures), _place_for_words(f"{folder.name}/{file.stem}", words)]
    # the results that the remaining words are about may come back
    parts += [_place_for_words(name, words) for name in list(words) if words[name].strip()]
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, "\n\n".join(parts) + "\n")
    return page


def _place_for_words(name: str, words: dict[str, str]) -> str:
    """The marks with the words between them, which are taken out of `words`."""
    return f"{_START.format(name)}\n{words.pop(name, chr(10))}{_END}"


def _rank(file: Path) -> tuple[int, str]:
    """Tables first, then figures, then the rest, each by name."""
    order = ("table", "figure")
    return (next((i for i, word in enumerate(order) if file.stem.startswith(word)), len(order)), file.stem)


def _section(file: Path, pictures: Path) -> str:
    """A file's content with its headings one level lower; its figures are copied."""
    prefix = file.parent.name

    def copied(image: re.Match[str]) -> str:
        pictures.mkdir(parents=True, exist_ok=True)
        name = f"{prefix}-{image[2]}"
        shutil.copyfile(file.parent / image[2], pictures / name)
        return f"![{image[1]}](img/results/{name})"

    return _IMAGE.sub(copied, re.sub(r"^# ", "### ", file.read_text(), flags=re.M)).strip()
