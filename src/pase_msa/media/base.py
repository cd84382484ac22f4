"""The contract of extractors: `FeatureExtractor`, and `Media`, the opened clip that it reads."""

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
    """An opened clip, which extractors read.

    Attributes:
        path: of the file, or "" for text alone.
        info: of the file; None for text alone.
        start: where the clip begins, in seconds from the beginning of the file.
        end: where it ends.
        audio: float32 [n] in [-1, 1] at `RATE` Hz, mono, beginning at `start`; None where there is no sound.
        words: of the transcript.
        speech: where somebody speaks.
        faces: filled by the extractor that looks for faces.
        notes: sentences about what is absent or was repaired; extractors add theirs.
        channel: of the sound that is read, from 0; None is the mix of all.
        face_tracks: every face that was followed over time, that of `faces` first.
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
    channel: int | None = None
    face_tracks: list[list[Face]] = field(default_factory=list)

    rate = RATE

    def frames(self, rate: float, longest_side: int) -> Iterator[tuple[float, Image]]:
        """Pictures, at most `rate` per second, as (time, RGB image up to `longest_side`); none without video."""
        if self.info is not None and self.info.video:
            yield from read_frames(self.path, rate, longest_side, self.start, self.end, self.notes)

    def note(self, sentence: str) -> None:
        """Add a note that something is absent or was repaired, unless it is there already."""
        if sentence not in self.notes:
            self.notes.append(sentence)


class FeatureExtractor(ABC):
    """Turns media into one sequence of features.

    A plug-in is a file `media/x.py` with `Config`, a dataclass of options, and `build(config) -> FeatureExtractor`.

    Attributes:
        dim: size of a step as the extractor gives it.
        deviations: whether a step of the table holds the standard deviation of each number after the means.
        columns: name of each of the `dim` numbers, where they have names.
        looks_for: what a clip must have, in words that follow "no", for example "face".
        weights: files that it loads, for the record.
        versions: packages whose version may change the numbers.
    """

    dim: int
    deviations: bool = False
    columns: Sequence[str] = ()
    looks_for: str = "features"
    weights: Sequence[Weights] = ()
    versions: Sequence[str] = ()

    @abstractmethod
    def extract(self, media: Media) -> Track | None:
        """The features; None, with a note in `media`, where the clip has nothing that the extractor looks for."""

    def extract_many(self, media: Sequence[Media]) -> list[Track | None]:
        """The features of several clips; an extractor overrides it where a batch is faster."""
        return [self.extract(item) for item in media]

    def state(self) -> dict[str, Any]:
        """Further entries of the record that do not follow from the options, for example the hash of a model."""
        return {}
