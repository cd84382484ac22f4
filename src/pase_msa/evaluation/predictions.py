"""The predictions of each test utterance, kept in the run folder so that runs can be compared without their data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pase_msa.data.guard import reading
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.inference import Inference
from pase_msa.files import read_text, replacing
from pase_msa.task import Task


@dataclass(frozen=True)
class Predictions:
    """Predictions of N utterances over K classes.

    Attributes:
        ids: of the utterances.
        videos: those that the utterances were cut from; an utterance of unknown video counts as a video.
        truth: labels or class numbers, [N].
        score: [N]; None for classes.
        probabilities: [N, K].
    """

    ids: list[str]
    videos: list[str]
    truth: NDArray[np.float64]
    score: NDArray[np.float64] | None
    probabilities: NDArray[np.float64]


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several folds, one after the other."""
    scores = [part.score for part in parts if part.score is not None]
    return Predictions(
        [name for part in parts for name in part.ids],
        [name for part in parts for name in part.videos],
        np.concatenate([part.truth for part in parts]),
        np.concatenate(scores) if scores else None,
        np.concatenate([part.probabilities for part in parts]),
    )


def write_utterances(
    path: Path, task: Task, table: FeatureTable, rows: NDArray[np.int64], labels: Tensor, inference: Inference
) -> None:
    """Write `predictions.csv`, one row per utterance.

    The columns: id, video, truth, score or label, confidence, base, and one per contribution and per probability.

    Args:
        path: the file, written whole or not at all.
        task: what was predicted.
        table: the data.
        rows: places of the utterances in the table, [N].
        labels: true scores or class numbers, [N].
        inference: the predictions.
    """
    named = [task.classes[int(k)] for k in inference.predicted.tolist()]
    content = pd.DataFrame(
        {
            "id": [table.ids[row] for row in rows],
            "video": [table.videos[row] for row in rows],
            "truth": labels.numpy() if inference.score is not None else [task.classes[int(k)] for k in labels.tolist()],
            **({"label": named} if inference.score is None else {"score": inference.score.numpy()}),
            "confidence": inference.confidence.numpy(),
            "base": inference.base.numpy(),
            **{f"contribution/{name}": values.numpy() for name, values in inference.contributions.items()},
            **{f"probability/{name}": inference.probabilities[:, k].numpy() for k, name in enumerate(task.classes)},
        }
    )
    with replacing(path) as partial:
        content.to_csv(partial, index=False)  # as many digits as single precision has


def read_utterances(path: Path, task: Task) -> Predictions:
    """Read the file that `write_utterances` wrote.

    Errors:
        PaSEError: there is no such file, or it lacks a column.
    """
    if not path.is_file():
        raise PaSEError(
            f"There is no {path}, because the run was evaluated before predictions were kept; remove its "
            "evaluation.json and evaluate it again."
        )
    with reading(path, "the predictions of a run", "remove its evaluation.json and evaluate it again"):
        return _read(path, task)


def _read(path: Path, task: Task) -> Predictions:
    scored = task.kind == "regression"
    kinds = {"id": str, "video": str, **({} if scored else {"truth": str})}
    table = pd.read_csv(io.StringIO(read_text(path)), dtype=kinds, keep_default_na=False)
    wanted = ["id", "video", "truth", *(["score"] if scored else []), *(f"probability/{k}" for k in task.classes)]
    if missing := [name for name in wanted if name not in table.columns]:
        raise PaSEError(f"{path} has no column {missing[0]!r}; the run folder is damaged.")
    truth = table["truth"] if scored else table["truth"].map({k: i for i, k in enumerate(task.classes)})
    return Predictions(
        list(table["id"]),
        [video or f"utterance {row}" for video, row in zip(table["video"], table["id"], strict=True)],
        truth.to_numpy(np.float64, copy=True),
        table["score"].to_numpy(np.float64, copy=True) if scored else None,
        table[[f"probability/{k}" for k in task.classes]].to_numpy(np.float64, copy=True),
    )
