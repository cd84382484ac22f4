"""One file per finished clip, whose name is a hash of what it was made from, so that a later run finds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pase_msa.data.columns import Array
from pase_msa.files import replacing
from pase_msa.media.clip import Clip
from pase_msa.media.manifest import Item


def key(item: Item, cut: str, record: Mapping[str, Any], speakers: Sequence[str] | None = None) -> str:
    """The file's name: a hash of file, given text and times, and way of extraction; not of id, split or labels.

    Args:
        item: the clip.
        cut: whether it is cut into utterances.
        record: of the extraction.
        speakers: how it is divided by speakers, and their names; None where it is not.
    """
    size = [0, 0]
    if item.path is not None and item.path.is_file():
        stat = item.path.stat()
        size = [stat.st_size, stat.st_mtime_ns]
    facts: list[Any] = [item.written, *size, item.text, item.start, item.end, cut, item.labelled, record]
    if speakers is not None:
        facts += [speakers, item.speaker]
    if item.language is not None:
        facts.append(item.language)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def save(path: Path, clips: Sequence[Clip]) -> None:
    """Write the utterances of a clip: features as tensors "number/modality", all else as JSON in the header."""
    rows = []
    tensors: dict[str, Array] = {}
    for i, clip in enumerate(clips):
        rows.append(
            {
                "start": clip.start,
                "duration": clip.duration,
                "text": clip.text,
                "speaker": clip.speaker,
                "language": clip.language,
                "words": [asdict(word) for word in clip.words],
                "timing": clip.timing,
                "aligned": clip.aligned,
                "modalities": list(clip.features),
                "seconds": {stage: round(value, 4) for stage, value in clip.seconds.items()},
                "notes": clip.notes,
            }
        )
        tensors |= {f"{i}/{name}": values for name, values in clip.features.items()}
    with replacing(path, unique=True) as partial:
        save_file(tensors, partial, metadata={"rows": json.dumps(rows)})


def facts(path: Path) -> list[dict[str, Any]] | None:
    """What the header holds about each utterance; None where there is no complete file."""
    try:
        with safe_open(path, framework="numpy") as file:
            rows: list[dict[str, Any]] = json.loads(file.metadata()["rows"])
            return rows
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def features(path: Path, number: int, modalities: Sequence[str]) -> dict[str, Array]:
    """The features of one utterance."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(f"{number}/{name}") for name in modalities}
