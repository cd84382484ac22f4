"""`compare`: do two evaluated runs, or two groups of them, differ on the same test utterances?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pase_msa.errors import PaSEError
from pase_msa.evaluation.moments import metrics_from_sums, per_utterance, utterance_moments
from pase_msa.evaluation.predictions import Predictions, read_utterances
from pase_msa.evaluation.statistics import cluster_draws, cluster_swaps, cohens_d, holm, permutation_p
from pase_msa.files import read_json
from pase_msa.task import Task
from pase_msa.training.run_folder import RunFolder

_SMALLER_IS_BETTER = ("mae",)
LEVEL = 0.05  #: of significance, after correction


def compare(
    ours: Sequence[str | Path], rivals: Sequence[str | Path], *, draws: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """Compare runs A with runs B over their test utterances; nothing but their folders is read.

    A metric's difference is the mean over pairs of runs of A's less B's. Its interval is a bootstrap, and its p-value a
    permutation test (A's and B's predictions change sides), both over whole videos: utterances of one video share
    speaker and topic. p-values are corrected for the number of metrics (Holm 1979).

    Args:
        ours: evaluated run folders A.
        rivals: as many of B. Several are paired by seed.
        draws: of bootstrap and permutation; with few videos the permutation test is exact.
        seed: of the draws.

    Returns:
        "a", "b" (names), "pairs" (seeds), "utterances", "videos", "convention", "exact", and by metric "a", "b",
        "difference", "low", "high" (95 %), "d" (Cohen's, over utterances; None where the metric is no mean over
        utterances), "p", "p_holm", "verdict": "A better", "B better" or "no difference shown".

    Errors:
        PaSEError: a run is not evaluated; runs on other data, tasks, conventions or utterances; seeds that do not pair.
    """
    pairs = _paired([_evaluated(run) for run in ours], [_evaluated(run) for run in rivals])
    first = pairs[0][0]
    task, convention = Task.from_dict(first["task"]), first["convention"]
    known = _Aligned(task, first)
    sides: list[list[NDArray[np.float64]]] = [[], []]
    names: list[str] = []
    for pair in pairs:
        for side, run in zip(sides, pair, strict=True):
            said = known.predictions(run)
            names, moments = utterance_moments(task, said.probabilities, said.score, said.truth, convention)
            side.append(moments)
    clusters = np.unique(known.videos, return_inverse=True)[1]
    count = int(clusters.max()) + 1
    member = np.zeros((count, len(clusters)))
    member[clusters, np.arange(len(clusters))] = 1
    sums = [np.stack([member @ moments for moments in side]) for side in sides]  # [pairs, videos, moments]

    def measured(parts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        found = [metrics_from_sums(task, names, part, convention) for part in parts]
        return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}

    whole = [measured(side.sum(1, keepdims=True)) for side in sums]
    weights = cluster_draws(count, draws, seed).astype(np.float64)
    drawn = [measured(weights @ side) for side in sums]
    swaps, exact = cluster_swaps(count, draws, seed)
    swapped = [measured((1 - swaps) @ one + swaps @ other) for one, other in (sums, sums[::-1])]
    effects = _effects(names, sides, task)
    found: dict[str, dict[str, Any]] = {}
    for name in whole[0]:
        gap = float(whole[0][name][0] - whole[1][name][0])
        if not np.isfinite(gap):
            continue  # no utterance that it could be measured on
        spread = drawn[0][name] - drawn[1][name]
        null = swapped[0][name] - swapped[1][name]
        low, high = np.quantile(spread[np.isfinite(spread)], [0.025, 0.975])
        found[name] = {
            "a": float(whole[0][name][0]),
            "b": float(whole[1][name][0]),
            "difference": gap,
            "low": float(low),
            "high": float(high),
            "d": effects.get(name),
            "p": permutation_p(gap, null[np.isfinite(null)], exact),
        }
    corrected = holm({name: entry["p"] for name, entry in found.items()})
    for name, entry in found.items():
        better = (entry["difference"] < 0) == (name in _SMALLER_IS_BETTER)
        shown = corrected[name] < LEVEL
        entry["p_holm"] = corrected[name]
        entry["verdict"] = ("A better" if better else "B better") if shown else "no difference shown"
    return {
        "a": [pair[0]["name"] for pair in pairs],
        "b": [pair[1]["name"] for pair in pairs],
        "pairs": [[pair[0]["seed"], pair[1]["seed"]] for pair in pairs],
        "utterances": len(clusters),
        "videos": count,
        "convention": convention,
        "exact": exact,
        "metrics": found,
    }


def _evaluated(run: str | Path) -> dict[str, Any]:
    folder = RunFolder.complete(run)
    if not folder.evaluation.is_file():
        raise PaSEError(f"{folder.path} is not evaluated yet; give `pase evaluate {folder.path}` first.")
    return {**read_json(folder.evaluation), "folder": folder}


def _paired(ours: list[dict[str, Any]], rivals: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """One with one, or several by seed."""
    if len(ours) != len(rivals) or not ours:
        raise PaSEError(
            f"A comparison pairs as many runs as it finds on the other side, found {len(ours)} and {len(rivals)}."
        )
    if len(ours) == 1:
        return [(ours[0], rivals[0])]
    by_seed = [{run["seed"]: run for run in side} for side in (ours, rivals)]
    if any(len(named) < len(side) for named, side in zip(by_seed, (ours, rivals), strict=True)):
        raise PaSEError("Two runs on one side have the same seed; several runs are paired by seed, so give one a seed.")
    if alone := sorted(by_seed[0].keys() ^ by_seed[1].keys()):
        raise PaSEError(
            f"Several runs are paired by seed, and only one side has seed {alone[0]}; train the other one too."
        )
    return [(by_seed[0][seed], by_seed[1][seed]) for seed in sorted(by_seed[0])]


class _Aligned:
    """Predictions in the order of the first run's utterances, or a sentence on why they cannot be compared."""

    def __init__(self, task: Task, first: dict[str, Any]) -> None:
        self.task, self.first = task, first
        said = read_utterances(first["folder"].predictions, task)
        self.ids, self.videos, self.truth = said.ids, np.array(said.videos), said.truth

    def predictions(self, run: dict[str, Any]) -> Predictions:
        """Of a run that must be on the same test utterances."""
        mine, other = self.first["folder"].path, run["folder"].path
        task = Task.from_dict(run["task"])
        # the modalities may differ: text alone against all of them is a fair question
        if (task.label, task.classes, task.values) != (self.task.label, self.task.classes, self.task.values):
            raise PaSEError(
                f"{mine} and {other} predict different things ({self.task.label}, {task.label}); compare runs of one "
                "label."
            )
        if run["convention"] != self.first["convention"]:
            raise PaSEError(
                f"{mine} is measured in the convention {self.first['convention']!r} and {other} in {run['convention']!r}; "
                "compare runs of one convention."
            )
        said = read_utterances(run["folder"].predictions, task)
        place = {name: i for i, name in enumerate(said.ids)}
        if set(place) != set(self.ids):
            alone = sorted(set(place) ^ set(self.ids))[0]
            raise PaSEError(
                f"{mine} and {other} were tested on different utterances ({alone!r} is in one of them only); compare "
                "runs on the same data."
            )
        order = np.array([place[name] for name in self.ids])
        if not np.array_equal(said.truth[order], self.truth):
            raise PaSEError(f"{mine} and {other} were tested against different labels; compare runs on the same data.")
        return Predictions(
            self.ids,
            self.videos.tolist(),
            self.truth,
            None if said.score is None else said.score[order],
            said.probabilities[order],
        )


def _effects(names: list[str], sides: list[list[NDArray[np.float64]]], task: Task) -> dict[str, float]:
    """Cohen's d over utterances, of the mean over pairs."""
    parts = [[per_utterance(names, moments, task) for moments in side] for side in sides]
    found = {}
    for name in parts[0][0]:
        gap = np.mean([one[name] for one in parts[0]], axis=0) - np.mean([one[name] for one in parts[1]], axis=0)
        gap = gap[np.isfinite(gap)]
        if len(gap) > 1:
            d = cohens_d(gap)
            if np.isfinite(d):
                found[name] = d
    return found
