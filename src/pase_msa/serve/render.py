"""The result for a clip as HTML: score, curve, coloured transcript, contributions.

Everything that comes from outside, such as words and notes, is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from pase_msa.serve.results import ClipResult, UtteranceResult, overall
from pase_msa.serve.summary import clock
from pase_msa.task import Task

_FAINTEST = 0.04  # fraction of the strongest colour from which on a word is coloured at all
_STRONGEST = 0.55  # opacity, so that text stays readable in light and dark


def render_html(result: ClipResult, task: Task) -> str:
    """The whole result."""
    parts = [_prediction(result, task), _curve(result, task), _transcript(result, task), _contributions(result, task)]
    if result.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
        parts.append(f'<section><h3>Notes</h3><ul class="pase-notes">{notes}</ul></section>')
    seconds = sum(result.seconds.values())
    stages = escape(", ".join(f"{stage} {value:.3f} s" for stage, value in result.seconds.items()))
    parts.append(f'<p class="pase-seconds" title="{stages}">Computed in {seconds:.1f} s</p>')
    return f'<div class="pase-result">{"".join(parts)}</div>'


def player(address: str, *, video: bool) -> str:
    """A video or audio element that plays the clip."""
    source = escape(address)
    if video:
        return f'<video class="pase-media" controls playsinline preload="auto" src="{source}"></video>'
    return f'<audio class="pase-media" controls preload="auto" src="{source}"></audio>'


def message(sentence: str) -> str:
    """A sentence in place of a result."""
    return f'<div class="pase-message" role="alert">{escape(sentence)}</div>'


def _bounds(task: Task) -> tuple[float, float, float]:
    """Lowest and highest value of a prediction, and the value that divides its two sides."""
    if task.values is None:
        return 0.0, 1.0, 1 / task.num_classes
    return task.values[0], task.values[-1], task.center


def _place(value: float, task: Task) -> float:
    """Where a value lies between lowest and highest, in percent."""
    low, high, _ = _bounds(task)
    return 100 * min(1.0, max(0.0, (value - low) / (high - low)))


def _prediction(result: ClipResult, task: Task) -> str:
    """Score or label with its confidence; a scale, or a bar per class."""
    prediction = result.overall
    if prediction.label is not None:
        bars = "".join(
            f'<div class="pase-class"><span>{escape(name)}</span><i style="width:{100 * value:.1f}%"></i>'
            f"<b>{value:.0%}</b></div>"
            for name, value in prediction.probabilities.items()
        )
        return (
            f'<section class="pase-prediction"><div class="pase-score">{escape(prediction.label)}</div>'
            f'<div class="pase-confidence">confidence in the class: {prediction.confidence:.0%}</div>{bars}</section>'
        )
    assert prediction.score is not None
    score = f"{prediction.score:+.2f}"
    low, high, centre = _bounds(task)
    side = "positive" if prediction.score >= centre else "negative"
    return (
        f'<section class="pase-prediction"><div class="pase-score {side}">{score}</div>'
        f'<div class="pase-confidence"><b>{side}</b>; confidence in that: {prediction.confidence:.0%}</div>'
        f'<div class="pase-scale" role="img" aria-label="score {score} on a scale from {low:g} to {high:g}">'
        f'<i style="left:{_place(prediction.score, task):.1f}%"></i></div>'
        f'<div class="pase-ends"><span>{low:g}</span><span>{centre:g}</span><span>{high:+g}</span></div></section>'
    )


def _curve(result: ClipResult, task: Task) -> str:
    """The prediction over time within each utterance, a row per speaker, and cursors that move with the clip."""
    utterances = [item for item in result.utterances if item.curve]
    if result.duration is None or not utterances:
        return ""
    length = max(result.duration, max(point.time for item in utterances for point in item.curve))
    speakers = list(dict.fromkeys(item.speaker for item in result.utterances))
    if len(speakers) == 1:
        rows = _plot(utterances, length, task, "")
    else:
        rows = "".join(_speaker_row(result, speaker, length, task) for speaker in speakers)
    return (
        f'<section><h3>Over time</h3>{rows}<div class="pase-ends pase-times"><span>0:00</span>'
        f"<span>{clock(length)}</span></div>"
        '<p class="pase-hint">Line: the prediction if the utterance ended at that time. Block: the prediction for the '
        "whole utterance. Click to play from there.</p></section>"
    )


def _speaker_row(result: ClipResult, speaker: str | None, length: float, task: Task) -> str:
    """What one speaker said: the share of the talk, the mean prediction, and the curve."""
    items = [item for item in result.utterances if item.speaker == speaker]
    prediction, _ = overall(result.name, items)
    value = prediction.label or f"{prediction.score:+.2f}"
    everything = sum(map(_length, result.utterances)) or 1.0
    name = name_of(speaker)
    plot = _plot([item for item in items if item.curve], length, task, f" of {name}")
    return (
        f'<div class="pase-speaker"><div class="pase-speaker-head"><b>{escape(name)}</b> <span>{escape(value)}</span>'
        f"<span>{sum(map(_length, items)) / everything:.0%} of the talk</span></div>{plot}</div>"
    )


def name_of(speaker: str | None) -> str:
    """How a speaker is called on the page."""
    return speaker or "unknown speaker"


def _length(item: UtteranceResult) -> float:
    return max(0.0, (item.end or item.start) - item.start)


def _plot(utterances: Sequence[UtteranceResult], length: float, task: Task, whose: str) -> str:
    """A plot of some utterances over the whole length."""
    low, high, centre = _bounds(task)
    shapes = "".join(_utterance_shapes(item, length, task) for item in utterances)
    points = [[round(point.time, 2), round(point.value, 3)] for item in utterances for point in item.curve]
    values = "; ".join(f"{clock(item.start)} {item.value:+.2f}" for item in utterances)
    middle = f"{100 - _place(centre, task):.2f}"
    return (
        '<div class="pase-chart"><div class="pase-axis">'
        f"<span>{high:+g}</span><span>{centre:g}</span><span>{low:g}</span></div>"
        f'<div class="pase-plot" data-length="{length:.3f}" data-points="{escape(json.dumps(points))}" role="img" '
        f'aria-label="the prediction{escape(whose)} over time, by utterance: {escape(values)}">'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<line x1="0" x2="100" y1="{middle}" y2="{middle}"/>{shapes}</svg>'
        '<div class="pase-cursor"><b></b></div></div></div>'
    )


def _utterance_shapes(item: UtteranceResult, length: float, task: Task) -> str:
    """An utterance's block and line, in percent of the plot."""
    start, end = 100 * item.start / length, 100 * (item.end or length) / length
    centre = _bounds(task)[2]
    final, middle = 100 - _place(item.value, task), 100 - _place(centre, task)
    side = "positive" if item.value >= centre else "negative"
    line = " ".join(f"{100 * point.time / length:.2f},{100 - _place(point.value, task):.2f}" for point in item.curve)
    return (
        f'<rect class="{side}" x="{start:.2f}" width="{max(end - start, 0.4):.2f}" y="{min(final, middle):.2f}" '
        f'height="{abs(final - middle):.2f}"/><polyline points="{line}"/>'
    )


def _transcript(result: ClipResult, task: Task) -> str:
    """The words, coloured by their influence."""
    influences = [abs(word.influence or 0.0) for item in result.utterances for word in item.words]
    if not influences:
        return '<section><h3>Transcript</h3><p class="pase-hint">No words.</p></section>'
    low, high, _ = _bounds(task)
    # where all influences are small, the strongest is not painted as if it were large
    strongest = max(*influences, 0.25 * (high - low) / 6)
    several, named = len(result.utterances) > 1, len({item.speaker for item in result.utterances}) > 1
    rows = "".join(_transcript_line(item, strongest, task, several, named) for item in result.utterances)
    what = "score" if task.values is not None else "probability of the class"
    if any(influences):
        hint = (
            f'Colour: how much a word <span class="pase-up">raises the {what}</span> or '
            '<span class="pase-down">lowers it</span>. Point at a word for its Shapley value.'
        )
    elif any(word.influence is None for item in result.utterances for word in item.words):
        hint = "The influence of the words was not computed."
    else:
        hint = "No word has an influence: the prediction does not use the text."
    hint = f'<p class="pase-hint">{hint}</p>'
    return f'<section><h3>Transcript</h3><div class="pase-transcript">{rows}</div>{hint}</section>'


def _transcript_line(item: UtteranceResult, strongest: float, task: Task, marked: bool, named: bool) -> str:
    """The words of one utterance; `marked` puts its time and prediction before them, `named` its speaker."""
    words = []
    for word in item.words:
        influence = word.influence or 0.0
        strength = abs(influence) / strongest
        colour = "up" if influence > 0 else "down"
        style = f"--a:{_STRONGEST * strength:.3f}" if strength > _FAINTEST else "--a:0"
        title = "" if word.influence is None else f' title="{influence:+.2f}"'
        time = "" if word.start is None else f' data-at="{word.start:.2f}" data-until="{word.end or word.start:.2f}"'
        words.append(f'<span class="pase-word {colour}" style="{style}"{title}{time}>{escape(word.text)}</span>')
    text = " ".join(words) or "(no words)"
    if not marked:
        return f"<p>{text}</p>"
    side = "positive" if item.value >= _bounds(task)[2] else "negative"
    prediction = item.prediction.label or f"{item.value:+.2f}"
    who = f'<b class="pase-who">{escape(name_of(item.speaker))}</b> ' if named else ""
    return (
        f'<p><button type="button" class="pase-chip {side}" data-at="{item.start:.2f}">{clock(item.start)} '
        f"<b>{escape(prediction)}</b></button> {who}{text}</p>"
    )


def _contributions(result: ClipResult, task: Task) -> str:
    """A bar per modality, to the right or to the left of the middle."""
    low, high, _ = _bounds(task)
    contributions = result.overall.contributions
    widest = max([abs(value) for value in contributions.values()] + [(high - low) / 12])
    present = {name for item in result.utterances for name in item.modalities}
    rows = []
    for name, value in contributions.items():
        side = "up" if value >= 0 else "down"
        size = 50 * abs(value) / widest
        place = f"left:50%;width:{size:.1f}%" if value >= 0 else f"right:50%;width:{size:.1f}%"
        # masked is a choice of the user; absent is a fact about the clip
        state = "masked" if name in result.masked else "" if name in present else "absent"
        mark = f' <em class="pase-state">{state}</em>' if state else ""
        rows.append(
            f'<div class="pase-contribution"><span>{escape(name)}{mark}</span>'
            f'<div><i class="{side}" style="{place}"></i></div><b>{value:+.2f}</b></div>'
        )
    total = result.base + sum(contributions.values())
    return (
        f'<section><h3>Contribution of each modality</h3>{"".join(rows)}<p class="pase-hint">Shapley values. The '
        f"prediction without any modality is {result.base:+.2f}, with these {total:+.2f}.</p></section>"
    )
