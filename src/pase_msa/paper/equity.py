"""Two indices of balance: how evenly modalities contribute to what a model predicts, and how evenly they learn.

MissBench (Pham et al. 2026) has a Modality Equity Index, of contributions over what may be missing, and a Modality
Learning Index, of gradient norms in training. We did not have its formulas. These are ours, with the same purpose, and
their values are not to be compared with the published ones.

An index is no aim in itself: a modality that tells nothing should not contribute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.report.numbers import finite
from pase_msa.shapley import shapley_values

#: names of the two indices, as metrics
EQUITY, IMBALANCE = "equity_of_contributions", "imbalance_of_gradients"


def contributions(
    given: Mapping[frozenset[str], float], constant: float, modalities: Sequence[str]
) -> dict[str, float]:
    """Shapley values of a metric over what a model is given; they add up to the metric minus that of a constant.

    Args:
        given: the metric, larger is better, by the modalities that the model is given: for every set but the empty one.
        constant: the metric of the best constant prediction, which is what is known without any modality.
        modalities: names.
    """
    return dict(shapley_values(lambda coalition: given[coalition] - constant, modalities))


def equity(values: Iterable[float]) -> float:
    """How evenly contributions are spread, in [0, 1]: the entropy of their shares over its largest value.

    1 where all modalities contribute alike, 0 where one contributes everything. One that does harm counts as 0.

    Args:
        values: contributions, in any unit.

    Returns:
        NaN where none is positive, or there is one modality only.
    """
    kept = [max(float(value), 0.0) for value in values]
    total = sum(kept)
    if len(kept) < 2 or not total > 0:
        return math.nan
    return sum(part / total * math.log(total / part) for part in kept if part > 0) / math.log(len(kept))


def imbalance(norms: Iterable[float]) -> float:
    """How far norms of gradients are apart, in [0, 1]: their deviation over their mean, over its largest value.

    0 where all are the same, 1 where all but one are zero.

    Returns:
        NaN where all are zero, or there is one only.
    """
    listed = [float(value) for value in norms]
    mean = sum(listed) / max(len(listed), 1)
    if len(listed) < 2 or not mean > 0:
        return math.nan
    deviation = math.sqrt(sum((value - mean) ** 2 for value in listed) / len(listed))
    return deviation / mean / math.sqrt(len(listed) - 1)


def gradient_imbalance(history: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> float:
    """The mean of `imbalance` over the epochs of a training log.

    The norm of a modality is that of the gradient of its parameters, times its learning-rate factor where a balancing
    method has one (eq. 21).

    Args:
        history: rows of the log, with "gradient/NAME".
        modalities: names.

    Returns:
        NaN where the log has no norms, as in runs of an earlier version.
    """
    epochs = []
    for row in history:
        norms = [finite(row.get(f"gradient/{name}")) for name in modalities]
        factors = [finite(row.get(f"phi/{name}", 1.0)) for name in modalities]
        if None not in norms and None not in factors:
            epochs.append(imbalance(norm * factor for norm, factor in zip(norms, factors, strict=True)))  # type: ignore[operator]
    known = [value for value in epochs if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def best_constant(run: LoadedRun, metric: str) -> float:
    """The metric, larger is better, of whichever class is best predicted for every utterance of the split."""
    count = run.task.num_classes
    every = (torch.eye(count) - 1) * 100.0  # logits of one class with certainty
    return max(run.metrics(row.expand(len(run.dataset), count))[metric] for row in every)


def measure(run: LoadedRun, without: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Contributions and both indices of a run.

    Args:
        run: on one split.
        without: of the same run, from `table4.measure`.
        metric: an accuracy.

    Returns:
        Columns method, seed, split, imputation, modality (empty for an index), metric (that of the contributions, or
        `EQUITY` or `IMBALANCE`), value.
    """
    names, constant, rows = run.task.modalities, best_constant(run, metric), []
    learned = gradient_imbalance(run.folder.history(), names)
    for setting, part in without[without["metric"] == metric].groupby("imputation", sort=False):
        given = {frozenset(str(m).split("+")): v for m, v in zip(part["modalities"], part["value"], strict=True)}
        by_name = contributions(given, constant, names)
        measured = [(name, metric, value) for name, value in by_name.items()]
        measured += [("", EQUITY, equity(by_name.values())), ("", IMBALANCE, learned)]
        rows += [
            {**run.stamp, "imputation": setting, "modality": name, "metric": key, "value": value}
            for name, key, value in measured
        ]
    return pd.DataFrame(rows)
