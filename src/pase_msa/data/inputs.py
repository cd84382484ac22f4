"""From a feature table to a task, inputs, and batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.pretrained import state_size
from pase_msa.data.table import FeatureTable
from pase_msa.data.transcripts import TextConfig, frozen_column, resolve_text, token_column
from pase_msa.errors import PaSEError
from pase_msa.task import Task

_PREFERRED = ("sentiment", "label", "emotion", "rating")


@dataclass
class InputSpec:
    """What one modality brings and how it is encoded.

    Attributes:
        dim: feature size of a step; 0 where the encoder reads token ids.
        encoder: name of the plug-in in `pase_msa.encoders`.
        options: options of that encoder.
        text: how transcripts become features (see `pase_msa.encoders.language_model`), else None.
    """

    dim: int
    encoder: str = "sequence"
    options: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] | None = None


def _choose_label(table: FeatureTable, label: str | None) -> str:
    """The label column: the one asked for, the only one, or the first of the customary names."""
    found = list(table.schema.labels)
    if label is not None:
        if label not in found:
            raise PaSEError(f"The data have the labels {', '.join(found) or 'none'}, not {label!r}; name one of these.")
        return label
    if not found:
        raise PaSEError("The data have no label column, so there is nothing to learn; add one.")
    if len(found) == 1:
        return found[0]
    for name in _PREFERRED:
        if name in found:
            return name
    raise PaSEError(f"The data have several labels ({', '.join(found)}); name one with --label.")


def choose_modalities(table: FeatureTable, wanted: Sequence[str] | None, text: TextConfig) -> tuple[str, ...]:
    """The modalities to use: all that the data hold, transcripts included, or those asked for."""
    held = list(table.modalities)
    if table.schema.text and "text" not in held:
        held.insert(0, "text")
    if wanted is None:
        chosen = held
    else:
        chosen = list(wanted)
        if unknown := [name for name in chosen if name not in held]:
            raise PaSEError(
                f"The data have the modalities {', '.join(held) or 'none'}, not {unknown[0]!r}; name some of these."
            )
    if not chosen:
        raise PaSEError("The data hold no modality: neither a feature column nor transcripts; add one.")
    return tuple(chosen)


def infer_task(
    table: FeatureTable,
    modalities: Sequence[str],
    label: str | None = None,
    kind: Literal["auto", "regression", "classification"] = "auto",
    num_classes: int | None = None,
) -> Task:
    """The task that a label column asks for; the range or the class names come from the training split.

    Args:
        table: data with a training split.
        modalities: of the task.
        label: the column; None takes the only one, or the first of the customary names.
        kind: of task; "auto" follows from the column.
        num_classes: ordered classes of a regression; None follows from the range.

    Errors:
        PaSEError: no such column, no labelled training utterance, or values that do not fit the kind.
    """
    label = _choose_label(table, label)
    rows = table.rows("train")
    if not len(rows):
        raise PaSEError("The data have no training split (split 'train'); mark one in the split column.")
    values = table.labels(label)
    training = [values[row] for row in rows if values[row] is not None]
    if not training:
        raise PaSEError(f"No training utterance has a known {label!r}; label some.")
    column = table.schema.labels[label]
    if kind == "regression" and column == "class":
        raise PaSEError(f"Label {label!r} holds class names, so it cannot be a regression; use --kind classification.")
    if column == "class" or kind == "classification":
        names = [f"{v:g}" if isinstance(v, float) else str(v) for v in training]
        order = table.meta.get("classes") or sorted(set(names), key=_natural)
        return Task.classification(modalities, order, label=label)
    low, high = table.meta.get("label_range") or (math.floor(min(training)), math.ceil(max(training)))
    if low == high:
        raise PaSEError(f"Every training label is {low:g}; a regression needs two different ones or more.")
    return Task.regression(modalities, low, high, num_classes=num_classes, label=label)


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def describe_inputs(
    table: FeatureTable,
    modalities: Sequence[str],
    text: TextConfig,
    encoders: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, InputSpec]:
    """How each modality is encoded: what the data hold, and the user's options by modality.

    Options of a modality are those of its encoder, with "encoder" as the plug-in's name; the key "default" holds
    options for every feature sequence that has none of its own.
    """
    given = {name: dict(options) for name, options in (encoders or {}).items()}
    common = given.pop("default", {})
    if unknown := sorted(set(given) - set(modalities) - set(table.modalities) - {"text"}):
        raise PaSEError(f"encoders names {unknown[0]!r}, which is no modality of the data ({', '.join(modalities)}).")
    inputs = {}
    for name in modalities:
        options = given.get(name, common)
        encoder = str(options.pop("encoder", "sequence")) if name in given else str(common.get("encoder", "sequence"))
        options = {key: value for key, value in options.items() if key != "encoder"}
        if name in table.modalities and not (name == "text" and text.source == "transcripts"):
            inputs[name] = InputSpec(table.modalities[name], encoder, options)
            continue
        if table.texts is None:
            raise PaSEError("text.source is 'transcripts', but the data have no text column; use their features.")
        training = [table.texts[row] for row in table.rows("train")]
        resolved = resolve_text(text, training)
        if text.frozen:
            inputs[name] = InputSpec(state_size(text.model), encoder, options, resolved)
        else:
            inputs[name] = InputSpec(0, "language_model", options, resolved)
    return inputs


def load_columns(table: FeatureTable, inputs: Mapping[str, InputSpec]) -> dict[str, SequenceColumn]:
    """The columns that inputs describe, from any table; a modality that the table lacks is absent throughout."""
    columns = {}
    for name, spec in inputs.items():
        if spec.text is not None:
            texts = table.texts or [None] * len(table)
            columns[name] = frozen_column(texts, spec.text) if spec.dim else token_column(texts, spec.text)
        elif name in table.modalities:
            if table.modalities[name] != spec.dim:
                raise PaSEError(
                    f"The model was trained on {name} features of size {spec.dim}, the data have "
                    f"{table.modalities[name]}; use the same extractor as in training."
                )
            columns[name] = table.sequences(name)
        else:
            columns[name] = SequenceColumn.from_arrays([None] * len(table), spec.dim)
    return columns


def encode_labels(table: FeatureTable, task: Task, rows: Iterable[int] | None = None) -> NDArray[np.float64]:
    """Scores or class numbers of every row; NaN where unknown, and outside `rows`, which are not read."""
    values = table.labels(task.label)
    if rows is not None:
        read = {int(row) for row in rows}
        values = [value if row in read else None for row, value in enumerate(values)]
    if task.kind == "regression":
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    numbers = {name: i for i, name in enumerate(task.classes)}
    result = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if value is not None:
            name = f"{value:g}" if isinstance(value, float) else str(value)
            if name not in numbers:
                raise PaSEError(f"Utterance {table.ids[i]!r} has the class {name!r}, which the training split lacks.")
            result[i] = numbers[name]
    return result


def describe_data(table: FeatureTable, path: str | Path | None) -> dict[str, Any]:
    """Provenance for the run folder."""
    counts = {split: len(table.rows(split)) for split in ("train", "valid", "test")}
    return {
        "path": None if path is None else str(Path(path).resolve()),
        "source": str(table.meta.get("source") or table.meta.get("format") or "data"),
        "fingerprint": table.fingerprint(),
        "utterances": counts,
        "videos": len(set(table.videos)),
        "synthetic": bool(table.meta.get("synthetic")),
        "note": str(table.meta.get("note", "")),
    }
