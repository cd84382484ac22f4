"""Metrics of subgroups of the test split, such as speakers, with intervals, and the group that is predicted worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.opening import evaluated_part, open_data
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.moments import metrics_from_sums, utterance_moments
from pase_msa.evaluation.predictions import Predictions, read_utterances
from pase_msa.evaluation.statistics import cluster_draws
from pase_msa.metrics import Convention, headline
from pase_msa.models.saving import read_task
from pase_msa.task import Task
from pase_msa.training.run_folder import RunFolder

LEAST = 10
"""Utterances that a group has at least if it may be the worst: the metrics of fewer are mostly chance."""
UNKNOWN = "unknown"
_MOST_GROUPS = 200
_MOST_NUMBERS = 12  # of a column, each a group of its own
_QUANTILES = (0.025, 0.975)


def subgroup_metrics(
    run: str | Path, by: str, *, data: str | FeatureTable | None = None, draws: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Metrics of each subgroup of the test utterances of an evaluated run; the model is not run again.

    Intervals are bootstraps over the videos of a group, since the utterances of a video are not independent. A group of
    one video has none.

    Args:
        run: evaluated run folder.
        by: column of the data: "speaker", "video", or a label. A column of many numbers, such as an age, is divided at
            the quartiles of the test split.
        data: where the data are now, if they have moved; or the table.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        "by", "convention", "headline" (the metric that "worst" is about), "worst" (a group's name, or None where no
        group has `LEAST` utterances), and "groups": by name "utterances", "videos", and "metrics" with "value", "low"
        and "high" (95 %) each. Undefined numbers are None.

    Errors:
        PaSEError: the run is not evaluated, the data have no such column, or hold other utterances or labels, or the
            column has a value of its own for nearly every utterance.
    """
    folder = RunFolder.complete(run)
    task, evaluation = read_task(folder.model), folder.read_evaluation()
    predictions = read_utterances(folder.predictions, task)
    table = _table(folder, data)
    rows = _rows(table, predictions, task)
    values = _column(table, by)
    groups = _group_names([values[row] for row in rows])
    names = sorted(set(groups), key=lambda name: (name == UNKNOWN, name))
    if len(names) > _MOST_GROUPS:
        raise PaSEError(f"The column {by!r} has {len(names)} values in the test split; name one with groups.")
    members = np.array(groups)
    convention: Convention = evaluation["convention"]
    found = {name: measure_members(task, predictions, members == name, convention, draws, seed) for name in names}
    metric, mode = headline(task)
    able = {
        name: group["metrics"][metric]["value"]
        for name, group in found.items()
        if group["utterances"] >= LEAST and group["metrics"][metric]["value"] is not None and name != UNKNOWN
    }
    worst = None if not able else (max if mode == "min" else min)(able, key=lambda name: able[name])
    return {"by": by, "convention": convention, "headline": metric, "worst": worst, "groups": found}


def _table(folder: RunFolder, data: str | FeatureTable | None) -> FeatureTable:
    if isinstance(data, FeatureTable):
        return data
    config = folder.read_config()
    path = data if data is not None else folder.read_data()["path"]
    return open_data(path, config.get("split", "given"), config.get("label"), evaluated_part(config, "test"))


def _rows(table: FeatureTable, predictions: Predictions, task: Task) -> list[int]:
    """The rows of the table that were predicted, which may have got further columns since."""
    place = {name: row for row, name in enumerate(table.ids)}
    remedy = "name the data of the run with --data"
    if unknown := [name for name in predictions.ids if name not in place]:
        raise PaSEError(f"The data have no utterance {unknown[0]!r}, which the run was tested on; {remedy}.")
    rows = [place[name] for name in predictions.ids]
    if task.label not in table.schema.labels:
        raise PaSEError(f"The data have no label {task.label!r}, which the run was tested against; {remedy}.")
    known = table.labels(task.label)
    names = dict(enumerate(task.classes))
    for row, name, truth in zip(rows, predictions.ids, predictions.truth.tolist(), strict=True):
        same = known[row] == names[int(truth)] if task.values is None else np.isclose(known[row], truth, atol=1e-5)
        if not same:
            raise PaSEError(f"The label of {name!r} is not the one that the run was tested against; {remedy}.")
    return rows


def _column(table: FeatureTable, by: str) -> Sequence[Any]:
    if by == "speaker" and table.speakers is not None:
        return table.speakers
    if by == "video":
        return table.videos
    if by in table.schema.labels:
        return table.labels(by)
    known = ["video", *(["speaker"] if table.speakers is not None else []), *table.schema.labels]
    raise PaSEError(f"The data have no column {by!r} to divide utterances by; they have {', '.join(known)}.")


def _group_names(values: Sequence[Any]) -> list[str]:
    """The name of each utterance's group, [N]."""
    numbers = [value for value in values if isinstance(value, float) and value == value]
    several = sorted(set(numbers))
    if len(several) <= _MOST_NUMBERS:
        return [_named(value) for value in values]
    edges = np.quantile(numbers, (0.25, 0.5, 0.75))
    # a band is named by the smallest and the largest number in it
    bands = [np.array(several)[np.digitize(several, edges) == band] for band in range(len(edges) + 1)]
    names = [f"{band[0]:g} to {band[-1]:g}" if len(band) else "" for band in bands]
    return [
        names[int(np.digitize(value, edges))] if isinstance(value, float) and value == value else UNKNOWN
        for value in values
    ]


def _named(value: Any) -> str:
    """A cell as the name of a group."""
    if value is None or value == "" or value != value:  # NaN differs from itself
        return UNKNOWN
    return f"{value:g}" if isinstance(value, float) else str(value)


def measure_members(
    task: Task,
    predictions: Predictions,
    members: NDArray[np.bool_],
    convention: Convention,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Size and metrics of some utterances, with intervals by a bootstrap over their videos.

    Args:
        task: what was predicted.
        predictions: of N utterances.
        members: which of them to measure, [N]; one at least.
        convention: of the metrics.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        "utterances", "videos", and "metrics" as `subgroup_metrics` returns them for a group.
    """
    score = None if predictions.score is None else predictions.score[members]
    names, moments = utterance_moments(
        task, predictions.probabilities[members], score, predictions.truth[members], convention
    )
    videos = np.unique(np.array(predictions.videos)[members], return_inverse=True)[1]
    count = int(videos.max()) + 1
    sums = np.zeros((count, moments.shape[1]))
    np.add.at(sums, videos, moments)
    observed = metrics_from_sums(task, names, sums.sum(0, keepdims=True), convention)
    drawn = metrics_from_sums(task, names, cluster_draws(count, draws, seed).astype(np.float64) @ sums, convention)
    metrics = {}
    for name, value in observed.items():
        spread = drawn[name][np.isfinite(drawn[name])]
        low, high = np.quantile(spread, _QUANTILES).tolist() if count > 1 and len(spread) else (None, None)
        metrics[name] = {"value": float(value[0]) if np.isfinite(value[0]) else None, "low": low, "high": high}
    return {"utterances": int(members.sum()), "videos": count, "metrics": metrics}
