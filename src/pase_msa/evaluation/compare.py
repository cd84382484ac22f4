"""`compare`: whether two evaluated runs, or two groups of them, differ on the same test utterances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pase_msa.errors import PaSEError
from pase_msa.evaluation.moments import metrics_from_sums, per_utterance, utterance_moments
from pase_msa.evaluation.predictions import Predictions, joined, read_utterances
from pase_msa.evaluation.statistics import cluster_draws, cluster_swaps, cohens_d, holm, permutation_p
from pase_msa.metrics import Convention, resolve_convention
from pase_msa.task import Task
from pase_msa.training.run_folder import RunFolder

Array = NDArray[np.float64]
_SMALLER_IS_BETTER = ("mae",)
LEVEL = 0.05  #: of significance, after correction
#: the evaluations of a seed's runs, each with its folder: of one run, or of folds that share no test utterance
Folds = list[dict[str, Any]]


def compare(
    ours: Sequence[str | Path], baselines: Sequence[str | Path], *, draws: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """Compare runs A with runs B over their test utterances; nothing but their folders is read.

    The difference of a metric is A minus B, averaged over pairs of runs. Its interval is a bootstrap. Its p-value is a
    permutation test, in which the predictions of A and B change sides. Both draw whole videos, because the utterances
    of a video share speaker and topic and are not independent. p-values are corrected for the number of metrics (Holm
    1979). Runs of one seed that were tested on other utterances each are folds: their predictions are pooled.

    Args:
        ours: evaluated run folders A.
        baselines: as many of B. Several are paired by seed, folds are pooled.
        draws: of bootstrap and permutation; with few videos the permutation test is exact.
        seed: of the draws.

    Returns:
        "a", "b" (names), "pairs" (seeds), "utterances", "videos", "convention", "exact", and by metric "a", "b",
        "difference", "low", "high" (95 %), "d" (Cohen's, over utterances; None where the metric is no mean over
        utterances), "p", "p_holm", "verdict": "A better", "B better" or "no difference shown".

    Errors:
        PaSEError: a run is not evaluated; runs on other data, tasks, conventions or utterances; seeds that do not pair;
            two runs of one seed that share test utterances.
    """
    pairs = _paired([_evaluated(run) for run in ours], [_evaluated(run) for run in baselines])
    first = pairs[0][0]
    task = Task.from_dict(first[0]["task"])
    convention = resolve_convention(task, first[0]["convention"])
    utterances = _Aligned(task, first)
    names, sides = _moments(pairs, utterances, task, convention)
    videos = np.unique(utterances.videos, return_inverse=True)[1]
    metrics, exact = _metrics(names, sides, videos, task, convention, draws, seed)
    _add_verdicts(metrics)
    return {
        "a": [run["name"] for pair in pairs for run in pair[0]],
        "b": [run["name"] for pair in pairs for run in pair[1]],
        "pairs": [[pair[0][0]["seed"], pair[1][0]["seed"]] for pair in pairs],
        "utterances": len(videos),
        "videos": int(videos.max()) + 1,
        "convention": convention,
        "exact": exact,
        "metrics": metrics,
    }


def _moments(
    pairs: Sequence[tuple[Folds, Folds]], utterances: _Aligned, task: Task, convention: Convention
) -> tuple[list[str], tuple[list[Array], list[Array]]]:
    """Names of the M sums behind the metrics, and for each side the parts [N, M] of the utterances, one per seed."""
    sides: tuple[list[Array], list[Array]] = ([], [])
    names: list[str] = []
    for pair in pairs:
        for side, folds in zip(sides, pair, strict=True):
            predictions = utterances.predictions(folds)
            names, moments = utterance_moments(
                task, predictions.probabilities, predictions.score, predictions.truth, convention
            )
            side.append(moments)
    return names, sides


def _metrics(
    names: list[str],
    sides: tuple[list[Array], list[Array]],
    videos: NDArray[np.int64],
    task: Task,
    convention: Convention,
    draws: int,
    seed: int,
) -> tuple[dict[str, dict[str, Any]], bool]:
    """By metric: both values, difference, interval, effect size and p-value; and whether the p-values are exact."""
    count = int(videos.max()) + 1
    member = np.zeros((count, len(videos)))
    member[videos, np.arange(len(videos))] = 1
    sums = [np.stack([member @ moments for moments in side]) for side in sides]  # [pairs, videos, moments]

    def mean_metrics(parts: Array) -> dict[str, Array]:
        """The metrics of each sample, averaged over pairs, from the sums [pairs, samples, moments]."""
        by_pair = [metrics_from_sums(task, names, part, convention) for part in parts]
        return {name: np.mean([metrics[name] for metrics in by_pair], axis=0) for name in by_pair[0]}

    observed = [mean_metrics(side.sum(1, keepdims=True)) for side in sums]
    weights = cluster_draws(count, draws, seed).astype(np.float64)
    bootstrap = [mean_metrics(weights @ side) for side in sums]
    swaps, exact = cluster_swaps(count, draws, seed)
    swapped = [mean_metrics((1 - swaps) @ one + swaps @ other) for one, other in (sums, sums[::-1])]
    effects = _effects(names, sides, task)
    metrics: dict[str, dict[str, Any]] = {}
    for name in observed[0]:
        difference = float(observed[0][name][0] - observed[1][name][0])
        if not np.isfinite(difference):
            continue  # the test split has no utterance that the metric counts
        spread = bootstrap[0][name] - bootstrap[1][name]
        null = swapped[0][name] - swapped[1][name]
        low, high = np.quantile(spread[np.isfinite(spread)], [0.025, 0.975])
        metrics[name] = {
            "a": float(observed[0][name][0]),
            "b": float(observed[1][name][0]),
            "difference": difference,
            "low": float(low),
            "high": float(high),
            "d": effects.get(name),
            "p": permutation_p(difference, null[np.isfinite(null)], exact),
        }
    return metrics, exact


def _add_verdicts(metrics: dict[str, dict[str, Any]]) -> None:
    """Add the corrected p-values, and the verdicts that follow."""
    corrected = holm({name: entry["p"] for name, entry in metrics.items()})
    for name, entry in metrics.items():
        better = (entry["difference"] < 0) == (name in _SMALLER_IS_BETTER)
        significant = corrected[name] < LEVEL
        entry["p_holm"] = corrected[name]
        entry["verdict"] = ("A better" if better else "B better") if significant else "no difference shown"


def _evaluated(run: str | Path) -> dict[str, Any]:
    """The evaluation of a run, with its folder."""
    folder = RunFolder.complete(run)
    return {**folder.read_evaluation(), "folder": folder}


def _paired(ours: list[dict[str, Any]], baselines: list[dict[str, Any]]) -> list[tuple[Folds, Folds]]:
    """Pairs of runs or of their folds: one with one, or several by seed."""
    if len(ours) != len(baselines) or not ours:
        raise PaSEError(
            f"A comparison wants as many runs on one side as on the other, found {len(ours)} and {len(baselines)}."
        )
    if len(ours) == 1:
        return [(ours, baselines)]
    one, other = (
        {run["seed"]: [r for r in side if r["seed"] == run["seed"]] for run in side} for side in (ours, baselines)
    )
    if unpaired := sorted(one.keys() ^ other.keys()):
        raise PaSEError(
            f"Several runs are paired by seed, and only one side has seed {unpaired[0]}; train the other one too."
        )
    return [(one[seed], other[seed]) for seed in sorted(one)]


class _Aligned:
    """Predictions in the order of the first run's utterances, or a sentence on why they cannot be compared."""

    def __init__(self, task: Task, first: Folds) -> None:
        self.task, self.first = task, first[0]
        predictions = self._read(first)
        self.ids, self.videos, self.truth = predictions.ids, np.array(predictions.videos), predictions.truth

    def predictions(self, folds: Folds) -> Predictions:
        """The predictions of a run or its folds, which must be on the same test utterances."""
        mine, other = self.first["folder"].path, folds[0]["folder"].path
        predictions = self._read(folds)
        place = {name: i for i, name in enumerate(predictions.ids)}
        if set(place) != set(self.ids):
            unshared = sorted(set(place) ^ set(self.ids))[0]
            raise PaSEError(
                f"{mine} and {other} were tested on different utterances ({unshared!r} is in one of them only); "
                "compare runs on the same data."
            )
        order = np.array([place[name] for name in self.ids])
        if not np.array_equal(predictions.truth[order], self.truth):
            raise PaSEError(f"{mine} and {other} were tested against different labels; compare runs on the same data.")
        return Predictions(
            self.ids,
            self.videos.tolist(),
            self.truth,
            None if predictions.score is None else predictions.score[order],
            predictions.probabilities[order],
        )

    def _read(self, folds: Folds) -> Predictions:
        """What the folds predict together."""
        parts = [read_utterances(run["folder"].predictions, self._same_task(run)) for run in folds]
        owner: dict[str, str] = {}
        for run, part in zip(folds, parts, strict=True):
            path = str(run["folder"].path)
            if both := [name for name in part.ids if owner.setdefault(name, path) != path]:
                raise PaSEError(
                    f"{owner[both[0]]} and {path} have the same seed {run['seed']} and were both tested on utterance "
                    f"{both[0]!r}; give one run per seed, or folds that share no test utterance."
                )
        return joined(parts)

    def _same_task(self, run: dict[str, Any]) -> Task:
        """The task of a run, in whose classes its predictions are."""
        mine, other = self.first["folder"].path, run["folder"].path
        task = Task.from_dict(run["task"])
        # the modalities may differ: whether text alone is as good as all of them is a fair question
        if (task.label, task.classes, task.values) != (self.task.label, self.task.classes, self.task.values):
            raise PaSEError(
                f"{mine} and {other} predict different things ({self.task.label}, {task.label}); compare runs of one "
                "label."
            )
        conventions = [resolve_convention(task, each["convention"]) for each in (self.first, run)]
        if len(set(conventions)) > 1:
            raise PaSEError(
                f"{mine} is measured in the convention {conventions[0]!r} and {other} in {conventions[1]!r}; compare "
                "runs of one convention."
            )
        return task


def _effects(names: list[str], sides: tuple[list[Array], list[Array]], task: Task) -> dict[str, float]:
    """Cohen's d of the differences over utterances, averaged over pairs of runs first."""
    parts = [[per_utterance(names, moments, task) for moments in side] for side in sides]
    effects = {}
    for name in parts[0][0]:
        one, other = (np.mean([values[name] for values in side], axis=0) for side in parts)
        differences = (one - other)[np.isfinite(one - other)]
        if len(differences) > 1:
            d = cohens_d(differences)
            if np.isfinite(d):
                effects[name] = d
    return effects
