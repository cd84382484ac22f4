"""Metrics from sums over utterances, so that thousands of bootstrap samples cost one matrix product.

Every metric of `pase_msa.metrics` is a function of sums over utterances: hits, absolute errors, confusion counts, first
and second moments. The sums of a bootstrap sample of videos are weighted sums of those of its videos. The definitions
are those of `pase_msa.metrics`; a test compares both.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pase_msa.metrics import Convention, class_hits, in_range, polarity, resolve_convention
from pase_msa.task import Task

Array = NDArray[np.float64]
_CLASSES = ("acc7", "acc5", "acc3")
_CONFUSION = ("tp", "fp", "fn", "tn")


def utterance_moments(
    task: Task,
    probabilities: Float[Array, "n k"],
    score: Float[Array, " n"] | None,
    labels: Array,
    convention: Convention,
) -> tuple[list[str], Float[Array, "n m"]]:
    """The part of each of N utterances in the sums: names of the M sums, and an array [N, M]."""
    if task.values is None:
        truth, guess = labels.astype(int), probabilities.argmax(1)
        classes = np.eye(task.num_classes)
        cells = classes[truth][:, :, None] * classes[guess][:, None, :]
        names = [f"{i},{j}" for i in range(task.num_classes) for j in range(task.num_classes)]
        return names, cells.reshape(len(truth), -1)
    assert score is not None
    # single precision, as in `metrics`: a label at a centre that binary fractions cannot express stays there
    center = np.float32(task.center)
    convention = resolve_convention(task, convention)
    predicted, truth = in_range(task, score.astype(np.float32), labels.astype(np.float32), convention)
    x, y = predicted - center, truth - center
    polar = y != 0
    scale = np.float32(3 / (task.values[-1] - task.center))
    nonneg = polarity(x, y, convention)
    counted = (polar if convention == "pase" else np.ones_like(polar)).astype(np.float64)
    columns: dict[str, NDArray[np.generic]] = {"n": np.ones(len(x))}
    for name, (guess, real), used in (("nonneg", nonneg, True), ("negpos", (x > 0, y > 0), polar)):
        parts = (guess & real, guess & ~real, ~guess & real, ~guess & ~real)
        columns |= {f"{name}/{part}": cell & used for part, cell in zip(_CONFUSION, parts, strict=True)}
    columns |= class_hits(x, y, scale, convention)
    # moments are taken in double precision, because they are differences of large sums
    wide = [(side * scale).astype(np.float64) for side in (x, y)]
    columns |= {
        "counted": counted,
        "error": counted * np.abs(predicted - truth),
        "x": counted * wide[0],
        "y": counted * wide[1],
    }
    columns |= {"xx": counted * wide[0] ** 2, "yy": counted * wide[1] ** 2, "xy": counted * wide[0] * wide[1]}
    return list(columns), np.stack([np.asarray(column, dtype=np.float64) for column in columns.values()], axis=1)


def metrics_from_sums(
    task: Task, names: list[str], sums: Float[Array, "d m"], convention: Convention
) -> dict[str, Float[Array, " d"]]:
    """The metrics of each of D samples from its sums, [D] each; nan where a sample leaves one undefined.

    Args:
        task: what was predicted.
        names: of the sums, from `utterance_moments`.
        sums: [D, M], one row per sample.
        convention: of the metrics.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if task.values is None:
            return _classification(sums.reshape(len(sums), task.num_classes, task.num_classes))
        s = dict(zip(names, sums.T, strict=True))
        accuracy, f1 = {}, {}
        for kind in ("nonneg", "negpos"):
            tp, fp, fn, tn = (s[f"{kind}/{part}"] for part in _CONFUSION)
            accuracy[kind], f1[kind] = _binary(tp, fp, fn, tn, convention)
        return {
            **{f"acc2_{kind}": values for kind, values in accuracy.items()},
            **{f"f1_{kind}": values for kind, values in f1.items()},
            **{name: s[name] / s["n"] for name in _CLASSES if name in s},
            "mae": s["error"] / s["counted"],
            "corr": _correlation(s),
        }


def _binary(tp: Array, fp: Array, fn: Array, tn: Array, convention: Convention) -> tuple[Array, Array]:
    """Accuracy and weighted F1 of two classes from their confusion counts.

    F1 weighs the classes by their number in the truth, and by their number in the predictions in the convention "mult".
    """
    total = tp + fp + fn + tn
    weights = (tp + fp, fn + tn) if convention == "mult" else (tp + fn, fp + tn)
    first, second = _f1(tp, fp + fn), _f1(tn, fp + fn)
    return (tp + tn) / total, (weights[0] * first + weights[1] * second) / total


def _correlation(s: dict[str, Array]) -> Array:
    """Pearson's correlation from first and second moments."""
    n = s["counted"]
    # the difference of two large sums can come out a little below zero
    spread = [np.maximum(s[f"{v}{v}"] / n - (s[v] / n) ** 2, 0) for v in ("x", "y")]
    covariance = s["xy"] / n - s["x"] * s["y"] / n**2
    corr = covariance / np.sqrt(spread[0] * spread[1])
    # as in `metrics`, the correlation is 0 where either side is constant, since nothing is ordered then
    return np.where((n > 0) & (np.minimum(*spread) <= 1e-13), 0.0, corr)


def _classification(confusion: Float[Array, "d k k"]) -> dict[str, Float[Array, " d"]]:
    """Metrics of classes from confusion matrices: rows are the truth, columns the predictions."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    real, guessed = confusion.sum(2), confusion.sum(1)
    total = real.sum(1)
    f1 = _f1(hits, real + guessed - 2 * hits)
    # scikit-learn's macro mean leaves out a class that is neither in the truth nor in the predictions
    occurs = (real + guessed) > 0
    recall = np.where(real > 0, hits / np.where(real > 0, real, 1), 0)
    return {
        "accuracy": hits.sum(1) / total,
        "ua": recall.sum(1) / (real > 0).sum(1),
        "f1_weighted": (f1 * real).sum(1) / total,
        "f1_macro": (f1 * occurs).sum(1) / occurs.sum(1),
    }


def _f1(hits: Array, misses: Array) -> Array:
    """F1 of a class from its hits and misses; 0 where neither truth nor prediction has it, as in scikit-learn."""
    divisor = 2 * hits + misses
    return 2 * hits / np.where(divisor > 0, divisor, 1)


def per_utterance(names: list[str], moments: Float[Array, "n m"], task: Task) -> dict[str, Array]:
    """The value of each utterance for the metrics that are means over utterances, [N]; nan where it does not count."""
    if task.values is None:
        k = task.num_classes
        return {"accuracy": moments[:, [i * k + i for i in range(k)]].sum(1)}
    s = dict(zip(names, moments.T, strict=True))
    polar = sum(s[f"negpos/{part}"] for part in _CONFUSION) > 0
    return {
        "acc2_nonneg": s["nonneg/tp"] + s["nonneg/tn"],
        "acc2_negpos": np.where(polar, s["negpos/tp"] + s["negpos/tn"], np.nan),
        **{name: s[name] for name in _CLASSES if name in s},
        "mae": np.where(s["counted"] > 0, s["error"], np.nan),
    }
