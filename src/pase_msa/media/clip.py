"""Containers for one clip: words, speech, faces, features by modality, and how they were made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pase_msa.data.columns import Array

Timing = Literal["recognised", "aligned", "spread", "none"]


@dataclass(frozen=True)
class Span:
    """A stretch of time.

    Attributes:
        start: in seconds from the beginning of the file.
        end: in seconds; after `start`.
    """

    start: float
    end: float


@dataclass(frozen=True)
class Word:
    """A word of the transcript.

    Attributes:
        text: as the transcript has it, with its punctuation.
        start: in seconds from the beginning of the file; None where its time is unknown.
        end: as `start`.
        confidence: of the recogniser, in [0, 1]; None for words that were given.
    """

    text: str
    start: float | None = None
    end: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Face:
    """The face that was followed, in one sampled frame.

    Attributes:
        time: in seconds from the beginning of the file.
        box: left, top, right, bottom as fractions of the picture's width and height.
        score: of the detector, in [0, 1].
        expression: probability by emotion name.
    """

    time: float
    box: tuple[float, float, float, float]
    score: float
    expression: dict[str, float] = field(default_factory=dict)


@dataclass
class Track:
    """The features of one extractor, at its own rate.

    Attributes:
        values: float32 [T, D].
        times: middle of each step, in seconds from the beginning of the file, [T]; NaN for words without a time.
        by_word: whether step i is word i of the clip.
    """

    values: Array
    times: Array
    by_word: bool = False


@dataclass
class Clip:
    """Everything that was extracted from a clip. An absent modality is in neither `tracks` nor `features`.

    Attributes:
        path: of the file, or "" for text alone.
        start: where the clip begins in the file, in seconds.
        duration: in seconds; None for text alone.
        text: transcript, recognised or given; None where there is no speech.
        speaker: who speaks, where it is known.
        words: of the transcript, in order.
        timing: where the words' times come from: "recognised", "aligned" to the given text, "spread" over the speech
            because aligning failed, or "none".
        speech: where somebody speaks.
        tracks: by modality, at the extractor's own rate.
        features: by modality, float32 [steps, D] as they go into a feature table; NaN where a step has no measurement.
        steps: the time of each step; empty where the modalities keep their own rates.
        aligned: "word" where the steps of all modalities are the words; "window" where they are windows of equal
            length, as in a clip without speech (text whose words have no times still has one step per word); "frame"
            where every modality keeps its own rate.
        faces: the face that was followed, over time.
        seconds: time that each stage took.
        notes: one sentence for everything that is absent or was repaired.
        extraction: extractors, options and weights, see `pase_msa.media.record`.
        language: of the speech, as it was given or detected, by its code; None where neither.
        face_tracks: every face that was followed over time, that of `faces` first.
    """

    path: str
    start: float = 0.0
    duration: float | None = None
    text: str | None = None
    speaker: str | None = None
    words: list[Word] = field(default_factory=list)
    timing: Timing = "none"
    speech: list[Span] = field(default_factory=list)
    tracks: dict[str, Track] = field(default_factory=dict)
    features: dict[str, Array] = field(default_factory=dict)
    steps: list[Span] = field(default_factory=list)
    aligned: Literal["word", "window", "frame"] = "word"
    faces: list[Face] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    extraction: dict[str, Any] = field(default_factory=dict)
    language: str | None = None
    face_tracks: list[list[Face]] = field(default_factory=list)
