"""Parts of the page beside a result: how far it is, what can be downloaded, and the table of several clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from pase_msa.serve.desk import Ticket
from pase_msa.serve.render import message
from pase_msa.serve.results import ClipResult, UtteranceResult
from pase_msa.serve.summary import clock
from pase_msa.task import Task

ENDINGS = (".eaf", ".srt", ".vtt", ".TextGrid", ".csv", ".json", ".jsonl")
"""Of the files that one recording can be downloaded as."""
TABLES = (".csv", ".json", ".jsonl")
"""Of the files that several can be downloaded as; they need no times."""
_PROGRAMS = {".eaf": "ELAN", ".srt": "subtitles", ".vtt": "web subtitles", ".TextGrid": "Praat"}
_STAGES = {
    "wait": "Waiting for a turn",
    "cut": "Looking for pauses",
    "open": "Opening the file",
    "sound": "Reading the sound",
    "speech": "Looking for speech",
    "language": "Telling the language",
    "words": "Recognising the words",
    "predict": "Predicting",
}


def progress(ticket: Ticket) -> str:
    """A bar, and the stage in words."""
    percent = round(100 * ticket.fraction)
    return (
        '<div class="pase-progress" role="status"><div class="pase-bar" role="progressbar" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        f"<p>{escape(_stage(ticket))}</p></div>"
    )


def _stage(ticket: Ticket) -> str:
    done = sum(1 for item in ticket.readings if item.result or item.sentence)
    number = min(done, len(ticket.readings) - 1) if ticket.kind == "several" else 0
    reading = ticket.readings[number]
    now = reading.progress
    stage = _STAGES.get(now.stage, f"Extracting {now.stage}")
    clip = f"clip {number + 1} of {len(ticket.readings)}, {reading.name}: " if len(ticket.readings) > 1 else ""
    part = f", utterance {now.utterance} of {now.utterances}" if now.utterances > 1 else ""
    return f"{clip}{stage}{part}"


def downloads(ticket: Ticket, number: int, root: str) -> str:
    """Links to the answer as files of every kind that it can be written as.

    Args:
        ticket: whose answer it is.
        number: of the recording.
        root: address of the page.
    """
    result = ticket.readings[number].result
    if result is None:
        return ""
    links = (_link(f"{root}/answer/{ticket.id}/{number}{ending}", ending) for ending in endings_of(result))
    return f'<p class="pase-downloads">Download: {" ".join(links)}</p>'


def endings_of(result: ClipResult) -> Sequence[str]:
    """The endings that a result can be written with; a text alone has no times."""
    return TABLES if result.duration is None else ENDINGS


def _link(address: str, ending: str) -> str:
    title = _PROGRAMS.get(ending, "table" if ending == ".csv" else "data")
    return f'<a href="{escape(address)}" download title="{title}">{ending}</a>'


def several(ticket: Ticket, task: Task, root: str) -> str:
    """A row per utterance of several clips, which become cards where the page is narrow."""
    names = [*(["speaker"] if _speakers(ticket) else []), "score" if task.values is not None else "label"]
    names += ["confidence", *_contributions(ticket)]
    heads = "".join(f"<th>{escape(name)}</th>" for name in ("clip", "from", "to", *names, "words"))
    rows = "".join(row for number in range(len(ticket.readings)) for row in _rows(ticket, number, names, root))
    if not rows:
        return ""
    everything = " ".join(_link(f"{root}/answer/{ticket.id}/all{ending}", ending) for ending in TABLES)
    links = f'<p class="pase-downloads">Download all: {everything}</p>' if ticket.done else ""
    return (
        f'<div class="pase-many">{links}<table class="pase-table"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _speakers(ticket: Ticket) -> bool:
    return any(item.speaker for reading in ticket.readings if reading.result for item in reading.result.utterances)


def _contributions(ticket: Ticket) -> list[str]:
    return next((list(reading.result.overall.contributions) for reading in ticket.readings if reading.result), [])


def _rows(ticket: Ticket, number: int, names: Sequence[str], root: str) -> Iterator[str]:
    """The rows of one clip; one that failed has a sentence."""
    reading = ticket.readings[number]
    if reading.result is None:
        if reading.sentence:
            head = f'<td data-label="clip" class="pase-name">{escape(reading.name)}</td>'
            yield f'<tr class="pase-failed">{head}<td colspan="{len(names) + 3}">{message(reading.sentence)}</td></tr>'
        return
    for place, item in enumerate(reading.result.utterances):
        links = downloads(ticket, number, root) if place == 0 else ""
        cells = {"from": clock(item.start), "to": "" if item.end is None else clock(item.end)}
        cells |= _numbers(item, names)
        plain = "".join(f'<td data-label="{escape(name)}">{escape(value)}</td>' for name, value in cells.items())
        notes = "".join(f'<p class="pase-hint">{escape(note)}</p>' for note in item.notes)
        yield (
            f'<tr><td data-label="clip" class="pase-name">{escape(reading.name)}{links}</td>{plain}'
            f'<td data-label="words" class="pase-words">{escape(item.text or "(no words)")}{notes}</td></tr>'
        )


def _numbers(item: UtteranceResult, names: Sequence[str]) -> dict[str, str]:
    prediction = item.prediction
    values = {
        "speaker": item.speaker or "",
        "score": "" if prediction.score is None else f"{prediction.score:+.2f}",
        "label": prediction.label or "",
        "confidence": f"{prediction.confidence:.0%}",
        **{name: f"{value:+.2f}" for name, value in prediction.contributions.items()},
    }
    return {name: values[name] for name in names}


def live() -> str:
    """The tab that listens to a microphone; `live.js` fills it."""
    return (
        '<div id="pase-live"><p class="pase-hint">The microphone of this device is predicted while somebody speaks: '
        "text and sound, without pictures. Its sound goes to the machine that runs this page, and is not kept.</p>"
        '<p class="pase-live-buttons"><button type="button" id="pase-live-start">Listen</button> '
        '<button type="button" id="pase-live-stop" disabled>Stop</button></p>'
        '<p id="pase-live-state" role="status"></p>'
        '<div class="pase-result" id="pase-live-now" hidden><section><div class="pase-score"></div>'
        '<div class="pase-confidence"></div><p class="pase-live-words"></p></section></div>'
        '<ol id="pase-live-said" aria-label="what was said, the latest first"></ol></div>'
    )
