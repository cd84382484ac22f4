"""Subtitles of web pages (WebVTT, .vtt), with webvtt-py. A speaker is the voice of a cue."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import webvtt

from pase_msa.media.timelines.base import Tier, Timeline, plain
from pase_msa.media.timelines.captions import cue, tiers_of

_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_MARKS = re.compile(r"</?[A-Za-z][^>]*>|<[\d:.]+>|</>")  # voices, styles, and times of words


def read(path: Path) -> list[Tier]:
    """The cues, by voice; a cue with several voices has no single speaker."""
    return tiers_of(_cues(path))


def _cues(path: Path) -> Iterator[tuple[str, str, str | None, str]]:
    for item in webvtt.read(str(path)).captions:
        voices = {html.unescape(name).strip() for name in _VOICE.findall(item.raw_text)}
        speaker = voices.pop() if len(voices) == 1 else None
        yield item.start, item.end, speaker, html.unescape(_MARKS.sub("", item.raw_text))


def write(path: Path, timeline: Timeline) -> None:
    """One cue per caption: the transcript with its voice, and below it what was predicted."""
    file = webvtt.WebVTT()
    for caption in timeline.captions:
        text = html.escape(plain(caption.text), quote=False)
        if caption.speaker:
            text = f"<v {html.escape(plain(caption.speaker), quote=False)}>{text}</v>"
        file.captions.append(cue(caption, text, html.escape(plain(caption.note), quote=False)))
    with path.open("w", encoding="utf-8") as stream:
        file.write(stream)
