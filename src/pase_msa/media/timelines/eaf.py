"""ELAN's annotation files (.eaf), with pympi."""

from __future__ import annotations

import contextlib
import io
import mimetypes
import os
from pathlib import Path

import pympi

from pase_msa.media.timelines.base import Interval, Tier, Timeline, milliseconds

_KIND = "pase"  # ELAN's "linguistic type" of the tiers


def read(path: Path) -> list[Tier]:
    """The tiers that have times of their own; tiers below another one, such as translations, have none."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a remark about every newer version of ELAN
        file = pympi.Elan.Eaf(str(path))
    found = []
    for name in file.get_tier_names():
        annotations, _, attributes, _ = file.tiers[name]
        if attributes.get("PARENT_REF"):
            continue
        times = [(file.timeslots[start], file.timeslots[end], text) for start, end, text, _ in annotations.values()]
        intervals = [Interval(a / 1000, b / 1000, text or "") for a, b, text in times if None not in (a, b)]
        intervals.sort(key=lambda interval: interval.start)
        found.append(Tier(name, attributes.get("PARTICIPANT") or None, intervals))
    return found


def write(path: Path, timeline: Timeline) -> None:
    """One tier of ELAN per tier, with its speaker as participant, and a link to the recording."""
    file = pympi.Elan.Eaf(author="pase")
    file.add_linguistic_type(_KIND)
    file.remove_tier("default")
    if timeline.media is not None:
        media = timeline.media.resolve()
        beside = os.path.relpath(media, path.resolve().parent) if media.drive == path.resolve().drive else media.name
        kind = mimetypes.guess_type(media.name)[0] or "application/octet-stream"
        file.add_linked_file(media.as_uri(), relpath=f"./{Path(beside).as_posix()}", mimetype=kind)
    for tier in timeline.tiers:
        file.add_tier(tier.name, _KIND, part=tier.speaker)
        for interval in tier.intervals:
            start, end = milliseconds(interval.start), milliseconds(interval.end)
            file.add_annotation(tier.name, start, end, interval.text)
    file.to_file(str(path))
