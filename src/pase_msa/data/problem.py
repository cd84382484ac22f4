"""The prepared problem: from a feature table and a few options to a task, inputs and datasets, in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.context import ContextMode, plan_context
from pase_msa.data.dataset import UtteranceDataset, make_dataset
from pase_msa.data.inputs import (
    InputSpec,
    choose_modalities,
    describe_inputs,
    encode_labels,
    infer_task,
    load_columns,
)
from pase_msa.data.table import FeatureTable
from pase_msa.data.text_fit import warn_of_texts
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.task import Task


@dataclass(frozen=True)
class ProblemOptions:
    """What the user decides about a problem; the same fields as in `RunConfig`.

    Attributes:
        label: label column; None is the only one, or "sentiment", "label", "emotion", "rating".
        kind: "auto" reads it off the label column; "classification" takes numbers as class names.
        num_classes: ordered classes of a regression; None follows from the range.
        modalities: those to use; None is all that the data hold.
        text: how transcripts become features.
        encoders: options by modality; the key "default" holds those of every modality without its own.
        context: whether what was said around an utterance in its "video", or "before" it there, is a modality.
        context_of: what context is made of; None is text, or the first modality where there is no text.
    """

    label: str | None = None
    kind: Literal["auto", "regression", "classification"] = "auto"
    num_classes: int | None = None
    modalities: Sequence[str] | None = None
    text: TextConfig = field(default_factory=TextConfig)
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    context: ContextMode = "none"
    context_of: Sequence[str] | None = None

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> Self:
        """The fields of this class among the options of a run; everything else is left aside."""
        own = {f.name: options[f.name] for f in dataclasses.fields(cls) if f.name in options}
        if isinstance(own.get("text"), Mapping):
            own["text"] = TextConfig(**own["text"])
        return cls(**own)


@dataclass(frozen=True)
class Problem:
    """What a model is trained on. The test split is not part of it, and its labels are never read.

    Attributes:
        table: the data.
        options: the user's choices.
        task: modalities, label and classes.
        inputs: by modality, in the task's order: size of its features and how they are encoded.
        train: the training utterances that have a label and at least one modality.
        valid: those of the validation split.
    """

    table: FeatureTable
    options: ProblemOptions
    task: Task
    inputs: dict[str, InputSpec]
    train: UtteranceDataset
    valid: UtteranceDataset

    @classmethod
    def from_table(cls, table: FeatureTable, options: ProblemOptions | None = None) -> Self:
        """Choose modalities and label, infer the task, and make the datasets.

        Args:
            table: data with a training and a validation split.
            options: the user's choices.

        Errors:
            PaSEError: splits that share a video, no validation split, an unknown label or modality, a modality that no
                training utterance has, or a split without a labelled utterance.
        """
        options = options or ProblemOptions()
        table.check_splits()
        task = task_from_table(table, options)
        if not len(table.rows("valid")):
            raise PaSEError(
                "The data have no validation split (split 'valid'), which selects the epoch and unmasks deceptive "
                "modalities; mark one, or say --split auto."
            )
        contexts = plan_context(table, options.context, options.context_of)
        inputs = describe_inputs(table, task.modalities, options.text, options.encoders, contexts)
        columns = load_columns(table, inputs)
        known = np.flatnonzero(np.isin(table.splits, ("train", "valid")))
        texts = table.texts
        for spec in inputs.values():
            if spec.text is not None and texts is not None:
                warn_of_texts([texts[row] for row in known], spec.text)
        labels = encode_labels(table, task, known)
        train = make_dataset(table, columns, table.rows("train"), labels)
        valid = make_dataset(table, columns, table.rows("valid"), labels)
        for name, dataset in (("training", train), ("validation", valid)):
            if not len(dataset):
                raise PaSEError(f"No {name} utterance has both a label {task.label!r} and a modality; check the data.")
        for name in task.modalities:
            if not columns[name].present[train.rows].any():
                if name in contexts:
                    raise PaSEError(
                        "No training utterance has another one in its video (the column 'video'), so there is no "
                        "context to learn from; leave the option context out."
                    )
                raise PaSEError(f"No training utterance has the modality {name!r}; leave it out of --modalities.")
        return cls(table, options, task, inputs, train, valid)

    @property
    def columns(self) -> dict[str, SequenceColumn]:
        """The features of all rows of the table, by modality."""
        return self.train.columns

    @property
    def fine_tunes(self) -> bool:
        """Whether a modality is token ids, because its language model is trained too."""
        return not all(spec.dim for spec in self.inputs.values())

    def frozen(self) -> Problem:
        """The same utterances with features throughout, for closed-form models, which cannot read token ids.

        A language model that would be fine-tuned is replaced by the states of its published weights. A problem without
        one is returned as it is.
        """
        if not self.fine_tunes:
            return self
        text = dataclasses.replace(self.options.text, frozen=True)
        contexts = {name: spec.context for name, spec in self.inputs.items() if spec.context is not None}
        inputs = describe_inputs(self.table, self.task.modalities, text, self.options.encoders, contexts)
        columns = load_columns(self.table, inputs)
        return dataclasses.replace(
            self,
            inputs=inputs,
            train=self.train.over(columns=columns),
            valid=self.valid.over(columns=columns),
        )


def task_from_table(table: FeatureTable, options: ProblemOptions) -> Task:
    """The task alone: what `Problem.from_table` would predict, without loading any feature.

    Errors:
        PaSEError: an unknown label or modality, or no labelled training utterance.
    """
    contexts = plan_context(table, options.context, options.context_of)
    modalities = choose_modalities(table, options.modalities, options.text, contexts)
    return infer_task(table, modalities, options.label, options.kind, options.num_classes)


def prediction_dataset(
    table: FeatureTable, task: Task, inputs: Mapping[str, InputSpec], split: str | None = None, *, labels: bool = False
) -> UtteranceDataset:
    """The rows of any table as the input of a trained model; `Model.dataset` calls this.

    Args:
        table: data; a modality that it lacks is absent from every row.
        task: of the model.
        inputs: of the model.
        split: only the rows of this split; all rows if None.
        labels: whether to read the rows' labels. Rows without a label or without any modality are then left out.

    Errors:
        PaSEError: no such split, other feature sizes than in training, or (with `labels`) no labelled row.
    """
    rows = np.arange(len(table), dtype=np.int64) if split is None else table.rows(split)
    if not len(rows):
        splits = ", ".join(sorted(set(table.splits.tolist()) - {""})) or "none"
        raise PaSEError(f"There is no split {split!r}; the data have {splits}; mark one, or name one of these.")
    if labels:
        dataset = make_dataset(table, load_columns(table, inputs), rows, encode_labels(table, task, rows))
        if not len(dataset):
            place = "The table" if split is None else f"The {split} split"
            raise PaSEError(
                f"{place} has no utterance with both a label {task.label!r} and a modality; label some, or name "
                "another split."
            )
        return dataset
    return make_dataset(table, load_columns(table, inputs), rows, None)
