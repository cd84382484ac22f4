"""Containers of a timeline: intervals in tiers, captions, and the segments that are read from a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True)
class Interval:
    """A stretch of time with what is written there.

    Attributes:
        start: in seconds from the beginning of the recording.
        end: in seconds; after `start`.
        text: what is written there; may be empty.
    """

    start: float
    end: float
    text: str


@dataclass
class Tier:
    """A row of intervals.

    Attributes:
        name: unique in its file.
        speaker: whom it is about; None where the file does not say.
        intervals: in order, none over another.
    """

    name: str
    speaker: str | None
    intervals: list[Interval]


@dataclass(frozen=True)
class Segment:
    """A part of a recording that a timeline marks.

    Attributes:
        start: in seconds from the beginning of the recording.
        end: in seconds; after `start`.
        text: its transcript; None where none is written.
        speaker: who speaks; None where the file does not say.
        channel: of the sound in which this speaker is, from 0; None is the mix of all.
    """

    start: float
    end: float
    text: str | None = None
    speaker: str | None = None
    channel: int | None = None


@dataclass(frozen=True)
class Caption:
    """A line for a player to show.

    Attributes:
        start: in seconds from the beginning of the recording.
        end: in seconds; after `start`.
        text: the transcript.
        note: a second line, for what was predicted.
        speaker: who speaks; None where unknown.
    """

    start: float
    end: float
    text: str
    note: str
    speaker: str | None = None


@dataclass
class Timeline:
    """What is written to a file.

    Attributes:
        media: the recording; None where there is none to link to.
        duration: of the recording, in seconds.
        tiers: for annotation programs.
        captions: for players.
    """

    media: Path | None
    duration: float
    tiers: list[Tier] = field(default_factory=list)
    captions: list[Caption] = field(default_factory=list)


def milliseconds(seconds: float) -> int:
    """A time as the formats write it."""
    return round(1000 * seconds)


def plain(text: str) -> str:
    """Text on one line, without characters that XML and subtitles cannot hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def tiers(name: str, speaker: str | None, intervals: Iterable[Interval]) -> list[Tier]:
    """A tier of intervals; those that lie over others go into further tiers, NAME#2 and so on.

    Neither ELAN nor Praat allows two intervals of a tier to overlap, and windows do.

    Args:
        name: of the first tier.
        speaker: whom it is about.
        intervals: in any order. Times are rounded to milliseconds, and what is shorter than one lasts one.
    """
    rows: list[list[Interval]] = []
    for interval in sorted(intervals, key=lambda item: (item.start, item.end)):
        start = milliseconds(interval.start)
        end = max(milliseconds(interval.end), start + 1)
        rounded = Interval(start / 1000, end / 1000, plain(interval.text))
        row = next((row for row in rows if row[-1].end <= rounded.start), None)
        if row is None:
            row = []
            rows.append(row)
        row.append(rounded)
    return [Tier(f"{name}#{i + 1}" if i else name, speaker, row) for i, row in enumerate(rows)]


def without_overlap(intervals: Sequence[Interval]) -> list[Interval]:
    """Intervals in order, each cut off where the next one begins; those that begin in one millisecond share their time.

    A recogniser may give a word no length, so that it begins with the next one.
    """
    result: list[Interval] = []
    groups = [list(group) for _, group in groupby(intervals, lambda item: milliseconds(item.start))]
    for number, group in enumerate(groups):
        start, end = group[0].start, max(item.end for item in group)
        if number + 1 < len(groups) and groups[number + 1][0].start > start:
            end = min(end, groups[number + 1][0].start)
        step = (end - start) / len(group)
        result += [Interval(start + i * step, start + (i + 1) * step, item.text) for i, item in enumerate(group)]
    return result
