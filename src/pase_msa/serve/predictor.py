"""Prediction from a saved model and a feature table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.opening import open_table
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.inference import Inference, infer
from pase_msa.models.base import Model
from pase_msa.ranges import nearest


@dataclass
class Prediction:
    """The prediction for one utterance.

    Attributes:
        id: the utterance's.
        score: predicted score (regression), else None.
        label: predicted class (classification), else None.
        confidence: calibrated probability that the class, or the sign of the score, is right.
        contributions: Shapley value by modality, in the score's unit (or in probability of the predicted class).
        probabilities: by class name.
    """

    id: str
    score: float | None
    label: str | None
    confidence: float
    contributions: dict[str, float]
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON, with either the score or the label."""
        value = {"score": self.score} if self.label is None else {"label": self.label}
        return {
            "id": self.id,
            **value,
            "confidence": self.confidence,
            "contributions": self.contributions,
            "probabilities": self.probabilities,
        }


def chosen_modalities(known: Sequence[str], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The modalities to use, in the order of `known`: those that are wanted, or all if None.

    Errors:
        PaSEError: none is wanted, or one that is not known.
    """
    if wanted is None:
        return tuple(known)
    if unknown := [name for name in wanted if name not in known]:
        raise PaSEError(
            f"The model reads {', '.join(known)}, not {unknown[0]!r}; "
            f"{nearest(unknown[0], known, 'name some of these with --modalities.')}"
        )
    if not wanted:
        raise PaSEError(f"Nothing is left to predict from; name one or more of {', '.join(known)} with --modalities.")
    return tuple(name for name in known if name in wanted)


class Predictor:
    """A saved model that predicts feature tables.

    Args:
        source: a run folder or a folder that `save_pretrained` wrote.
        device: torch device.
        modalities: to use; the others are absent to the model, whatever the data hold. All if None.

    Attributes:
        model: the model.
        modalities: that are used, in the task's order.

    Errors:
        PaSEError: there is no model, one of another version, or one that does not read the modalities.
    """

    def __init__(self, source: str | Path, device: str = "cpu", modalities: Sequence[str] | None = None) -> None:
        root = Path(source)
        self.model = Model.from_pretrained(root / "model" if (root / "model").is_dir() else root, device=device)
        self.modalities = chosen_modalities(self.model.task.modalities, modalities)

    @property
    def extraction(self) -> dict[str, Any] | None:
        """The record of how the training features were extracted (`pase_msa.media.record`); None without one."""
        return self.model.extraction

    def predict(
        self, data: FeatureTable | str | Path, *, split: str | None = None, empty: bool = False, last: int | None = None
    ) -> Iterator[Prediction]:
        """Predictions in the order of the rows. Labels are not read.

        Args:
            data: a table, or its path.
            split: predict only this split; all rows if None.
            empty: accept data with none of the model's modalities, and give the prediction without any modality.
            last: predict only so many rows at the end; those before them are their context.

        Errors:
            PaSEError: no such split, feature sizes other than in training, features that were extracted otherwise than
                in training, or none of the model's modalities.
        """
        table = data if isinstance(data, FeatureTable) else open_table(data)
        dataset = self.model.dataset(table, split)
        for name in set(dataset.columns) - set(self.modalities):
            column = dataset.columns[name]
            nothing = np.int64 if column.dim == 0 else np.float32  # token ids are whole numbers
            dataset.columns[name] = SequenceColumn.from_arrays([None] * len(column.present), column.dim, nothing)
        if not empty and not any(column.present.any() for column in dataset.columns.values()):
            raise PaSEError(
                f"The model reads {', '.join(self.modalities)}, and the data hold none of these (they hold "
                f"{', '.join([*table.modalities, *(['text'] if table.schema.text else [])]) or 'none'})."
            )
        if last is not None and not dataset.whole_videos:
            dataset = dataset.over(dataset.rows[-last:])
        predictions = self._rows(table, dataset.rows, infer(self.model, dataset))
        return predictions if last is None else islice(predictions, len(dataset) - last, None)

    def _rows(self, table: FeatureTable, rows: Any, inference: Inference) -> Iterator[Prediction]:
        task = self.model.task
        contributions = torch.stack(list(inference.contributions.values()), dim=1).tolist()
        for i, row in enumerate(rows.tolist()):
            yield Prediction(
                table.ids[row],
                None if inference.score is None else float(inference.score[i]),
                None if inference.score is not None else task.classes[int(inference.predicted[i])],
                float(inference.confidence[i]),
                dict(zip(task.modalities, contributions[i], strict=True)),
                dict(zip(task.classes, inference.probabilities[i].tolist(), strict=True)),
            )


def write_predictions(predictions: Iterable[Prediction], stream: TextIO, *, as_json: bool = False) -> int:
    """Write CSV, or one JSON object per line; returns the number of predictions."""
    count = 0
    writer: Any = None
    for prediction in predictions:
        count += 1
        if as_json:
            stream.write(json.dumps(prediction.to_dict()) + "\n")
            continue
        row = {
            "id": prediction.id,
            **({"score": prediction.score} if prediction.label is None else {"label": prediction.label}),
            "confidence": prediction.confidence,
            **{f"contribution_{name}": value for name, value in prediction.contributions.items()},
        }
        if writer is None:
            writer = csv.DictWriter(stream, list(row))
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return count
