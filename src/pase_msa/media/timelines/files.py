"""The format of a timeline by its ending, segments from a file, and a file from a timeline."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, replacing
from pase_msa.media.timelines.base import Segment, Tier, Timeline, plain
from pase_msa.optional import EXTRAS, how_to_install

_KIND = "media.timelines"
# tiers of predictions, and of parts of a segment, which no one reads as segments unless they are named
_PARTS = {"score", "class", "confidence", "influence", "events", "words", "phones"}
_CONTRIBUTION = "contribution_"
# tiers with these names hold transcripts and name nobody
_NOBODY = {"", "default", "transcript", "transcription", "text", "utterances", "segments", "sentences"}

# of a further tier, for what lies over others; the name of a speaker may be "Guest #2"
_NUMBER = re.compile(r"(?<=\S)#\d+$")


@lru_cache(maxsize=1)
def endings() -> tuple[str, ...]:
    """The endings of timelines, with their dot, in small letters."""
    return tuple(f".{name}" for name in plugins.names(_KIND))


def is_timeline(path: str | Path) -> bool:
    """Whether the name of a file ends as that of a timeline."""
    return Path(path).suffix.lower() in endings()


def require_format(path: str | Path) -> ModuleType:
    """The module that reads and writes files of this ending.

    Errors:
        PaSEError: no format has this ending, or the package that it needs is not installed.
    """
    ending = Path(path).suffix
    if not is_timeline(path):
        raise PaSEError(f"{path} was to be a timeline, which ends in {', '.join(endings())}, found {ending or 'none'}.")
    try:
        module: ModuleType = plugins.load(_KIND, ending[1:].lower())
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in EXTRAS:
            raise
        raise PaSEError(how_to_install(package)) from error
    return module


def write_timeline(path: str | Path, timeline: Timeline) -> None:
    """Write a timeline in the format of its ending, whole or not at all.

    Errors:
        PaSEError: an unknown ending, a missing package, or a place that cannot be written to.
    """
    target = Path(path)
    module = require_format(target)
    make_folder(target.parent)
    with replacing(target) as partial:
        module.write(partial, timeline)


def read_segments(path: str | Path, names: Collection[str] | None = None) -> list[Segment]:
    """The segments of a timeline, in order of time.

    A tier's speaker is its participant (ELAN), its voice (subtitles), or else its name. Tiers that `pase predict` wrote
    are left out but for the transcripts, so that its own files can be corrected and read again.

    Args:
        path: of the file.
        names: of the tiers to read; all that are not parts of segments (words, phones) if left out.

    Errors:
        PaSEError: no such file or format, a damaged file, an unknown tier, no segment, or one that ends before it
            begins.
    """
    file = Path(path)
    module = require_format(file)
    if not file.is_file():
        raise PaSEError(f"There is no timeline {file}; check the path.")
    if not file.stat().st_size:
        raise PaSEError(f"{file} is empty (0 bytes); save it again.")
    try:
        tiers: list[Tier] = module.read(file)
    except Exception as error:  # the readers of four packages raise whatever they meet
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PaSEError(
            f"{file} cannot be read as {file.suffix} ({reason}): it is damaged, or not in UTF-8; save it again."
        ) from error
    segments = [_segment(file, tier, *times) for tier in _chosen(file, tiers, names) for times in _intervals(tier)]
    if not segments:
        found = ", ".join(tier.name for tier in tiers if tier.name)
        where = f" in its tiers {found}; name the tiers to read with --tiers, or" if found else ";"
        raise PaSEError(f"{file} marks no segment{where} mark when somebody speaks.")
    return sorted(segments, key=lambda segment: (segment.start, segment.end))


def _chosen(file: Path, tiers: Sequence[Tier], names: Collection[str] | None) -> list[Tier]:
    if names is None:
        return [tier for tier in tiers if not _is_part(tier.name)]
    known = [tier.name for tier in tiers]
    if unknown := [name for name in names if name not in known]:
        raise PaSEError(f"{file} has no tier {unknown[0]!r}; it has {', '.join(known) or 'none'}; name one of these.")
    return [tier for tier in tiers if tier.name in names]


def _is_part(name: str) -> bool:
    stem = _stem(name).lower()
    # forced aligners call the tiers of a speaker "NAME - words" and "NAME - phones"
    return stem in _PARTS or stem.startswith(_CONTRIBUTION) or stem.rpartition(" - ")[2] in _PARTS


def _stem(name: str) -> str:
    """The name without speaker and number: "score" of "score@Anna#2"."""
    return _NUMBER.sub("", name.partition("@")[0]).strip()


def _intervals(tier: Tier) -> list[tuple[float, float, str]]:
    return [(interval.start, interval.end, interval.text) for interval in tier.intervals]


def _segment(file: Path, tier: Tier, start: float, end: float, text: str) -> Segment:
    if not 0 <= start < end:
        raise PaSEError(
            f"{file} has a segment from {start:g} s to {end:g} s{f' in {tier.name}' if tier.name else ''}; "
            "let it end after it begins."
        )
    return Segment(start, end, plain(text) or None, _speaker(tier))


def _speaker(tier: Tier) -> str | None:
    if tier.speaker:
        return plain(tier.speaker) or None
    if _stem(tier.name).lower() in _NOBODY:
        return plain(_NUMBER.sub("", tier.name.partition("@")[2])) or None
    return plain(tier.name)
