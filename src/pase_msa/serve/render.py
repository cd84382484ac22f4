"""An answer as HTML: score, curve, coloured transcript, contributions. Everything from outside is escaped."""

from __future__ import annotations

import json
from html import escape
from urllib.parse import quote

from pase_msa.serve.answers import ClipAnswer, UtteranceAnswer
from pase_msa.serve.summary import clock
from pase_msa.task import Task

_FAINTEST = 0.04  # share of the strongest colour from which on a word is coloured at all
_STRONGEST = 0.55  # opacity, so that text stays readable in light and dark


def render(answer: ClipAnswer, task: Task) -> str:
    """The whole answer."""
    parts = [_verdict(answer, task), _curve(answer, task), _transcript(answer, task), _contributions(answer, task)]
    if answer.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in answer.notes)
        parts.append(f'<section><h3>Notes</h3><ul class="pase-notes">{notes}</ul></section>')
    spent = sum(answer.seconds.values())
    parts.append(f'<p class="pase-spent">Answered in {spent:.1f} s</p>')
    return f'<div class="pase-answer">{"".join(parts)}</div>'


def player(path: str, *, video: bool, prefix: str = "/gradio_api/file=") -> str:
    """The clip, to be played."""
    source = escape(prefix + quote(path))
    if video:
        return f'<video class="pase-media" controls playsinline preload="auto" src="{source}"></video>'
    return f'<audio class="pase-media" controls preload="auto" src="{source}"></audio>'


def message(sentence: str) -> str:
    """A sentence in place of an answer."""
    return f'<div class="pase-message" role="alert">{escape(sentence)}</div>'


def _bounds(task: Task) -> tuple[float, float, float]:
    """Lowest and highest value of an answer, and what divides them."""
    if task.values is None:
        return 0.0, 1.0, 1 / task.num_classes
    return task.values[0], task.values[-1], task.center


def _place(value: float, task: Task) -> float:
    """Where a value lies between lowest and highest, in percent."""
    low, high, _ = _bounds(task)
    return 100 * min(1.0, max(0.0, (value - low) / (high - low)))


def _verdict(answer: ClipAnswer, task: Task) -> str:
    said = answer.overall
    if said.label is not None:
        bars = "".join(
            f'<div class="pase-class"><span>{escape(name)}</span><i style="width:{100 * value:.1f}%"></i>'
            f"<b>{value:.0%}</b></div>"
            for name, value in said.probabilities.items()
        )
        return (
            f'<section class="pase-verdict"><div class="pase-score">{escape(said.label)}</div>'
            f'<div class="pase-sure">{said.confidence:.0%} sure of the class</div>{bars}</section>'
        )
    assert said.score is not None
    low, high, centre = _bounds(task)
    side = "positive" if said.score >= centre else "negative"
    return (
        f'<section class="pase-verdict"><div class="pase-score {side}">{said.score:+.2f}</div>'
        f'<div class="pase-sure"><b>{side}</b>, {said.confidence:.0%} sure of that</div>'
        f'<div class="pase-scale" role="img" aria-label="score {said.score:+.2f} on a scale from {low:g} to {high:g}">'
        f'<i style="left:{_place(said.score, task):.1f}%"></i></div>'
        f'<div class="pase-ends"><span>{low:g}</span><span>{centre:g}</span><span>{high:+g}</span></div></section>'
    )


def _curve(answer: ClipAnswer, task: Task) -> str:
    """The answer so far within each utterance, and a cursor that the page moves as the clip plays."""
    if answer.duration is None or not any(item.curve for item in answer.utterances):
        return ""
    length = max(answer.duration, max(m.time for item in answer.utterances for m in item.curve))
    _, _, centre = _bounds(task)
    lines, points = [], []
    for item in answer.utterances:
        if not item.curve:
            continue
        start, end = 100 * item.start / length, 100 * (item.end or length) / length
        final = 100 - _place(item.value, task)
        zero = 100 - _place(centre, task)
        side = "positive" if item.value >= centre else "negative"
        lines.append(
            f'<rect class="{side}" x="{start:.2f}" width="{max(end - start, 0.4):.2f}" y="{min(final, zero):.2f}" '
            f'height="{abs(final - zero):.2f}"/>'
        )
        path = " ".join(f"{100 * m.time / length:.2f},{100 - _place(m.value, task):.2f}" for m in item.curve)
        lines.append(f'<polyline points="{path}"/>')
        points += [[round(m.time, 2), round(m.value, 3)] for m in item.curve]
    data = escape(json.dumps(points))
    low, high, _ = _bounds(task)
    told = "; ".join(f"{clock(item.start)} {item.value:+.2f}" for item in answer.utterances)
    return (
        '<section><h3>Over time</h3><div class="pase-chart"><div class="pase-axis">'
        f"<span>{high:+g}</span><span>{centre:g}</span><span>{low:g}</span></div>"
        f'<div class="pase-plot" data-length="{length:.3f}" data-points="{data}" role="img" '
        f'aria-label="the answer over time, by utterance: {escape(told)}">'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<line x1="0" x2="100" y1="{100 - _place(centre, task):.2f}" y2="{100 - _place(centre, task):.2f}"/>'
        f'{"".join(lines)}</svg><div class="pase-cursor"><b></b></div></div></div>'
        f'<div class="pase-ends pase-times"><span>0:00</span><span>{clock(length)}</span></div>'
        '<p class="pase-hint">Line: what would be said if the utterance ended there. Block: the utterance. Click to go '
        "there.</p></section>"
    )


def _transcript(answer: ClipAnswer, task: Task) -> str:
    every = [abs(word.influence) for item in answer.utterances for word in item.words]
    if not every:
        return '<section><h3>What was said</h3><p class="pase-hint">No words.</p></section>'
    strongest = max(*every, 0.25 * (_bounds(task)[1] - _bounds(task)[0]) / 6)
    rows = "".join(_utterance(item, strongest, task, alone=len(answer.utterances) == 1) for item in answer.utterances)
    meaning = "raised the score" if task.values is not None else "spoke for the class"
    hint = (
        f'Colour: how far a word <span class="pase-up">{meaning}</span> or '
        '<span class="pase-down">spoke against it</span>; point at a word for its Shapley value.'
        if any(every)
        else "No word counted: the text was not used."
    )
    return (
        f'<section><h3>What was said</h3><div class="pase-transcript">{rows}</div>'
        f'<p class="pase-hint">{hint}</p></section>'
    )


def _utterance(item: UtteranceAnswer, strongest: float, task: Task, *, alone: bool) -> str:
    words = []
    for word in item.words:
        share = abs(word.influence) / strongest
        colour = "up" if word.influence > 0 else "down"
        style = f"--a:{_STRONGEST * share:.3f}" if share > _FAINTEST else "--a:0"
        time = "" if word.start is None else f' data-at="{word.start:.2f}" data-until="{word.end or word.start:.2f}"'
        words.append(
            f'<span class="pase-word {colour}" style="{style}" title="{word.influence:+.2f}"{time}>'
            f"{escape(word.text)}</span>"
        )
    text = " ".join(words) or "(no words)"
    if alone:
        return f"<p>{text}</p>"
    side = "positive" if item.value >= _bounds(task)[2] else "negative"
    said = item.prediction.label or f"{item.value:+.2f}"
    return (
        f'<p><button type="button" class="pase-chip {side}" data-at="{item.start:.2f}">{clock(item.start)} '
        f"<b>{escape(said)}</b></button> {text}</p>"
    )


def _contributions(answer: ClipAnswer, task: Task) -> str:
    low, high, _ = _bounds(task)
    shares = answer.overall.contributions
    widest = max([abs(value) for value in shares.values()] + [(high - low) / 12])
    held = {name for item in answer.utterances for name in item.modalities}
    rows = []
    for name, value in shares.items():
        side = "up" if value >= 0 else "down"
        size = 50 * abs(value) / widest
        place = f"left:50%;width:{size:.1f}%" if value >= 0 else f"right:50%;width:{size:.1f}%"
        state = "" if name in held else ' <em class="pase-absent">absent</em>'
        rows.append(
            f'<div class="pase-share"><span>{escape(name)}{state}</span><div><i class="{side}" style="{place}"></i>'
            f"</div><b>{value:+.2f}</b></div>"
        )
    total = answer.base + sum(shares.values())
    return (
        f'<section><h3>Who contributed</h3>{"".join(rows)}<p class="pase-hint">Shapley values. Without any modality '
        f"{answer.base:+.2f}, with these {total:+.2f}.</p></section>"
    )
