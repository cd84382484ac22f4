"""Confidence of a prediction, and how well confidence agrees with accuracy.

Temperature scaling (Guo et al., 2017): one number divides the logits. It changes the confidence only; class and
score stay those of temperature 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from pase_msa.errors import PaSEError
from pase_msa.task import Task

Values = Tensor | npt.NDArray[Any] | Sequence[float] | Sequence[bool]
LOWEST, HIGHEST = 0.05, 20.0
"""Range of temperatures that are searched."""


def confidence(task: Task, logits: Float[Tensor, "n k"], temperature: float = 1.0) -> Float[Tensor, " n"]:
    """Probability that the predicted class, or the predicted polarity, is the right one.

    Classification: the largest of `softmax(logits / temperature)`. Regression: the mass of that
    distribution on the classes strictly on the predicted side of `task.center`, plus half of the mass at
    the centre. The side is that of the score at temperature 1, which is what was predicted. Confidence may
    fall below 1/2 where a few extreme classes outweigh a majority in the expectation.

    Errors: PaSEError for logits that are not [N, K] or not finite, or a temperature that is not positive.
    """
    _check(task, logits)
    if not (math.isfinite(temperature) and temperature > 0):
        raise PaSEError(f"A temperature is a positive number, found {temperature}.")
    return unchecked_confidence(task, logits, temperature)


def unchecked_confidence(task: Task, logits: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, " n"]:
    """`confidence` without its checks, which read values and so cannot be part of an exported graph."""
    probabilities = torch.softmax(logits.float() / temperature, dim=1)
    if task.values is None:
        return probabilities.max(dim=1).values
    distance = torch.tensor(task.values, dtype=torch.float64) - task.center
    # class values are computed in steps, which may miss the centre by a rounding error
    at_center = distance.abs() <= 1e-6 * (task.values[-1] - task.values[0])
    upper = torch.where(at_center, 0.5, (distance > 0).double()).to(probabilities)
    side = torch.where(_non_negative(task, logits).unsqueeze(1), upper, 1 - upper)
    return (probabilities * side).sum(dim=1)


def correct(task: Task, logits: Float[Tensor, "n k"], labels: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Whether the class, or the polarity (`>= task.center` or below), is right.

    Errors: PaSEError for logits that are not [N, K] or not finite, labels that are not [N] or NaN.
    """
    _check(task, logits)
    if labels.shape != logits.shape[:1] or bool(torch.isnan(labels.float()).any()):
        raise PaSEError(
            f"Calibration needs one label without NaN for each of {len(logits)} predictions; "
            f"found shape {list(labels.shape)}, {int(torch.isnan(labels.float()).sum())} NaN."
        )
    if task.values is None:
        return logits.argmax(dim=1) == labels
    center = torch.tensor(task.center, dtype=torch.float32, device=labels.device)
    return _non_negative(task, logits) == (labels.float() >= center)


def fit_temperature(task: Task, logits: Float[Tensor, "n k"], labels: Float[Tensor, " n"]) -> float:
    """The temperature in [0.05, 20] of the least negative log-likelihood; give data that were not trained on.

    Classification takes the likelihood of the true class; regression that of being right about the
    polarity. It is 1 where the data do not determine it: no data, all right or all wrong (the optimum is then a
    bound of the search), or logits that a temperature does not change.

    Errors: PaSEError as `correct`.
    """
    logits, labels = logits.detach().cpu(), labels.detach().cpu()  # not every device has double precision
    right = correct(task, logits, labels)
    if not len(logits) or bool(right.all()) or not bool(right.any()):
        return 1.0

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        if task.values is None:
            return float(functional.cross_entropy(logits.double() / temperature, labels.long()))
        sure = confidence(task, logits, temperature).double().clamp(1e-7, 1 - 1e-7)
        return float(functional.binary_cross_entropy(sure, right.double()))

    # the regression loss need not be unimodal: a grid finds the best interval, a bounded search the minimum in it
    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), 25)
    best = int(np.argmin([loss(point) for point in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    from scipy.optimize import minimize_scalar  # here, since the first step need not wait for it

    result = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return math.exp(result.x) if result.fun < loss(0.0) - 1e-9 else 1.0


def reliability(confidence: Values, correct: Values, bins: int = 10) -> list[dict[str, float | None]]:
    """Confidence against accuracy in `bins` equal bins of [0, 1]; the low edge belongs to a bin, in the last both.

    Returns:
        One {low, high, count, confidence, accuracy} per bin: means of its predictions, None where it is empty.

    Errors: PaSEError for unequal lengths, no data, confidence outside [0, 1], fewer than one bin.
    """
    sure, right = _pair(confidence, correct)
    if bins < 1:
        raise PaSEError(f"A reliability table needs one bin or more, found {bins}.")
    edges = np.linspace(0, 1, bins + 1)
    member = np.digitize(sure, edges[1:-1])
    rows: list[dict[str, float | None]] = []
    for k in range(bins):
        chosen = member == k
        any_ = bool(chosen.any())
        rows.append(
            {
                "low": float(edges[k]),
                "high": float(edges[k + 1]),
                "count": int(chosen.sum()),
                "confidence": float(sure[chosen].mean()) if any_ else None,
                "accuracy": float(right[chosen].mean()) if any_ else None,
            }
        )
    return rows


def expected_calibration_error(confidence: Values, correct: Values, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over the bins of `reliability`, weighted by count, in [0, 1].

    Errors: PaSEError as `reliability`.
    """
    rows = reliability(confidence, correct, bins)
    total = sum(row["count"] or 0 for row in rows)
    gaps = [(row["count"] or 0) * abs((row["confidence"] or 0) - (row["accuracy"] or 0)) for row in rows]
    return float(sum(gaps) / total)


def risk_coverage(confidence: Values, correct: Values) -> dict[str, Any]:
    """Error rate when only the most confident share of the predictions is kept (selective prediction).

    Predictions of equal confidence have no order. Each takes the error rate of its group, the mean over all
    orders, so that the curve does not depend on the order of the samples.

    Returns:
        coverage [N] in (0, 1], risk [N] in [0, 1], aurc: the mean of risk, the area under the curve.

    Errors: PaSEError for unequal lengths, no data, confidence outside [0, 1].
    """
    sure, right = _pair(confidence, correct)
    _, group, count = np.unique(-sure, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=1 - right) / count
    number = np.arange(1, len(sure) + 1)
    risk = np.repeat(wrong, count).cumsum() / number
    return {"coverage": (number / len(sure)).tolist(), "risk": risk.tolist(), "aurc": float(risk.mean())}


def _non_negative(task: Task, logits: Tensor) -> Tensor:
    return task.score(torch.softmax(logits.float(), dim=1)) >= task.center


def _check(task: Task, logits: Tensor) -> None:
    if logits.ndim != 2 or logits.shape[1] != task.num_classes or not bool(torch.isfinite(logits).all()):
        raise PaSEError(f"Logits must be finite with shape [N, {task.num_classes}]; found {list(logits.shape)}.")


def _pair(confidence: Values, correct: Values) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    sure, right = (
        np.asarray(part.detach().cpu() if isinstance(part, Tensor) else part, dtype=np.float64)
        for part in (confidence, correct)
    )
    if sure.ndim != 1 or sure.shape != right.shape or not len(sure):
        raise PaSEError(
            f"Calibration needs one confidence per prediction, and one at least; "
            f"found shapes {list(sure.shape)} and {list(right.shape)}."
        )
    # a sum of float32 probabilities may exceed 1 by a rounding error
    if not bool(((sure >= -1e-5) & (sure <= 1 + 1e-5)).all()):
        raise PaSEError("Confidence must lie in [0, 1]; some value does not.")
    return np.clip(sure, 0, 1), right
