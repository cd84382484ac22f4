"""Praat's text grids (.TextGrid), with praatio."""

from __future__ import annotations

from pathlib import Path

from praatio import textgrid

from pase_msa.media.timelines.base import Interval, Tier, Timeline


def read(path: Path) -> list[Tier]:
    """The tiers of intervals; points have no length, and an interval without a label is a gap."""
    grid = textgrid.openTextgrid(
        str(path), includeEmptyIntervals=False, reportingMode="silence", duplicateNamesMode="rename"
    )
    return [
        Tier(tier.name, None, [Interval(float(start), float(end), label) for start, end, label in tier.entries])
        for tier in grid.tiers
        if isinstance(tier, textgrid.IntervalTier)
    ]


def write(path: Path, timeline: Timeline) -> None:
    """A grid as long as the recording; an empty interval fills every gap, as Praat wants it."""
    ends = [interval.end for tier in timeline.tiers for interval in tier.intervals]
    last = max([timeline.duration, *ends])
    grid = textgrid.Textgrid(0.0, last)
    for tier in timeline.tiers:
        entries = [(interval.start, interval.end, interval.text) for interval in tier.intervals]
        grid.addTier(textgrid.IntervalTier(tier.name, entries, 0.0, last))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True, minimumIntervalLength=None)
