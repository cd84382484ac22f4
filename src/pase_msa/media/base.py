"""The contract of an extractor, and the media it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL.Image import Image

from pase_msa.data.columns import Array
from pase_msa.media.clip import Face, Span, Track, Word
from pase_msa.media.decode import RATE, Info, read_frames
from pase_msa.media.weights import Weights


@dataclass
class Media:
    """A clip, opened: what extractors read.

    Attributes:
        path: of the file, or "" for text alone.
        info: of the file; None for text alone.
        start: where the clip begins, in seconds from the beginning of the file.
        end: where it ends.
        audio: float32 [n] in [-1, 1] at `RATE` Hz, mono, beginning at `start`; None where there is no sound.
        words: of the transcript.
        speech: where somebody speaks.
        faces: filled by the extractor that looks for faces.
        notes: sentences about what is absent or was mended; extractors add theirs.
    """

    path: str = ""
    info: Info | None = None
    start: float = 0.0
    end: float = 0.0
    audio: Array | None = None
    words: list[Word] = field(default_factory=list)
    speech: list[Span] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    rate = RATE

    def frames(self, rate: float, longest_side: int) -> Iterator[tuple[float, Image]]:
        """Pictures at most `rate` a second as (time, RGB image no larger than `longest_side`); none without video."""
        if self.info is not None and self.info.video:
            yield from read_frames(self.path, rate, longest_side, self.start, self.end, self.notes)

    def note(self, sentence: str) -> None:
        """Say once that something is absent or was mended."""
        if sentence not in self.notes:
            self.notes.append(sentence)


class FeatureExtractor(ABC):
    """Media become one sequence of features.

    A plug-in is a file `extract/x.py` with `Config`, a dataclass of options, and `build(config) -> FeatureExtractor`.

    Attributes:
        dim: size of a step as the extractor gives it.
        deviations: whether a step of the table holds, after the mean of each number, its standard deviation.
        columns: name of each of the `dim` numbers, where they have names.
        weights: files it loads, for the record.
        versions: packages whose version may change the numbers.
    """

    dim: int
    deviations: bool = False
    columns: Sequence[str] = ()
    weights: Sequence[Weights] = ()
    versions: Sequence[str] = ()

    @abstractmethod
    def extract(self, media: Media) -> Track | None:
        """The features, or None (with a note) where the clip has nothing of the kind."""

    def extract_many(self, media: Sequence[Media]) -> list[Track | None]:
        """Several at once, where that is faster."""
        return [self.extract(item) for item in media]

    def state(self) -> dict[str, Any]:
        """Further facts for the record that the options do not tell, for example the hash of a model."""
        return {}
