"""What became of every clip of an extraction, and the report of it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pase_msa.data.table import Utterance
from pase_msa.media import parts
from pase_msa.media.manifest import Item

REPORT = "report.csv"


@dataclass
class Outcome:
    """What became of one clip.

    Attributes:
        id: the clip's.
        path: as the manifest has it.
        status: "ok", or "failed".
        reason: one sentence, where it failed.
        rows: facts about each utterance, see `parts.facts`.
    """

    id: str
    path: str
    status: Literal["ok", "failed"]
    reason: str
    rows: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        """Length of the clip's utterances."""
        return sum(row["duration"] or 0.0 for row in self.rows)

    def summary(self) -> Summary:
        """What a report says of the clip."""
        return Summary(
            self.id,
            self.path,
            self.status,
            self.reason,
            len(self.rows),
            self.seconds,
            sum(len(row["words"]) for row in self.rows),
            dict(Counter(name for row in self.rows for name in row["modalities"])),
            any(row["text"] for row in self.rows),
            list(dict.fromkeys(note for row in self.rows for note in row["notes"])),
            dict(Counter(row["language"] for row in self.rows if row.get("language"))),
        )


@dataclass
class Summary:
    """What a report says of one clip, without its words and features.

    Attributes:
        id: the clip's.
        path: as the manifest has it.
        status: "ok", or "failed".
        reason: one sentence, where it failed.
        utterances: of the clip.
        seconds: length of these.
        words: in these.
        modalities: utterances that have each modality, by name.
        text: whether there is a transcript.
        notes: sentences about what is absent or wrong.
        languages: utterances in each language, by its code.
    """

    id: str
    path: str
    status: Literal["ok", "failed"]
    reason: str
    utterances: int
    seconds: float
    words: int
    modalities: dict[str, int] = field(default_factory=dict)
    text: bool = False
    notes: list[str] = field(default_factory=list)
    languages: dict[str, int] = field(default_factory=dict)


def report_text(clips: Iterable[Summary]) -> str:
    """The report as CSV, one line per clip."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["id", "path", "status", "utterances", "seconds", "words", "modalities", "notes"])
    for clip in clips:
        about = clip.reason or " ".join(clip.notes)
        length, modalities = f"{clip.seconds:.2f}", " ".join(clip.modalities)
        writer.writerow([clip.id, clip.path, clip.status, clip.utterances, length, clip.words, modalities, about])
    return stream.getvalue()


def utterance_ids(clip: str, count: int) -> list[str]:
    """Ids of the utterances of a clip: its own where it is whole, numbered where it was cut."""
    return [clip] if count == 1 else [f"{clip}_{number:04d}" for number in range(1, count + 1)]


def read_utterances(items: Sequence[Item], outcomes: Sequence[Outcome], files: Sequence[Path]) -> Iterator[Utterance]:
    """The rows of a table that clips make, from the file of each finished one (see `pase_msa.media.parts`)."""
    for item, done, file in zip(items, outcomes, files, strict=True):
        names = utterance_ids(item.id, len(done.rows))
        for number, (name, row) in enumerate(zip(names, done.rows, strict=True)):
            features = parts.features(file, number, row["modalities"])
            video = item.video or item.id
            speaker = row.get("speaker") or item.speaker
            yield Utterance(name, video, item.split, item.labels, features, row["text"], speaker)
