"""A result as a timeline: a tier per speaker for transcript, score, confidence, every modality and words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pase_msa.errors import PaSEError
from pase_msa.media.timelines.base import Caption, Interval, Tier, Timeline, tiers, without_overlap
from pase_msa.serve.events import Event
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.results import ClipResult, UtteranceResult
from pase_msa.serve.units import Unit


def timeline_of(
    result: ClipResult,
    units: Sequence[Unit],
    events: Sequence[Event] = (),
    *,
    media: Path | None = None,
    duration: float | None = None,
) -> Timeline:
    """The tiers and captions of a result.

    A tier is called by what it holds and by its speaker, such as `score@Anna`, and without a speaker `score`:
    `transcript`, `score` or `class`, `confidence`, `contribution_MODALITY`, `words`, `influence` where the units are
    words, and `events`. Where units overlap, as windows do, further tiers `score#2` hold those that lie over others.

    Args:
        result: of a clip.
        units: of the result, which the tiers of predictions and the captions hold.
        events: found in the units.
        media: the recording, which the file links to.
        duration: of the recording, in seconds; the end of the result if left out.

    Errors:
        PaSEError: the result has no times, since it is of a text alone.
    """
    if result.duration is None:
        raise PaSEError("A timeline needs times, and a text alone has none; write .csv, .json or .jsonl.")
    speakers = dict.fromkeys(item.speaker for item in result.utterances)
    found = [tier for speaker in speakers for tier in _speaker(result, units, events, speaker)]
    captions = [
        Caption(unit.start, unit.end, unit.text, note(unit.prediction), unit.speaker)
        for unit in units
        if unit.start is not None and unit.end is not None
    ]
    return Timeline(media, max(duration or 0.0, result.duration), found, captions)


def note(prediction: Prediction) -> str:
    """A prediction in a line: score or class, confidence, contributions."""
    contributions = ", ".join(f"{name} {value:+.2f}" for name, value in prediction.contributions.items())
    predicted = f"class {prediction.label}" if prediction.label is not None else f"score {prediction.score:+.2f}"
    return f"{predicted} (confidence {prediction.confidence:.0%}): {contributions}"


def _speaker(result: ClipResult, units: Sequence[Unit], events: Sequence[Event], speaker: str | None) -> Iterable[Tier]:
    """The tiers about one speaker."""
    items = [item for item in result.utterances if item.speaker == speaker]
    own = [unit for unit in units if unit.speaker == speaker and unit.start is not None and unit.end is not None]
    content: dict[str, list[Interval]] = {
        "transcript": [Interval(item.start, item.end or item.start, item.text or "") for item in items]
    }
    for name, values in _predictions([unit.prediction for unit in own]).items():
        content[name] = [_interval(unit, value) for unit, value in zip(own, values, strict=True)]
    content["influence"] = [_interval(unit, f"{unit.influence:+.3f}") for unit in own if unit.influence is not None]
    content["words"] = [word for item in items for word in _words(item)]
    content["events"] = [
        Interval(event.start, event.end, f"{event.event} (peak {event.peak:+.2f})")
        for event in events
        if event.speaker == speaker
    ]
    for name, intervals in content.items():
        yield from tiers(name if speaker is None else f"{name}@{speaker}", speaker, intervals)


def _predictions(predictions: Sequence[Prediction]) -> dict[str, list[str]]:
    """What the tiers of predictions hold, by their name; one entry per prediction."""
    if not predictions:
        return {}
    modalities = list(predictions[0].contributions)
    if predictions[0].label is None:
        first = {"score": [f"{item.score:+.3f}" for item in predictions]}
    else:
        first = {"class": [str(item.label) for item in predictions]}
    return {
        **first,
        "confidence": [f"{item.confidence:.3f}" for item in predictions],
        **{f"contribution_{name}": [f"{item.contributions[name]:+.3f}" for item in predictions] for name in modalities},
    }


def _interval(unit: Unit, text: str) -> Interval:
    assert unit.start is not None
    assert unit.end is not None
    return Interval(unit.start, unit.end, text)


def _words(item: UtteranceResult) -> list[Interval]:
    """The words with times; a recogniser lets one end a little after the next has begun."""
    timed = [(word.start, word.end, word.text) for word in item.words]
    return without_overlap([Interval(a, b, text) for a, b, text in timed if a is not None and b is not None])
