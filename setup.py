"""What a package index shows: the README, whose links to files of the repository work there, too."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def package_index_readme() -> str:
    """The README for a reader who does not have the repository.

    A link to a file becomes a link to that file at the `Repository` URL of pyproject.toml. While no such URL is set,
    the link keeps its words, and a picture is left out.
    """
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    repository = urls.get("Repository")

    def target(match: re.Match[str]) -> str:
        mark, words, path = match.groups()
        if re.match(r"[a-z]+:|#", path):
            return match[0]
        if repository is None:
            return "" if mark else words
        return f"{mark}[{words}]({repository}/{'raw' if mark else 'blob'}/main/{path})"

    parts = re.split(r"(^```.*?^```)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    return "".join(
        part if part.startswith("```") else re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", target, part) for part in parts
    )


if __name__ == "__main__":
    setup(long_description=package_index_readme(), long_description_content_type="text/markdown")
