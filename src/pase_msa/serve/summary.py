"""An answer as text for a terminal."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pase_msa.serve.answers import ClipAnswer, UtteranceAnswer
from pase_msa.serve.predictor import Prediction

_TOLD = 6  # words that moved an utterance most


def headline(prediction: Prediction) -> str:
    """The answer and how sure it is, in a line."""
    sure = f"{prediction.confidence:.0%} sure"
    if prediction.label is not None:
        return f"{prediction.label} ({sure} of the class)"
    return f"score {prediction.score:+.2f} ({sure} of its sign)"


def sum_of(prediction: Prediction, base: float) -> str:
    """What the answer is made of."""
    shares = "".join(f" {value:+.2f} {name}" for name, value in prediction.contributions.items())
    return f"{base:+.2f} without any modality{shares}"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def render_answer(answer: ClipAnswer) -> str:
    """Score, confidence and contributions; with several utterances, a line for each."""
    stream = io.StringIO()
    console = Console(file=stream, width=100, highlight=False)
    length = "" if answer.duration is None else f", {answer.duration:.1f} s"
    console.print(Text(f"{answer.name}{length}: {headline(answer.overall)}"))
    console.print(Text(f"  = {sum_of(answer.overall, answer.base)}"))
    if len(answer.utterances) == 1:
        only = answer.utterances[0]
        console.print(Text(f"  {only.text or '(no words)'}"))
        if told := _words(only):
            console.print(Text(f"  words that mattered: {told}"))
        if len(only.curve) > 1:
            so_far = ", ".join(f"{clock(moment.time)} {moment.value:+.2f}" for moment in only.curve[:: _step(only)])
            console.print(Text(f"  so far: {so_far}"))
    else:
        console.print(_utterances(answer))
    for note in answer.notes:
        console.print(Text(f"  note: {note}"))
    spent = ", ".join(f"{stage} {value:.1f}" for stage, value in answer.seconds.items() if value >= 0.05)
    console.print(Text(f"  {sum(answer.seconds.values()):.1f} s ({spent})"))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def _utterances(answer: ClipAnswer) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    names = list(answer.overall.contributions)
    for column in ("from", "to", "answer", "sure", *names):
        table.add_column(column, justify="right")
    table.add_column("words")
    for item in answer.utterances:
        said = item.prediction
        table.add_row(
            clock(item.start),
            "" if item.end is None else clock(item.end),
            said.label if said.label is not None else f"{said.score:+.2f}",
            f"{said.confidence:.0%}",
            *(f"{said.contributions[name]:+.2f}" for name in names),
            Text(item.text or "", overflow="ellipsis", no_wrap=True),
        )
    return table


def _words(item: UtteranceAnswer) -> str:
    """Those that moved the answer most, the strongest first."""
    ordered = sorted(item.words, key=lambda word: -abs(word.influence))
    return ", ".join(f"{word.text} {word.influence:+.2f}" for word in ordered[:_TOLD] if abs(word.influence) >= 0.005)


def _step(item: UtteranceAnswer) -> int:
    return max(1, len(item.curve) // 8)
