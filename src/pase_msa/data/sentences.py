"""Labelled sentences, of one data set or of several, as one table of transcripts with scores or classes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pase_msa.data.cells import is_number, is_unknown, read_csv
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError

_VALIDATION, _TEST = ("valid", "val", "dev"), ("test",)
_SPLITS = (*_VALIDATION, *_TEST, "train", "all")
_HELD_OUT = 0.1  # of the sentences that no file marks for validation, where none does
_log = logging.getLogger(__name__)


@dataclass
class Sentence:
    """A labelled sentence.

    Attributes:
        text: as the file has it.
        label: as the file has it, a number or a name.
        source: the data set.
        split: "train" or "valid".
    """

    text: str
    label: str
    source: str
    split: str


def sentence_table(path: str | Path, *, seed: int = 0) -> FeatureTable:
    """A table with a transcript and a label per sentence, and the splits train and valid.

    Numbers are brought to [-1, 1] data set by data set, from their smallest to their largest, so that stars and
    polarities go together; names stay class names. Files named for a test split are left out. Where no file is named
    for validation, one sentence in ten is drawn. What validation has too is taken out of training.

    Args:
        path: a CSV file with the columns text and label, a text file with lines "LABEL TEXT", or a folder of such
            files. Files that differ only in a split ("sst.train", "sst.dev") are one data set.
        seed: of the draw.

    Errors:
        PaSEError: no sentence, a file of another kind, or names in one data set and numbers in another.
    """
    root = Path(path)
    if not root.exists():
        raise PaSEError(
            f"There is no {root}; give a CSV file with the columns text and label, or a folder of such files."
        )
    files = sorted(file for file in root.iterdir() if file.is_file()) if root.is_dir() else [root]
    sentences: list[Sentence] = []
    for file in files:
        parts = set(re.split(r"[^a-z0-9]+", file.name.lower()))
        if root.is_dir() and (file.name.startswith(("README", ".")) or parts & set(_TEST)):
            _log.info("%s is left out", file.name)
            continue
        split = "valid" if parts & set(_VALIDATION) else "train"
        sentences += [Sentence(text, label, _source(file), split) for text, label in _read(file)]
    if not sentences:
        raise PaSEError(f"{root} holds no labelled sentence; give a CSV file with the columns text and label.")
    ranges = _ranges(sentences)
    _draw_validation(sentences, seed)
    kept = _without_repeats(sentences)
    _check_training(kept, root)
    return _table(kept, ranges, root)


def _source(file: Path) -> str:
    """The name of a file without a split and an ending."""
    return ".".join(part for part in re.split(r"[._-]", file.stem) if part.lower() not in _SPLITS) or file.stem


def _read(file: Path) -> Iterator[tuple[str, str]]:
    """Texts and labels of a file."""
    if file.suffix.lower() == ".csv":
        content = read_csv(file)
        if missing := [name for name in ("text", "label") if name not in content.columns]:
            found = ", ".join(content.columns)
            raise PaSEError(f"{file} needs the columns text and label, found {found}; there is no {missing[0]}.")
        for row in content.rows:
            text, label = (row.cells.get(name) or "" for name in ("text", "label"))
            if not is_unknown(text) and not is_unknown(label):
                yield text, label
        return
    raw = file.read_bytes()
    try:
        lines = raw.decode("utf-8")
    except UnicodeDecodeError:
        lines = raw.decode("latin-1")  # older corpora
    for number, line in enumerate(lines.split("\n"), 1):
        label, _, text = line.strip().partition(" ")
        if not line.strip() or (is_number(label) and not text.strip()):
            continue  # published corpora have labels without a text
        if not is_number(label):
            raise PaSEError(
                f"{file}, line {number}: a label, a blank and a text were wanted, found {line[:60]!r}; mend it, or "
                "write a CSV file with the columns text and label."
            )
        yield text.strip(), label


def _draw_validation(sentences: list[Sentence], seed: int) -> None:
    if any(sentence.split == "valid" for sentence in sentences):
        return
    if len(sentences) < 2:
        raise PaSEError("One sentence cannot be divided into training and validation; give more.")
    count = max(1, round(_HELD_OUT * len(sentences)))
    for place in np.random.default_rng(seed).choice(len(sentences), count, replace=False).tolist():
        sentences[place].split = "valid"


def _without_repeats(sentences: Sequence[Sentence]) -> list[Sentence]:
    """Without training sentences that validation has too, whatever their case and punctuation."""

    def key(sentence: Sentence) -> str:
        return re.sub(r"\W+", "", sentence.text.lower())

    validated = {key(sentence) for sentence in sentences if sentence.split == "valid"}
    kept = [sentence for sentence in sentences if sentence.split == "valid" or key(sentence) not in validated]
    if len(kept) < len(sentences):
        _log.info("%d training sentences are in validation too and are left out", len(sentences) - len(kept))
    return kept


def _check_training(sentences: Sequence[Sentence], root: Path) -> None:
    """Refuse a training split from which nothing can be learned, or that lacks a class of validation."""
    of = {split: {s.label for s in sentences if s.split == split} for split in ("train", "valid")}
    if len(of["train"]) < 2:
        count = sum(sentence.split == "train" for sentence in sentences)
        raise PaSEError(
            f"Training sentences of two labels or more were wanted; {root} has {count} of {len(of['train'])}, without "
            "those for validation; give more sentences."
        )
    lacking = sorted(of["valid"] - of["train"])
    if lacking and not is_number(lacking[0]):
        raise PaSEError(
            f"No training sentence of {root} has the label {lacking[0]!r}, which validation has; give more of it, or "
            "leave it out."
        )


def _ranges(sentences: Sequence[Sentence]) -> dict[str, tuple[float, float]]:
    """Smallest and largest label of each data set; none where labels are names."""
    cells: dict[str, set[str]] = {}
    for sentence in sentences:
        cells.setdefault(sentence.source, set()).add(sentence.label)
    names = [name for name, labels in cells.items() if not all(map(is_number, labels))]
    for name in names:
        if any(map(is_number, cells[name])):
            word = min(label for label in cells[name] if not is_number(label))
            raise PaSEError(
                f"The labels of {name} are numbers and names, such as {word!r}; make them one kind, and leave the cell "
                "of an unknown label blank."
            )
    if names and len(names) < len(cells):
        raise PaSEError(
            f"The labels of {names[0]} are names and those of another data set numbers; adapt to one kind at a time."
        )
    ranges = {}
    for name, labels in cells.items():
        if len(labels) < 2:
            raise PaSEError(f"Every label of {name} is {min(labels)}; a data set needs two or more.")
        if not names:
            ranges[name] = min(map(float, labels)), max(map(float, labels))
    return ranges


def _table(sentences: Sequence[Sentence], ranges: dict[str, tuple[float, float]], root: Path) -> FeatureTable:
    rows = []
    for number, sentence in enumerate(sentences):
        label: float | str = sentence.label
        if sentence.source in ranges:
            low, high = ranges[sentence.source]
            label = 2 * (float(sentence.label) - low) / (high - low) - 1
        name = f"{sentence.source}:{number}"
        rows.append(Utterance(name, name, sentence.split, {"label": label}, {}, sentence.text))
    meta = {"format": "sentences", "source": root.name, **({"label_range": [-1, 1]} if ranges else {})}
    return FeatureTable.build(rows, Schema({}, {"label": "real" if ranges else "class"}, True), meta=meta)
