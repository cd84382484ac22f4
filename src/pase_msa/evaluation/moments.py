"""Metrics from sums over utterances, so that thousands of resamples cost one matrix product.

Every metric of `pase_msa.metrics` is a function of sums: hits, errors, confusion counts, first and second moments. The
sums of a resample are weighted sums of those of its clusters. The definitions are those of `pase_msa.metrics`, with
which the tests compare.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pase_msa.metrics import Convention
from pase_msa.task import Task

Array = NDArray[np.float64]
_CONFUSION = ("tp", "fp", "fn", "tn")


def utterance_moments(
    task: Task,
    probabilities: Float[Array, "n k"],
    score: Float[Array, " n"] | None,
    labels: Array,
    convention: Convention,
) -> tuple[list[str], Float[Array, "n m"]]:
    """What each utterance adds to the sums, with the names of the columns."""
    if task.values is None:
        truth, guess = labels.astype(int), probabilities.argmax(1)
        classes = np.eye(task.num_classes)
        cells = classes[truth][:, :, None] * classes[guess][:, None, :]
        names = [f"{i},{j}" for i in range(task.num_classes) for j in range(task.num_classes)]
        return names, cells.reshape(len(truth), -1)
    assert score is not None
    center = np.float32(task.center)
    predicted, truth = score.astype(np.float32), labels.astype(np.float32)
    x, y = predicted - center, truth - center
    polar = y != 0
    scale = np.float32(3 / (task.values[-1] - task.center))
    nonneg = (x > 0, y > 0) if convention == "mult" else (x >= 0, y >= 0)
    kept = (polar if convention == "pase" else np.ones_like(polar)).astype(np.float64)
    columns: dict[str, NDArray[np.generic]] = {"n": np.ones(len(x))}
    for name, (guess, real), used in (("nonneg", nonneg, True), ("negpos", (x > 0, y > 0), polar)):
        parts = (guess & real, guess & ~real, ~guess & real, ~guess & ~real)
        columns |= {f"{name}/{part}": cell & used for part, cell in zip(_CONFUSION, parts, strict=True)}
    for limit in (3, 2):
        near = [np.round(np.clip(side * scale, -limit, limit)) for side in (x, y)]
        columns[f"acc{2 * limit + 1}"] = near[0] == near[1]
    wide = [(side * scale).astype(np.float64) for side in (x, y)]
    columns |= {"kept": kept, "error": kept * np.abs(predicted - truth), "x": kept * wide[0], "y": kept * wide[1]}
    columns |= {"xx": kept * wide[0] ** 2, "yy": kept * wide[1] ** 2, "xy": kept * wide[0] * wide[1]}
    return list(columns), np.stack([np.asarray(column, dtype=np.float64) for column in columns.values()], axis=1)


def metrics_from_sums(
    task: Task, names: list[str], sums: Float[Array, "d m"], convention: Convention
) -> dict[str, Float[Array, " d"]]:
    """The task's metrics of each sample from its sums; nan where a sample leaves one undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if task.values is None:
            return _classification(sums.reshape(len(sums), task.num_classes, task.num_classes))
        s = dict(zip(names, sums.T, strict=True))
        found = {}
        for kind in ("nonneg", "negpos"):
            tp, fp, fn, tn = (s[f"{kind}/{part}"] for part in _CONFUSION)
            total = tp + fp + fn + tn
            found[f"acc2_{kind}"] = (tp + tn) / total
            weights = (tp + fp, fn + tn) if convention == "mult" else (tp + fn, fp + tn)
            one, other = _f1(tp, fp + fn), _f1(tn, fp + fn)
            found[f"f1_{kind}"] = (weights[0] * one + weights[1] * other) / total
        order = ("acc2_nonneg", "acc2_negpos", "f1_nonneg", "f1_negpos")
        n = s["kept"]
        spread = [np.maximum(s[f"{v}{v}"] / n - (s[v] / n) ** 2, 0) for v in ("x", "y")]
        covariance = s["xy"] / n - s["x"] * s["y"] / n**2
        corr = covariance / np.sqrt(spread[0] * spread[1])
        return {
            **{name: found[name] for name in order},
            "acc7": s["acc7"] / s["n"],
            "acc5": s["acc5"] / s["n"],
            "mae": s["error"] / n,
            # as in `metrics`: nothing was ordered where either side is constant
            "corr": np.where((n > 0) & (np.minimum(*spread) <= 1e-13), 0.0, corr),
        }


def _classification(confusion: Float[Array, "d k k"]) -> dict[str, Float[Array, " d"]]:
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    real, guessed = confusion.sum(2), confusion.sum(1)
    total = real.sum(1)
    f1 = _f1(hits, real + guessed - 2 * hits)
    seen = (real + guessed) > 0
    accuracy = hits.sum(1) / total
    recall = np.where(real > 0, hits / np.where(real > 0, real, 1), 0)
    return {
        "accuracy": accuracy,
        "ua": recall.sum(1) / (real > 0).sum(1),
        "f1_weighted": (f1 * real).sum(1) / total,
        "f1_macro": (f1 * seen).sum(1) / seen.sum(1),
    }


def _f1(hits: Array, misses: Array) -> Array:
    """F1 of a class; 0 where it is in neither truth nor prediction, as scikit-learn has it."""
    divisor = 2 * hits + misses
    return 2 * hits / np.where(divisor > 0, divisor, 1)


def per_utterance(names: list[str], moments: Float[Array, "n m"], task: Task) -> dict[str, Array]:
    """Of metrics that are means over utterances: each utterance's part (nan where it does not count)."""
    if task.values is None:
        k = task.num_classes
        return {"accuracy": moments[:, [i * k + i for i in range(k)]].sum(1)}
    s = dict(zip(names, moments.T, strict=True))
    polar = sum(s[f"negpos/{part}"] for part in _CONFUSION) > 0
    return {
        "acc2_nonneg": s["nonneg/tp"] + s["nonneg/tn"],
        "acc2_negpos": np.where(polar, s["negpos/tp"] + s["negpos/tn"], np.nan),
        "acc7": s["acc7"],
        "acc5": s["acc5"],
        "mae": np.where(s["kept"] > 0, s["error"], np.nan),
    }
