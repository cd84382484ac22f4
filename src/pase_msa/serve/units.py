"""What an analyst counts in a clip: words, utterances, turns or windows, one prediction each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

from pase_msa.errors import PaSEError
from pase_msa.media.timelines.base import Segment
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.results import ClipResult, UtteranceResult, overall

UnitKind = Literal["utterance", "word", "turn", "window"]
NO_SPEAKERS = (
    "A turn is what one speaker says before another does, and nothing says who speaks; add --speakers auto, or give "
    "--segments with a tier per speaker."
)


@dataclass(frozen=True)
class Unit:
    """A part of a clip with its prediction.

    Attributes:
        start: in seconds from the beginning of the file; None for a word whose time is unknown.
        end: as `start`; None for text alone.
        speaker: who speaks, where it is known.
        text: the words in it.
        prediction: score or class, confidence, contributions, probabilities.
        base: the prediction without any modality. Base and contributions sum to the prediction.
        influence: of a word, see `WordInfluence`; None for other units.
    """

    start: float | None
    end: float | None
    speaker: str | None
    text: str
    prediction: Prediction
    base: float
    influence: float | None = None


def units_of(result: ClipResult, kind: UnitKind) -> list[Unit]:
    """The units of a result, in order.

    A word has the prediction of its utterance, and an influence of its own: a model that was trained on utterances
    predicts no single word. A turn is what a speaker says before another one does; its prediction is the mean over its
    utterances, weighted by their length, as that of a whole clip is. Windows are utterances that `windows` has cut.

    Args:
        result: of a clip.
        kind: of the units.

    Errors:
        PaSEError: turns of a clip whose speakers are not known.
    """
    if kind == "word":
        return [unit for item in result.utterances for unit in _words(item)]
    if kind == "turn":
        if all(item.speaker is None for item in result.utterances):
            raise PaSEError(NO_SPEAKERS)
        return [_turn(result.name, list(items)) for _, items in groupby(result.utterances, lambda item: item.speaker)]
    return [
        Unit(item.start, item.end, item.speaker, item.text or "", item.prediction, item.base)
        for item in result.utterances
    ]


def _words(item: UtteranceResult) -> list[Unit]:
    return [
        Unit(word.start, word.end, item.speaker, word.text, item.prediction, item.base, word.influence)
        for word in item.words
    ]


def _turn(name: str, items: Sequence[UtteranceResult]) -> Unit:
    prediction, base = overall(name, items)
    ends = [item.end for item in items if item.end is not None]
    text = " ".join(item.text for item in items if item.text)
    return Unit(items[0].start, max(ends, default=None), items[0].speaker, text, prediction, base)


def windows(duration: float, length: float, stride: float | None = None) -> list[Segment]:
    """Windows over a whole recording, the last of which ends with it.

    Args:
        duration: of the recording, in seconds.
        length: of a window, in seconds; a shorter recording is one window.
        stride: from the beginning of a window to that of the next; half the length if left out.

    Errors:
        PaSEError: a length or stride that is not above 0, or a stride that leaves gaps.
    """
    step = length / 2 if stride is None else stride
    if not (0 < length < math.inf and 0 < step <= length):
        raise PaSEError(
            f"A window lasts more than 0 s and its stride is above 0 and no longer than it, found --window {length:g} "
            f"and --stride {step:g}; give other seconds."
        )
    if duration <= length:
        return [Segment(0.0, duration)]
    count = math.ceil((duration - length) / step - 1e-9)
    return [Segment(i * step, i * step + length) for i in range(count)] + [Segment(duration - length, duration)]


def flat_rows(name: str, units: Sequence[Unit]) -> list[dict[str, Any]]:
    """One row per unit, for CSV; the speaker and the influence of words are columns where they are known.

    Args:
        name: of the clip.
        units: of the clip.
    """
    speakers = any(unit.speaker for unit in units)
    influences = any(unit.influence is not None for unit in units)
    return [
        {
            "clip": name,
            **({"speaker": unit.speaker or ""} if speakers else {}),
            "start": unit.start,
            "end": unit.end,
            **({"score": unit.prediction.score} if unit.prediction.label is None else {"label": unit.prediction.label}),
            "confidence": unit.prediction.confidence,
            **{f"contribution_{modality}": value for modality, value in unit.prediction.contributions.items()},
            **({"influence": unit.influence} if influences else {}),
            "text": unit.text,
        }
        for unit in units
    ]


def nested_rows(name: str, kind: UnitKind, units: Sequence[Unit]) -> list[dict[str, Any]]:
    """One object per unit, for JSON.

    Args:
        name: of the clip.
        kind: of the units.
        units: of the clip.
    """
    rows = []
    for unit in units:
        fields = {key: value for key, value in unit.prediction.to_dict().items() if key != "id"}
        facts = {key: value for key, value in asdict(unit).items() if key != "prediction"}
        rows.append({"clip": name, "unit": kind, **facts, **fields})
    return rows
