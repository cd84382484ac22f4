"""Single predictions of a test split: truth against prediction, confusion of classes, and the largest errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pase_msa.evaluation.predictions import Predictions
from pase_msa.report import charts
from pase_msa.report.page import Picture, picture
from pase_msa.task import Task

_MOST_CLASSES = 16  # more would not be readable
_ERRORS = 8


@dataclass(frozen=True)
class LargestErrors:
    """The utterances with the largest errors, by id and number, without transcripts.

    Attributes:
        columns: headings, of the id first.
        rows: cells as they are printed, the largest error first.
        note: how errors are ranked.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def prediction_pictures(task: Task, predictions: Predictions) -> list[Picture]:
    """Scores: predicted against true ones. Classes: the confusion matrix; no picture of more than 16 classes."""
    if predictions.score is not None:
        gap = np.abs(predictions.score - predictions.truth)
        alt = f"{len(gap)} utterances; median of the errors {np.median(gap):.3f}, largest {gap.max():.3f}"
        draw = partial(charts.scatter, predictions.truth, predictions.score)
        return [picture("Predicted against true scores, one dot per utterance", alt, draw)]
    if task.num_classes > _MOST_CLASSES:
        return []
    counts = np.zeros((task.num_classes, task.num_classes), np.int64)
    np.add.at(counts, (predictions.truth.astype(np.int64), predictions.probabilities.argmax(1)), 1)
    alt = "; ".join(
        f"{name}: {counts[k, k]} of {counts[k].sum()} predicted as such" for k, name in enumerate(task.classes)
    )
    draw = partial(charts.confusion_matrix, counts, task.classes)
    return [picture("Utterances by true and predicted class, shaded by the share of the row", alt, draw)]


def largest_errors(task: Task, predictions: Predictions, most: int = _ERRORS) -> LargestErrors:
    """The utterances with the largest errors.

    Scores are ranked by their absolute error. Classes are ranked by the probability of the true class, smallest first;
    utterances whose class is predicted correctly are left out.

    Args:
        task: what is predicted.
        predictions: of N utterances.
        most: number of rows.
    """
    if predictions.score is not None:
        gap = predictions.score - predictions.truth
        order = np.argsort(-np.abs(gap), kind="stable")[:most]
        numbers: Mapping[str, NDArray[np.float64]] = {"True": predictions.truth, "Predicted": predictions.score}
        rows = [
            [predictions.ids[k], *(f"{values[k]:.2f}" for values in numbers.values()), f"{gap[k]:+.2f}"] for k in order
        ]
        return LargestErrors(["Utterance", *numbers, "Error"], rows, "Ranked by the absolute error.")
    truth, predicted = predictions.truth.astype(np.int64), predictions.probabilities.argmax(1)
    of_truth = predictions.probabilities[np.arange(len(truth)), truth]
    wrong = np.flatnonzero(predicted != truth)
    order = wrong[np.argsort(of_truth[wrong], kind="stable")][:most]
    rows = [
        [predictions.ids[k], task.classes[truth[k]], task.classes[predicted[k]], f"{100 * of_truth[k]:.1f}"]
        for k in order
    ]
    columns = ["Utterance", "True", "Predicted", "Probability of the true class (%)"]
    return LargestErrors(columns, rows, "Ranked by the probability of the true class, smallest first.")
