"""The result for a clip as text for a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pase_msa.serve.predictor import Prediction
from pase_msa.serve.results import ClipResult, UtteranceResult
from pase_msa.serve.units import Unit, units_of

_MOST_WORDS = 6  # words with the largest influence that are listed
_SMALLEST = 0.005  # an influence below this is 0.00 when it is printed
_CURVE_POINTS = 8  # about so many are printed


def headline(prediction: Prediction) -> str:
    """Score or label with its confidence, in a line."""
    if prediction.label is not None:
        return f"{prediction.label} (confidence {prediction.confidence:.0%} in the class)"
    return f"score {prediction.score:+.2f} (confidence {prediction.confidence:.0%} in its sign)"


def sum_of(prediction: Prediction, base: float) -> str:
    """The terms that sum to the prediction: the base and the contribution of each modality."""
    contributions = "".join(f" {value:+.2f} {name}" for name, value in prediction.contributions.items())
    return f"{base:+.2f} without any modality{contributions}"


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds."""
    tenths = round(10 * seconds)  # first, since 59.97 s are a minute
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def render_result(result: ClipResult, units: Sequence[Unit] | None = None) -> str:
    """Score, confidence and contributions; with several utterances, one row per utterance.

    Args:
        result: of a clip.
        units: that have a row each; the utterances, if left out.
    """
    stream = io.StringIO()
    console = Console(file=stream, width=100, highlight=False)
    length = "" if result.duration is None else f", {result.duration:.1f} s"
    console.print(Text(f"{result.name}{length}: {headline(result.overall)}"))
    console.print(Text(f"  = {sum_of(result.overall, result.base)}"))
    for speaker in result.speakers:
        talk = f"{speaker.share:.0%} of the talk ({clock(speaker.seconds)})"
        console.print(Text(f"  {speaker.speaker}: {talk}, {headline(speaker.prediction)}"))
    if result.masked:
        console.print(Text(f"  masked: {', '.join(result.masked)}"))
    if units is None and len(result.utterances) == 1:
        utterance = result.utterances[0]
        console.print(Text(f"  {utterance.text or '(no words)'}"))
        if influences := _influences(utterance):
            console.print(Text(f"  influence of words: {influences}"))
        if len(utterance.curve) > 1:
            step = max(1, len(utterance.curve) // _CURVE_POINTS)
            curve = ", ".join(f"{clock(point.time)} {point.value:+.2f}" for point in utterance.curve[::step])
            console.print(Text(f"  over time: {curve}"))
    else:
        console.print(_table(result, units_of(result, "utterance") if units is None else units))
    for note in result.notes:
        console.print(Text(f"  note: {note}"))
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in result.seconds.items() if value >= 0.05)
    console.print(Text(f"  {sum(result.seconds.values()):.1f} s ({stages})"))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def _table(result: ClipResult, units: Sequence[Unit]) -> Table:
    """One row per unit."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    names = list(result.overall.contributions)
    predicted = "score" if result.overall.label is None else "label"
    speakers = ["speaker"] if any(unit.speaker for unit in units) else []
    for column in ("from", "to", *speakers, predicted, "confidence", *names):
        table.add_column(column, justify="right")
    table.add_column("words")
    for unit in units:
        prediction = unit.prediction
        table.add_row(
            "" if unit.start is None else clock(unit.start),
            "" if unit.end is None else clock(unit.end),
            *(Text(unit.speaker or "") for _ in speakers),
            prediction.label if prediction.label is not None else f"{prediction.score:+.2f}",
            f"{prediction.confidence:.0%}",
            *(f"{prediction.contributions[name]:+.2f}" for name in names),
            Text(unit.text, overflow="ellipsis", no_wrap=True),
        )
    return table


def _influences(item: UtteranceResult) -> str:
    """The words with the largest influence, the largest first."""
    pairs = sorted(((word.text, word.influence or 0.0) for word in item.words), key=lambda pair: -abs(pair[1]))
    return ", ".join(f"{text} {value:+.2f}" for text, value in pairs[:_MOST_WORDS] if abs(value) >= _SMALLEST)
