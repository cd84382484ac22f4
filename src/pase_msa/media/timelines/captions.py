"""What the two kinds of subtitles share: cues of a file become tiers by speaker, and captions become cues."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import webvtt

from pase_msa.media.timelines.base import Caption, Interval, Tier, milliseconds, plain

# the second line of a cue that `Caption.note` became, so that a corrected file can be read as transcript again
_PREDICTED = re.compile(r"(score [+-]\d+\.\d\d|class .+) \(confidence \d+%\)")


def tiers_of(cues: Iterable[tuple[str, str, str | None, str]]) -> list[Tier]:
    """Tiers by speaker; the one of cues without a speaker has no name.

    Args:
        cues: start and end as "HH:MM:SS.mmm", the speaker, and the text without marks.
    """
    found: dict[str | None, list[Interval]] = {}
    for start, end, speaker, text in cues:
        lines = [line for line in text.splitlines() if not _PREDICTED.match(line.strip())]
        found.setdefault(speaker, []).append(Interval(_seconds(start), _seconds(end), plain(" ".join(lines))))
    return [Tier(speaker or "", speaker, intervals) for speaker, intervals in found.items()]


def cue(caption: Caption, *lines: str) -> Any:
    """A cue with the lines of a caption that are not empty."""
    start = milliseconds(caption.start)
    end = max(milliseconds(caption.end), start + 1)
    return webvtt.Caption(_stamp(start), _stamp(end), [line for line in lines if line])


def _stamp(time: int) -> str:
    """A time in milliseconds as "HH:MM:SS.mmm"."""
    seconds, rest = divmod(time, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _seconds(stamp: str) -> float:
    """A time "HH:MM:SS.mmm", or one without hours, in seconds."""
    total = 0.0
    for part in stamp.replace(",", ".").split(":"):
        total = 60 * total + float(part)
    return round(total, 3)
