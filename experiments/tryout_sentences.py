"""Made-up sentences with a sentiment, for machines without the transcripts of CMU-MOSI."""

from __future__ import annotations

import random

_OPENINGS = ("", "I have to say,", "Well,", "Honestly,", "To be fair,", "In the end,", "Like I said,")
_THINGS = (
    ("the story", "was"),
    ("the acting", "was"),
    ("the whole movie", "was"),
    ("the ending", "was"),
    ("the music", "was"),
    ("the characters", "were"),
    ("the jokes", "were"),
    ("the effects", "were"),
)
_DEGREES = (("", 1.0), ("really", 1.3), ("a little", 0.6), ("quite", 1.0), ("so", 1.3))
_WORDS = {
    "wonderful": 2.2,
    "fantastic": 2.3,
    "great": 2.0,
    "funny": 1.4,
    "good": 1.5,
    "nice": 1.2,
    "interesting": 1.0,
    "ordinary": -0.2,
    "as expected": 0.0,
    "long": -0.6,
    "slow": -1.0,
    "confusing": -1.1,
    "boring": -1.6,
    "bad": -1.7,
    "awful": -2.2,
    "terrible": -2.3,
}
_CLOSINGS = (
    ("", 0.0),
    ("and I loved it", 0.6),
    ("and I would watch it again", 0.5),
    ("and I saw it last week", 0.0),
    ("and I wanted to leave", -0.6),
    ("and I want my money back", -0.7),
)


def sentence(generator: random.Random) -> tuple[str, float]:
    """A sentence and its score in [-3, 3]."""
    thing, verb = generator.choice(_THINGS)
    degree, factor = generator.choice(_DEGREES)
    word, value = generator.choice(list(_WORDS.items()))
    fitting = [item for item in _CLOSINGS if item[1] * value >= 0]
    closing, more = generator.choice(fitting)
    negated = generator.random() < 0.15
    parts = [
        generator.choice(_OPENINGS),
        thing,
        verb,
        "not" if negated else "",
        degree,
        word,
        closing if not negated else "",
    ]
    score = -0.5 * value if negated else factor * value + more
    return " ".join(part for part in parts if part), round(max(-3.0, min(3.0, score)), 2)
