"""Work that is done in pieces, so that others can be served between two of them, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")
Pieces = Generator[None, None, Result]
"""Work that stops after every piece, and returns its result at the end."""


@dataclass(frozen=True)
class Progress:
    """How far the reading of a recording is.

    Attributes:
        stage: that begins: "cut", one of the extractor's stages, or "predict".
        fraction: of the work that is done, in [0, 1].
        utterance: that is worked on, from 1 on; 0 before the recording is cut.
        utterances: of the recording; 0 before it is cut.
    """

    stage: str
    fraction: float = 0.0
    utterance: int = 0
    utterances: int = 0


Report = Callable[[Progress], None]


def finish(pieces: Generator[Any, None, Result]) -> Result:
    """The result of work in pieces, all done at once."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            result: Result = end.value
            return result
