"""Subtitles as most players read them (.srt), with webvtt-py.

The format has no speakers. A line that begins with "[NAME]: ", as speech recognisers write it, is taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import webvtt

from pase_msa.media.timelines.base import Tier, Timeline, plain
from pase_msa.media.timelines.captions import cue, tiers_of

_SPEAKER = re.compile(r"\[([^\]]+)\]: *")
_MARKS = re.compile(r"</?[A-Za-z][^>]*>|\{\\[^}]*\}")  # <i>, and {\an8} of other formats
# players hide what stands between < and >, so that these are written as their likes
_ANGLES = str.maketrans("<>", "‹›")


def read(path: Path) -> list[Tier]:
    """The cues, by speaker where a line begins with one."""
    return tiers_of(_cues(path))


def _cues(path: Path) -> Iterator[tuple[str, str, str | None, str]]:
    for item in webvtt.from_srt(str(path)).captions:
        text = _MARKS.sub("", item.raw_text)
        said = _SPEAKER.match(text)
        yield item.start, item.end, said[1].strip() if said else None, text[said.end() :] if said else text


def write(path: Path, timeline: Timeline) -> None:
    """One cue per caption: the transcript, and below it what was predicted."""
    file = webvtt.WebVTT()
    for caption in timeline.captions:
        text = f"[{caption.speaker}]: {caption.text}" if caption.speaker else caption.text
        lines = [plain(line).translate(_ANGLES) for line in (text, caption.note)]
        file.captions.append(cue(caption, *lines))
    with path.open("w", encoding="utf-8") as stream:
        file.write(stream, format="srt")
