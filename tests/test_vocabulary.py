"""The field's words: those of the first version do not come back. `python -m tests.test_vocabulary` lists them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Words of the first version for ideas that have the field's name now (see the glossary).
OLD = [
    "settle",
    "settles",
    "settled",
    "settlement",
    "withhold",
    "withholds",
    "withheld",
    "rehearse",
    "rehearsal",
    "companion",
    "standing",
    "played",
    "plays",
    "game",
    "games",
    "dialect",
    "dialects",
    "believed",
    "believe",
    "honest",
    "rival",
    "rivals",
    "closed",
    "remarks",
    "leads",
    "waves",
    "spelled_out",
    "left_as_found",
    "told_apart",
    "Subject",
    "Grid",
    "Modulation",
    "equilibria",
    "probe",
    "Experts",
    "Expert",
    "Moment",
    "Saturated",
]
# How often modules and pages may still have them: words with another meaning (a link leads, a clip
# plays, games in a title), and names of generated files. The numbers may only fall.
MOST = {"src": 27, "docs": 10}
# These two name old words in order to say what replaced them.
HISTORY = {"decisions.md", "glossary.md"}


def count(folder: str) -> Counter[str]:
    """How often each old word stands in a folder's modules and pages."""
    pattern = re.compile(rf"\b({'|'.join(OLD)})\b")
    words: Counter[str] = Counter()
    for file in sorted((ROOT / folder).rglob("*")):
        if file.suffix in {".py", ".md"} and file.name not in HISTORY:
            # "closed form" and "closed-form" are the field's own
            words.update(pattern.findall(re.sub(r"closed.forms?\b", "", file.read_text(encoding="utf-8"))))
    return words


def test_old_words_do_not_come_back() -> None:
    for folder, most in MOST.items():
        words = count(folder)
        assert words.total() <= most, f"{folder}: {dict(words)}"


if __name__ == "__main__":
    for folder in MOST:
        words = count(folder)
        print(folder, words.total(), dict(words.most_common()))
