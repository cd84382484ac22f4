"""Events: stretches of a clip in which every unit meets a condition, such as "score < -1 for 5s"."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pase_msa.errors import PaSEError
from pase_msa.ranges import nearest
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.summary import clock
from pase_msa.serve.units import Unit
from pase_msa.task import Task

GRAMMAR = (
    "An event is CONDITION [and CONDITION] [for N s], a condition is score, confidence or contribution_MODALITY with "
    "<, <=, > or >= and a number, or class with == or != and a name; several events are divided by semicolons"
)
PAUSE = 2.0
"""Seconds; a longer pause between two units ends an event."""
_TOKEN = re.compile(r"""\s*(<=|>=|==|!=|<|>|"[^"]*"|'[^']*'|[^\s<>=!"';]+)""")
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONTRIBUTION = "contribution_"


@dataclass(frozen=True)
class Condition:
    """What a unit's prediction must meet.

    Attributes:
        field: "score", "confidence", "class" or "contribution_MODALITY".
        sign: of the comparison.
        wanted: a number, or the name of a class.
    """

    field: str
    sign: str
    wanted: float | str

    def met(self, prediction: Prediction) -> bool:
        """Whether a prediction meets it."""
        if isinstance(self.wanted, str):
            return (prediction.label == self.wanted) == (self.sign == "==")
        return _ORDER[self.sign](self.value(prediction), self.wanted)

    def value(self, prediction: Prediction) -> float:
        """The number that is compared; of a class its probability."""
        if isinstance(self.wanted, str):
            return prediction.probabilities[self.wanted]
        if self.field.startswith(_CONTRIBUTION):
            return prediction.contributions[self.field.removeprefix(_CONTRIBUTION)]
        return prediction.confidence if self.field == "confidence" else float(prediction.score or 0.0)

    @property
    def lowest(self) -> bool:
        """Whether the peak of an event is its lowest value, and not its highest."""
        return self.sign in ("<", "<=", "!=")


@dataclass(frozen=True)
class Rule:
    """What makes an event.

    Attributes:
        text: as it was written.
        conditions: all of which must be met.
        seconds: that an event lasts at least.
    """

    text: str
    conditions: tuple[Condition, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class Event:
    """A stretch of a clip in which every unit meets the conditions of a rule.

    Attributes:
        event: the rule as it was written.
        speaker: whose units they are; None where nobody is named.
        start: of the first unit, in seconds from the beginning of the file.
        end: of the last unit.
        peak: the most extreme value of the first condition: the lowest where less is asked for, else the highest. For a
            class its probability.
        peak_start: of the unit with that value.
        peak_end: of that unit.
    """

    event: str
    speaker: str | None
    start: float
    end: float
    peak: float
    peak_start: float
    peak_end: float

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON and CSV."""
        return asdict(self)


def parse_rules(text: str, task: Task) -> list[Rule]:
    """The rules in the words of an analyst; nothing is run as code.

    Args:
        text: one rule or several, divided by semicolons.
        task: what the model predicts.

    Errors:
        PaSEError: it is no rule, or one about something that the model does not predict.
    """
    rules = [_rule(" ".join(part.split()), task) for part in text.split(";") if part.strip()]
    if not rules:
        raise _mistake(text, "nothing is there")
    return rules


def _rule(text: str, task: Task) -> Rule:
    tokens = _tokens(text)
    seconds = 0.0
    if "for" in tokens:
        place = tokens.index("for")
        tokens, length = tokens[:place], tokens[place + 1 :]
        if length[1:] not in ([], ["s"]) or not length:
            raise _mistake(text, "'for' is followed by seconds, for example 'for 5s'")
        seconds = _number(text, length[0].removesuffix("s"))
        if seconds < 0:
            raise _mistake(text, "an event lasts 0 s or more")
    parts: list[list[str]] = [[]]
    for token in tokens:
        parts += [[]] if token == "and" else []
        parts[-1] += [] if token == "and" else [token]
    return Rule(text, tuple(_condition(text, part, task) for part in parts), seconds)


def _tokens(text: str) -> list[str]:
    found, place = [], 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise _mistake(text, f"{text[place:].strip()[:20]!r} has no meaning there")
        found.append(token[1])
        place = token.end()
    return found


def _condition(text: str, tokens: Sequence[str], task: Task) -> Condition:
    if len(tokens) != 3:
        raise _mistake(text, f"{' '.join(tokens)!r} is no condition" if tokens else "a condition is missing")
    field, sign, wanted = tokens
    contributions = [f"{_CONTRIBUTION}{name}" for name in task.modalities]
    predicted = "class" if task.kind == "classification" else "score"
    fields = [predicted, "confidence", *contributions]
    if field not in fields:
        raise PaSEError(
            f"This model predicts no {field!r} that {text!r} could ask for; there are {', '.join(fields)}; "
            f"{nearest(field, fields, 'use one of these.')}"
        )
    if field == "class":
        name = wanted[1:-1] if wanted[0] in "\"'" else wanted
        if sign not in ("==", "!="):
            raise _mistake(text, f"a class is compared with == or !=, not with {sign}")
        if name not in task.classes:
            raise PaSEError(
                f"This model predicts the classes {', '.join(task.classes)}, not {name!r} as in {text!r}; "
                f"{nearest(name, list(task.classes), 'name one of these.')}"
            )
        return Condition(field, sign, name)
    if sign not in _ORDER:
        raise _mistake(text, f"a number is compared with {', '.join(_ORDER)}, not with {sign}")
    return Condition(field, sign, _number(text, wanted))


def _number(text: str, word: str) -> float:
    # float() takes nan, inf and 1_000, too
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", word) or not math.isfinite(float(word)):
        raise _mistake(text, f"{word!r} is no number")
    return float(word)


def _mistake(text: str, found: str) -> PaSEError:
    return PaSEError(f'{text!r} is no event: {found}. {GRAMMAR}; for example "score < -1 for 5s".')


def find_events(units: Sequence[Unit], rules: Sequence[Rule]) -> list[Event]:
    """The events of each rule, in order of time, one speaker at a time.

    Units that follow each other belong to one event if they all meet the conditions and no pause between them is longer
    than `PAUSE`. Where speakers are named, only the units of one speaker make an event.

    Args:
        units: of a clip, in order.
        rules: from `parse_rules`.

    Errors:
        PaSEError: units without times.
    """
    timed = [unit for unit in units if unit.start is not None and unit.end is not None]
    if units and not timed:
        raise PaSEError("Events need times, and a text alone has none; give the recording.")
    events = []
    for rule in rules:
        found = []
        for speaker in dict.fromkeys(unit.speaker for unit in timed):
            own = [unit for unit in timed if unit.speaker == speaker]
            found += [event for run in _runs(own, rule) if (event := _event(rule, speaker, run)) is not None]
        events += sorted(found, key=lambda event: event.start)
    return events


def _runs(units: Sequence[Unit], rule: Rule) -> Iterator[list[Unit]]:
    """Units that follow each other and meet the conditions."""
    run: list[Unit] = []
    for unit in units:
        met = all(condition.met(unit.prediction) for condition in rule.conditions)
        near = not run or _start(unit) - max(map(_end, run)) <= PAUSE
        if run and not (met and near):
            yield run
            run = []
        if met:
            run.append(unit)
    if run:
        yield run


def _event(rule: Rule, speaker: str | None, run: Sequence[Unit]) -> Event | None:
    """The event that a run of units is; None if it is too short."""
    start, end = _start(run[0]), max(map(_end, run))
    if end - start < rule.seconds:
        return None
    first = rule.conditions[0]
    choose = min if first.lowest else max
    peak = choose(run, key=lambda unit: first.value(unit.prediction))
    return Event(rule.text, speaker, start, end, first.value(peak.prediction), _start(peak), _end(peak))


def _start(unit: Unit) -> float:
    assert unit.start is not None
    return unit.start


def _end(unit: Unit) -> float:
    assert unit.end is not None
    return unit.end


def render_events(events: Sequence[Event], rules: Sequence[Rule]) -> str:
    """The events of each rule as lines for a terminal."""
    lines = []
    for rule in rules:
        own = [event for event in events if event.event == rule.text]
        lines.append(f"{rule.text}: {len(own)} {'event' if len(own) == 1 else 'events'}")
        for event in own:
            who = f"  {event.speaker}" if event.speaker else ""
            lines.append(
                f"  {clock(event.start)} to {clock(event.end)}{who}  "
                f"peak {event.peak:+.2f} at {clock(event.peak_start)}"
            )
    return "\n".join(lines)
