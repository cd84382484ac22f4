"""The long description: README.md, where links and pictures that are files of the repository become plain text.

A package index shows the README alone, so that a relative link would lead nowhere there. Everything else is in
pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import setup

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\]\([^)]*\))*)\]\((?![a-z]+:)[^)]*\)")


def long_description(text: str) -> str:
    """Markdown without relative links: their text stays, and relative pictures go."""
    text = re.sub(r"<img [^>]*src=\"(?![a-z]+:)[^>]*>", "", text)
    while (shorter := _LINK.sub(lambda link: "" if link[1] else link[2], text)) != text:
        text = shorter
    return text


readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(long_description=long_description(readme), long_description_content_type="text/markdown")
