"""Parse the answer of a language model: a score, a class, a refusal, or nothing that can be read.

An answer counts only where it is unambiguous. Two numbers that could both be meant are no answer. A number that
belongs to the scale is none either ("2 out of 3", "between -3 and 3"). A score outside the range is not clipped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from pase_msa.task import Task

Status = Literal["answered", "refused", "unreadable", "out_of_range"]
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.S | re.I)
_REFUSAL = re.compile(
    r"\b(?:can(?:no|'|’)?t|can not|unable to|not able to|won(?:'|’)t|will not|not comfortable|refuse to|decline to)\b"
    r"[^.]{0,60}?\b(?:help|assist|rat(?:e|ing)|scor(?:e|ing)|provid(?:e|ing)|answer\w*|determin(?:e|ing)|classify\w*|"
    r"assess\w*|giv(?:e|ing)|comply\w*|judg(?:e|ing)|evaluat(?:e|ing)|do (?:that|this))\b"
    r"|\bas an ai\b|\A\W*(?:i(?:'|’)m sorry|i am sorry|sorry\b|i apologi[sz]e)",
    re.I,
)
_NUMBER = r"[-+]?(?:\d+(?:[.,]\d+)?|\.\d+)"
_SCALE = re.compile(
    rf"\b(?:between|from)\s+{_NUMBER}\s*(?:\([^)]*\)\s*)?(?:and|to|through)\s+{_NUMBER}"
    rf"|{_NUMBER}\s*to\s+{_NUMBER}|[\[(]\s*{_NUMBER}\s*[,;]\s*{_NUMBER}\s*[\])]|\bout of\s+{_NUMBER}"
    rf"|(?<=\d)\s*/\s*{_NUMBER}",
    re.I,
)
_DECLARATION = r"\b(?:score|rating|sentiment|answer|value|label|class|emotion|category)\b[^\w\n.;+-]*"
_DECLARATION += r"(?:(?:is|would be|as|of|be|it|this|at|a|an)\b[^\w\n.;+-]*)*"
_KEYS = ("score", "rating", "sentiment", "answer", "value", "label", "class", "emotion", "category", "prediction")
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_SPELLED = re.compile(
    rf"\b(minus |negative |plus )?({'|'.join(_WORDS)})(?: (point|and a half)(?: ({'|'.join(_WORDS)}))?)?\b"
)
_NEGATED = re.compile(r"(?:\b(?:not|never|no|neither|nor|than)|n['’]t)\s+(?:(?!but\b)\w+\s+){0,2}$")
_SHORT = 6  # words of an answer in which a spelled number or a bare word is taken as the answer


@dataclass(frozen=True)
class ParsedAnswer:
    """The score or class of an answer.

    Attributes:
        status: "answered", or why there is no value.
        value: the score, or the number of the class.
    """

    status: Status
    value: float | None = None


def parse_answer(task: Task, answer: str | None) -> ParsedAnswer:
    """A number or a class name, alone, in a sentence or in JSON."""
    answer = _THOUGHT.sub("", answer or "").strip()
    if not answer:
        return ParsedAnswer("unreadable")
    content = _json(answer, task.label)
    value = None if content is None else _value(task, str(content))
    if value is None:
        declared = _declared(task, answer)
        if declared is None and _REFUSAL.search(answer):
            return ParsedAnswer("refused")
        value = declared if declared is not None else _value(task, answer)
    if value is None:
        return ParsedAnswer("unreadable")
    if task.values is not None and not task.values[0] <= value <= task.values[-1]:
        return ParsedAnswer("out_of_range")
    return ParsedAnswer("answered", value)


def _value(task: Task, answer: str) -> float | None:
    return _class(task, answer) if task.values is None else _score(task, answer)


def _json(answer: str, label: str) -> Any:
    """The value of an object under a name that stands for the answer, or None."""
    match = re.search(r"\{.*\}", answer, re.S)
    try:
        content = json.loads(match.group()) if match else None
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    named = {str(key).casefold(): value for key, value in content.items()}
    values = [named[key] for key in (label.casefold(), *_KEYS) if isinstance(named.get(key), int | float | str)]
    return values[0] if values else None


def _declared(task: Task, answer: str) -> float | None:
    """A first line that is the answer and nothing else, or else what follows the last "the score is" or "answer:"."""
    first = _plain(answer).splitlines()[0].strip().rstrip(" .:")
    if task.values is None:
        alone = [number for number, name in enumerate(task.classes) if name.casefold() == first.casefold()]
        if alone:
            return float(alone[0])
    elif re.fullmatch(_NUMBER, first):
        return _number(first)
    if task.values is None:
        names = "|".join(re.escape(name) for name in sorted(task.classes, key=len, reverse=True))
        declared = re.findall(rf"{_DECLARATION}({names})\b", _plain(answer), re.I)
        return None if not declared else _class(task, declared[-1])
    numbers = re.findall(rf"{_DECLARATION}({_NUMBER})", _SCALE.sub("", _plain(answer)), re.I)
    return None if not numbers else _number(numbers[-1])


def _score(task: Task, answer: str) -> float | None:
    plain = _SCALE.sub("", _plain(answer))
    numbers = {_number(text) for text in re.findall(rf"(?<![\w.]){_NUMBER}(?![\w%])", plain)}
    if numbers:
        return numbers.pop() if len(numbers) == 1 else None
    if len(plain.split()) > _SHORT:
        return None
    words = plain.casefold()
    if spelled := _SPELLED.search(words):
        sign, whole, more, digit = spelled.groups()
        value = float(_WORDS.index(whole))
        value += 0.5 if more == "and a half" else _WORDS.index(digit) / 10 if digit else 0.0
        return -value if sign in ("minus ", "negative ") else value
    return task.center if words.strip(" .!") == "neutral" else None


def _class(task: Task, answer: str) -> float | None:
    """The one class that is named and not negated; data sets also shorten names, so that "hap" is found in "happy"."""
    for ending in ("", r"\w+"):
        text, named = _plain(answer).casefold(), set()
        for number, name in sorted(enumerate(task.classes), key=lambda item: -len(item[1])):
            pattern = rf"(?<![\w-]){re.escape(name.casefold())}{ending}(?![\w-])"
            if any(not _NEGATED.search(text[: match.start()]) for match in re.finditer(pattern, text)):
                named.add(number)
            text = re.sub(pattern, " # ", text)  # so that "happy" is not found again in "very happy"
        if named:
            return float(named.pop()) if len(named) == 1 else None
    return None


def _plain(answer: str) -> str:
    """Without emphasis and quotes, and with one kind of minus."""
    bare = re.sub(r"[*_`\"]", "", answer)
    return re.sub(r"\b(?:minus|negative)\s+(?=\d)", "-", re.sub(r"[−–](?=\s?\d)", "-", bare), flags=re.I)


def _number(text: str) -> float:
    return float(text.replace(",", "."))
