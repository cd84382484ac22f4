"""The steps from a feature table to a problem: choose modalities, infer the task, describe and load the inputs.

`pase_msa.data.problem` runs them in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.context import CONTEXT, context_column, context_size, several_speakers
from pase_msa.data.pretrained import state_size
from pase_msa.data.shards import absolute
from pase_msa.data.table import SPLITS, FeatureTable
from pase_msa.data.transcripts import TextConfig, frozen_column, resolve_text, token_column
from pase_msa.errors import PaSEError
from pase_msa.ranges import nearest
from pase_msa.task import Task

TRANSIENT = "transient"
"""In the description of a table: nothing that is made of it may stay on the disk."""
_PREFERRED = ("sentiment", "label", "emotion", "rating")


@dataclass
class InputSpec:
    """The features of one modality and how they are encoded.

    Attributes:
        dim: feature size of a step; 0 where the encoder reads token ids.
        encoder: name of the plug-in in `pase_msa.encoders`.
        options: options of that encoder.
        text: how transcripts become features, as `resolve_text` returned it; None where the features are the table's.
        steps: length that nineteen of twenty training sequences do not exceed; None where it is not known.
        context: where the features are made of other utterances, how: "mode" and "of" as `plan_context` returned
            them, "size" of what they are made of, "text" as above but always frozen, and whether "speakers" are told
            apart. None where they are the utterance's own.
    """

    dim: int
    encoder: str = "sequence"
    options: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] | None = None
    steps: int | None = None
    context: dict[str, Any] | None = None

    @property
    def made(self) -> bool:
        """Whether the features are made from transcripts or from other utterances; else they have to be given."""
        return self.text is not None or self.context is not None


def _choose_label(table: FeatureTable, label: str | None) -> str:
    """The label column: the one asked for, the only one, or the first of the customary names."""
    columns = list(table.schema.labels)
    if label is not None:
        if label not in columns:
            raise PaSEError(
                f"The data have the labels {', '.join(columns) or 'none'}, not {label!r}; "
                f"{nearest(label, columns, 'name one of these.')}"
            )
        return label
    if not columns:
        raise PaSEError("The data have no label column, so there is nothing to learn; add one.")
    if len(columns) == 1:
        return columns[0]
    for name in _PREFERRED:
        if name in columns:
            return name
    raise PaSEError(f"The data have several labels ({', '.join(columns)}); name one with --label.")


def choose_modalities(
    table: FeatureTable, wanted: Sequence[str] | None, text: TextConfig, contexts: Iterable[str] = ()
) -> tuple[str, ...]:
    """The modalities to use, in order: all that the data hold, transcripts included, or those in `wanted`.

    Args:
        table: the data.
        wanted: names of the modalities; all if None.
        text: how transcripts become features.
        contexts: names of the context modalities, which are added where `wanted` names none of them.

    Errors:
        PaSEError: the data lack one of them, or have none at all.
    """
    available = list(table.modalities)
    if table.schema.text and "text" not in available:
        available.insert(0, "text")
    contexts = list(contexts)
    available += contexts
    if wanted is None:
        chosen = available
    else:
        chosen = list(wanted)
        if not set(contexts) & set(chosen):
            chosen += contexts
        if CONTEXT in chosen and CONTEXT not in available:
            raise PaSEError(
                "The modality 'context' is made of other utterances; say of which with --context video or before."
            )
        if unknown := [name for name in chosen if name not in available]:
            names = ", ".join(available) or "none"
            raise PaSEError(
                f"The data have the modalities {names}, not {unknown[0]!r}; "
                f"{nearest(unknown[0], available, 'name some of these.')}"
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
        raise PaSEError(
            "The data have no training split (split 'train'); mark train, valid and test in a column 'split', or say "
            "--split auto."
        )
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
    """Sort key of class names: numbers by value, before words."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def describe_inputs(
    table: FeatureTable,
    modalities: Sequence[str],
    text: TextConfig,
    encoders: Mapping[str, Mapping[str, Any]] | None = None,
    contexts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, InputSpec]:
    """The inputs of a model, from what the data hold and the user's options.

    Args:
        table: the data.
        modalities: of the task, in order.
        text: how transcripts become features.
        encoders: options by modality: those of its encoder, and "encoder", the plug-in's name. The key "default" holds
            options for every modality that has none of its own.
        contexts: by name of a context modality, as `plan_context` returns them.

    Errors:
        PaSEError: options for a modality that the data lack, or transcripts that they lack.
    """
    given = {name: dict(options) for name, options in (encoders or {}).items()}
    common = given.pop("default", {})
    if unknown := sorted(set(given) - set(modalities) - set(table.modalities) - {"text"}):
        raise PaSEError(
            f"encoders names {unknown[0]!r}, which is no modality of the data ({', '.join(modalities)}); "
            f"{nearest(unknown[0], modalities, 'name one of these.')}"
        )
    inputs = {}
    for name in modalities:
        options = given.get(name, common)
        encoder = str(options.pop("encoder", "sequence")) if name in given else str(common.get("encoder", "sequence"))
        options = {key: value for key, value in options.items() if key != "encoder"}
        if name in (contexts or {}):
            context = _describe_context(table, (contexts or {})[name], text)
            size = context_size(context["size"], speakers=context["speakers"])
            inputs[name] = InputSpec(size, encoder, options, steps=1, context=context)
        elif _has_features(table, name, text):
            inputs[name] = InputSpec(table.modalities[name], encoder, options, steps=_usual_steps(table, name))
        elif text.frozen:
            inputs[name] = InputSpec(state_size(text.model), encoder, options, _resolved(table, text))
        else:
            inputs[name] = InputSpec(0, "language_model", options, _resolved(table, text))
    return inputs


def _has_features(table: FeatureTable, name: str, text: TextConfig) -> bool:
    """Whether a modality is read from the table's features; else from its transcripts."""
    return name in table.modalities and not (name == "text" and text.source == "transcripts")


def _resolved(table: FeatureTable, text: TextConfig) -> dict[str, Any]:
    """How the transcripts of a table become features, decided by those of the training split."""
    texts = table.texts
    if texts is None:
        raise PaSEError("text.source is 'transcripts', but the data have no text column; use their features.")
    return resolve_text(text, [texts[row] for row in table.rows("train")])


def _describe_context(table: FeatureTable, planned: Mapping[str, Any], text: TextConfig) -> dict[str, Any]:
    """`InputSpec.context` of a context modality. Text is always read by the frozen language model."""
    own = {**planned, "speakers": several_speakers(table)}
    if _has_features(table, planned["of"], text):
        return {**own, "size": table.modalities[planned["of"]], "text": None}
    return {**own, "size": state_size(text.model), "text": _resolved(table, replace(text, frozen=True))}


def _usual_steps(table: FeatureTable, name: str) -> int | None:
    """The 95th percentile of the lengths of the training sequences; None without any."""
    lengths = table.sequences(name).lengths[table.rows("train")]
    there = lengths[lengths > 0]
    return math.ceil(np.percentile(there, 95)) if len(there) else None


def load_columns(table: FeatureTable, inputs: Mapping[str, InputSpec]) -> dict[str, SequenceColumn]:
    """The columns that inputs describe, from any table; a modality that the table lacks is absent from every row.

    Errors:
        PaSEError: features of another size than the inputs have.
    """
    columns = {name: _load_column(table, name, spec) for name, spec in inputs.items() if spec.context is None}
    for name, spec in inputs.items():
        if spec.context is not None:
            if name in table.modalities:
                raise PaSEError(
                    f"The model makes {name!r} of other utterances, but the data have it too; rename theirs."
                )
            of = str(spec.context["of"])
            source = InputSpec(spec.context["size"], text=spec.context["text"])
            # what is a modality, too, is not loaded twice
            loaded = (
                columns[of]
                if of in columns and (inputs[of].dim, inputs[of].text) == (source.dim, source.text)
                else None
            )
            columns[name] = context_column(table, spec.context, loaded or _load_column(table, of, source))
    return {name: columns[name] for name in inputs}


def _load_column(table: FeatureTable, name: str, spec: InputSpec) -> SequenceColumn:
    """The column of one modality that is the utterances' own."""
    if spec.text is not None:
        texts = table.texts or [None] * len(table)
        if not spec.dim:
            return token_column(texts, spec.text)
        return frozen_column(texts, spec.text, keep=not table.meta.get(TRANSIENT, False))
    if name not in table.modalities:
        return SequenceColumn.from_arrays([None] * len(table), spec.dim)
    if table.modalities[name] != spec.dim:
        raise PaSEError(
            f"The model was trained on {name} features of size {spec.dim}, the data have {table.modalities[name]}; use "
            "the same extractor as in training."
        )
    return table.sequences(name)


def encode_labels(table: FeatureTable, task: Task, rows: Iterable[int] | None = None) -> NDArray[np.float64]:
    """Scores or class numbers of every row, [N]; NaN where unknown.

    Args:
        table: the data.
        task: its label and classes.
        rows: those to read; every other row is NaN. All rows if None.

    Errors:
        PaSEError: a class that the task does not have.
    """
    values = table.labels(task.label)
    if rows is not None:
        wanted = {int(row) for row in rows}
        values = [value if row in wanted else None for row, value in enumerate(values)]
    return encode_values(values, task, table.ids)


def encode_values(values: Sequence[Any], task: Task, ids: Sequence[str]) -> NDArray[np.float64]:
    """Values of a label column as scores or class numbers, [N]; NaN where unknown.

    Args:
        values: floats or class names, None where unknown, [N].
        task: its classes.
        ids: of the utterances, for the sentence of an error.

    Errors:
        PaSEError: a class that the task does not have.
    """
    if task.kind == "regression":
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    numbers = {name: i for i, name in enumerate(task.classes)}
    result = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if value is not None:
            name = f"{value:g}" if isinstance(value, float) else str(value)
            if name not in numbers:
                scores = isinstance(value, float)
                raise PaSEError(
                    f"Utterance {ids[i]!r} has the class {name!r}, which the training split lacks; "
                    + ("leave the kind 'classification' out, if these are scores, or " if scores else "")
                    + "move an utterance of it to training, or leave its label blank."
                )
            result[i] = numbers[name]
    return result


def describe_data(table: FeatureTable, path: str | Path | None) -> dict[str, Any]:
    """Where data come from and how many there are, for `data.json` of a run folder."""
    whole = table.streamed
    counts = {name: len(table.rows(name)) if whole is None else whole.counts.get(name, 0) for name in SPLITS}
    return {
        "path": None if path is None else absolute(path),
        "source": str(table.meta.get("source") or table.meta.get("format") or "data"),
        "fingerprint": table.fingerprint(),
        "utterances": counts,
        "videos": len(set(table.videos)) if whole is None else whole.videos,
        "synthetic": bool(table.meta.get("synthetic")),
        "note": str(table.meta.get("note", "")),
    }
