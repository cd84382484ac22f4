"""Predictions from the likelihoods of all answers, in place of a written one: no refusals, and calibrated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from pase_msa.calibration import confidence, correct, expected_calibration_error, fit_temperature
from pase_msa.data.inputs import encode_labels
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.language_models.kept import kept
from pase_msa.language_models.local import Local
from pase_msa.language_models.prompts import messages
from pase_msa.task import Task


def answers_of(task: Task) -> list[str]:
    """The K answers that are graded: the class values of a score, or the names of the classes."""
    return list(task.classes) if task.values is None else [f"{value:g}" for value in task.values]


def predict_by_choice(
    table: FeatureTable,
    rows: Sequence[int],
    calibration_rows: Sequence[int],
    chat: Local,
    task: Task,
    examples: Sequence[tuple[str, str]],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Grade the answers for each utterance.

    A score is the expectation of the class values; a class is the likeliest. The temperature that PaSE fits for its own
    confidence is fitted to the likelihoods of the calibration utterances.

    Args:
        table: with transcripts.
        rows: utterances to predict.
        calibration_rows: further labelled utterances.
        chat: the language model.
        task: what is predicted.
        examples: texts with their answers.
        progress: called with the number of utterances that are done, and of all.

    Returns:
        One row per utterance, as `predict_split` has them, with "confidence" and a column "probability/ANSWER" each.
        And "temperature", "ece" and "ece_uncalibrated" of the utterances, with "count" of those that it was fitted on.
    """
    if not rows:
        raise PaSEError("There is no utterance to predict.")
    answers, total = answers_of(task), len(rows) + len(calibration_rows)
    graded: list[list[float]] = []
    known: list[tuple[bool, float]] = []
    for row in (*calibration_rows, *rows):
        text = ((table.texts or [])[row] or "").strip()
        conversation = messages(task, text, examples)

        def grade(conversation: list[dict[str, Any]] = conversation) -> Any:
            began = time.perf_counter()
            return [*chat.log_likelihoods(conversation, answers), time.perf_counter() - began]

        values, cached = kept([chat.where, chat.name, chat.options, conversation, answers], grade)
        graded.append([float(value) for value in values[:-1]])
        known.append((cached, float(values[-1])))
        if progress is not None:
            progress(len(graded), total)
    labels = torch.from_numpy(encode_labels(table, task, [*calibration_rows, *rows]))
    count = len(calibration_rows)
    logits = torch.tensor(graded, dtype=torch.float32)
    temperature = fit_temperature(task, logits[:count], labels[list(calibration_rows)].float()) if count else 1.0
    tested, truth = logits[count:], labels[list(rows)].float()
    sure, right = confidence(task, tested, temperature), correct(task, tested, truth)
    calibration = {
        "count": count,
        "temperature": temperature,
        "ece": expected_calibration_error(sure, right),
        "ece_uncalibrated": expected_calibration_error(confidence(task, tested), right),
    }
    probabilities = tested.softmax(1)
    predicted = task.score(probabilities) if task.values is not None else probabilities.argmax(1).float()
    frame = pd.DataFrame(
        {
            "id": [table.ids[row] for row in rows],
            "label": [_label(task, value) for value in truth.tolist()],
            "status": "answered",
            "value": [_label(task, value) for value in predicted.tolist()],
            "prediction": [_label(task, value) for value in predicted.tolist()],
            "answer": [answers[k] for k in probabilities.argmax(1).tolist()],
            "finish": "stop",
            "tokens_in": None,
            "tokens_out": None,
            "seconds": [seconds for _, seconds in known[count:]],
            "cached": [cached for cached, _ in known[count:]],
            "confidence": np.asarray(sure).round(6),
            **{f"probability/{name}": probabilities[:, k].numpy() for k, name in enumerate(answers)},
        }
    )
    return frame, calibration


def _label(task: Task, value: float) -> float | str:
    return float(value) if task.values is not None else task.classes[int(value)]
