"""Pages of the site that are files elsewhere in the repository, and links that hold in the repository and on the site.

A page may link to any file of the repository by a relative path, as a reader of the repository would follow it. On the
site such a link leads to the mirrored page or file; where a file is not part of the site, the link becomes plain text.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# folder or file of the repository -> its place on the site
MIRRORED = {
    "CONTRIBUTING.md": "contributing/index.md",
    "CHANGELOG.md": "contributing/changelog.md",
    "experiments/ledger": "results/ledger",
    "experiments/results": "results/data",
}
SHOWN = {".md", ".csv", ".png"}
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"(^```.*?^```)", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the mirrored files."""
    for source, place in MIRRORED.items():
        start = ROOT / source
        for file in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if file.suffix in SHOWN:
                there = posixpath.normpath(posixpath.join(place, file.relative_to(start).as_posix()))
                files.append(File.generated(config, _on_site(there), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links of the site."""
    origin = (
        Path(page.file.abs_src_path).relative_to(ROOT) if page.file.abs_src_path else Path("docs", page.file.src_uri)
    )
    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _relink(part, origin, page.file.src_uri) for part in parts)


def place_of(path: str) -> str | None:
    """Where a file of the repository is on the site; None if it is not part of it."""
    if path.startswith("docs/"):
        return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))
    for source, place in MIRRORED.items():
        if path == source or path.startswith(f"{source}/"):
            return _on_site(posixpath.normpath(posixpath.join(place, os.path.relpath(path, source))))
    return None


def _on_site(place: str) -> str:
    # mkdocs makes the index page of a folder of README.md
    return place.removesuffix("/.")


def _relink(text: str, origin: Path, here: str) -> str:
    def link(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups()
        if re.match(r"[a-z]+:|/", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(origin.parent.as_posix(), target))
        if (place := place_of(path)) is not None:
            return f"{before}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor or ''}{after}"
        return match[0]

    # a link to a file that is not on the site keeps its words
    def drop(match: re.Match[str]) -> str:
        target = match[2]
        if re.match(r"[a-z]+:|/|#", target) or match[0].startswith("!"):
            return match[0]
        path = posixpath.normpath(posixpath.join(origin.parent.as_posix(), target.partition("#")[0]))
        return match[0] if place_of(path) is not None else match[1]

    return _LINK.sub(link, re.sub(r"(?<!!)\[([^\]\[]*)\]\(([^)\s]+)\)", drop, text))
