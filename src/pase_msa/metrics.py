"""Metrics in the field's conventions, as pure functions.

Accuracies, recall and F1 are fractions in [0, 1]; MAE is in label units, entropy in nats. A convention
says which class zero belongs to and what F1 is weighted by; tables differ by about a point for that reason alone:

* "mmsa" (MMSA, the default): positive is `>= 0` where zeros are kept, `> 0` where they are dropped; F1 is weighted by
  the support in the truth.
* "mult" (MulT, 2019): `> 0` also where zeros are kept; F1 is weighted by the predictions.
* "pase" (the authors of PaSE): as "mmsa", but MAE and Corr are taken over the non-zero labels only.
* "sims" (MMSA's, for CH-SIMS): scores are clipped to [-1, 1]; `> 0` also where zeros are kept, so zero is negative;
  acc3 has the limits +-.1 and acc5 +-.1 and +-.7, each of which belongs to the class below.

MMSA's convention depends on the data set, so "mmsa" means "sims" where labels range over [-1, 1]; "mosi" does not.
`resolve_convention` says which one it is, and that name is written beside every result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pase_msa.errors import PaSEError
from pase_msa.task import Task

Convention = Literal["mmsa", "mult", "pase", "sims", "mosi"]
Values = Tensor | npt.NDArray[Any] | Sequence[float] | Sequence[int]
Floats = npt.NDArray[np.float32]
_SIMS_EDGES = (np.array([-0.1, 0.1], np.float32), np.array([-0.7, -0.1, 0.1, 0.7], np.float32))


def regression_metrics(score: Values, labels: Values, task: Task, convention: Convention = "mmsa") -> dict[str, float]:
    """Polarity, class and error metrics of scores [N] against labels [N], both in label units.

    Polarity is taken around `task.center`. Everything is compared in single precision, as in the frameworks
    that define the conventions. So a label at the centre stays there, also where binary fractions cannot express it.
    `acc7` and `acc5` clip to +-3 and +-2 and round half to even; a label range other than [-3, 3] is first
    mapped to it linearly (in "sims" to [-1, 1], for acc3 and acc5). MAE takes scores as they are, but in "sims".

    Returns:
        acc2_nonneg (all utterances; the convention says which class zero belongs to), acc2_negpos, f1_nonneg,
        f1_negpos, acc7, acc5, mae, corr, and in "sims" acc3. `corr` is 0 where either side is constant. What is
        computed over non-zero labels is nan where there are none, since no polarity can then be right or wrong.

    Errors: PaSEError for a task without values, an unknown convention, unequal or no shapes, NaN, infinity.
    """
    convention = resolve_convention(task, convention)
    if task.values is None:
        raise PaSEError("Regression metrics need a regression task; use classification_metrics.")
    predicted, truth = in_range(task, *_pair(score, labels), convention)
    center = np.float32(task.center)
    x, y = predicted - center, truth - center
    polar = y != 0
    scale = np.float32(3 / (task.values[-1] - task.center))
    counted = polar if convention == "pase" else np.ones_like(polar)
    nonneg = polarity(x, y, convention)
    negpos = (x[polar] > 0, y[polar] > 0)
    return {
        "acc2_nonneg": float(np.mean(nonneg[0] == nonneg[1])),
        "acc2_negpos": float(np.mean(negpos[0] == negpos[1])) if polar.any() else float("nan"),
        "f1_nonneg": _weighted_f1(*nonneg, convention),
        "f1_negpos": _weighted_f1(*negpos, convention),
        **{name: float(np.mean(hits)) for name, hits in class_hits(x, y, scale, convention).items()},
        "mae": float(np.mean(np.abs(predicted - truth)[counted], dtype=float)) if counted.any() else float("nan"),
        "corr": _correlation(x[counted] * scale, y[counted] * scale),
    }


def classification_metrics(predicted: Values, labels: Values, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, recall and F1 of class numbers [N] against true ones [N], over K class names.

    Returns:
        accuracy; wa, the same; ua, the mean recall over classes in the truth; f1_weighted; f1_macro, over
        classes in the truth or the predictions; per_class, `{name: {f1, accuracy, recall, support}}`, each
        against the rest. That f1 is the support-weighted mean over "is" and "is not", as published for
        IEMOCAP; recall without support is nan.

    Errors: PaSEError for unequal shapes, nothing at all, or numbers that are not those of a class.
    """
    from sklearn.metrics import accuracy_score, f1_score, recall_score  # a second that the first step need not wait for

    guess, truth = (_class_numbers(part, len(classes)) for part in _pair(predicted, labels))
    return {
        "accuracy": float(accuracy_score(truth, guess)),
        "wa": float(accuracy_score(truth, guess)),
        "ua": float(recall_score(truth, guess, labels=np.unique(truth), average="macro")),
        "f1_weighted": float(f1_score(truth, guess, average="weighted")),
        "f1_macro": float(f1_score(truth, guess, average="macro")),
        "per_class": {
            name: {
                "f1": float(f1_score(truth == k, guess == k, average="weighted")),
                "accuracy": float(accuracy_score(truth == k, guess == k)),
                "recall": float(recall_score(truth == k, guess == k, zero_division=np.nan)),
                "support": int((truth == k).sum()),
            }
            for k, name in enumerate(classes)
        },
    }


def task_metrics(
    task: Task, probabilities: Values, score: Values | None, labels: Values, convention: Convention = "mmsa"
) -> dict[str, Any]:
    """The metrics of a task from class probabilities [N, K] and scores [N] (None: their expectation).

    Errors: PaSEError as above, and for probabilities that are not [N, K] or not finite.
    """
    check_convention(convention)
    given = torch.as_tensor(probabilities).detach().float().cpu()
    if given.ndim != 2 or given.shape[1] != task.num_classes or not bool(torch.isfinite(given).all()):
        raise PaSEError(f"Probabilities must be finite, [N, {task.num_classes}]; found {list(given.shape)}.")
    if task.kind == "classification":
        return classification_metrics(given.numpy().argmax(1), labels, task.classes)
    return regression_metrics(task.score(given) if score is None else score, labels, task, convention)


def headline(task: Task) -> tuple[str, Literal["min", "max"]]:
    """The metric that selects checkpoints of the task, and whether its minimum or its maximum is best."""
    return ("mae", "min") if task.kind == "regression" else ("f1_weighted", "max")


def check_convention(convention: str) -> None:
    """Refuse an unknown convention; the sentence lists those that exist."""
    if convention not in get_args(Convention):
        raise PaSEError(f"A metric convention is one of {', '.join(get_args(Convention))}, not {convention!r}.")


def resolve_convention(task: Task, convention: Convention) -> Convention:
    """The convention that a result of the task is in: "sims" or "mmsa" where the name asks for MMSA's.

    Errors: PaSEError for an unknown convention.
    """
    check_convention(convention)
    if convention == "mmsa" and task.values is not None and (task.values[0], task.values[-1]) == (-1.0, 1.0):
        return "sims"
    # beyond [-1, 1] both names mean the same; results that agree have one name
    return "mmsa" if convention == "mosi" and resolve_convention(task, "mmsa") == "mmsa" else convention


def in_range(task: Task, predicted: Floats, truth: Floats, convention: Convention) -> tuple[Floats, Floats]:
    """Scores and labels [N] as a convention measures them: clipped to the label range in "sims"."""
    if convention != "sims" or task.values is None:
        return predicted, truth
    low, high = np.float32(task.values[0]), np.float32(task.values[-1])
    return np.clip(predicted, low, high), np.clip(truth, low, high)


def polarity(x: Floats, y: Floats, convention: Convention) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether predictions and labels [N], less the centre, are positive, zeros being kept."""
    return (x > 0, y > 0) if convention in ("mult", "sims") else (x >= 0, y >= 0)


def class_hits(x: Floats, y: Floats, scale: np.float32, convention: Convention) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether the class of predictions and labels [N], less the centre, is the same, by accuracy.

    Args:
        x: predictions.
        y: labels.
        scale: maps the label range to [-3, 3].
        convention: as `resolve_convention` returned it.
    """
    hits = {}
    for limit in (3, 2):
        near = [np.round(np.clip(side * scale, -limit, limit)) for side in (x, y)]
        hits[f"acc{2 * limit + 1}"] = near[0] == near[1]
    if convention == "sims":
        for edges in _SIMS_EDGES:
            cells = [np.digitize(side * np.float32(scale / 3), edges, right=True) for side in (x, y)]
            hits[f"acc{len(edges) + 1}"] = cells[0] == cells[1]
    return hits


def _pair(predicted: Values, labels: Values) -> tuple[Floats, Floats]:
    """Both as float32 [N], checked."""
    x, y = (torch.as_tensor(part).detach().cpu().float().numpy() for part in (predicted, labels))
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise PaSEError(f"Metrics need one label per prediction; found shapes {x.shape} and {y.shape}.")
    for part, name in ((x, "predictions"), (y, "labels")):
        if bad := int((~np.isfinite(part)).sum()):
            raise PaSEError(f"{bad} of {len(part)} {name} are NaN or infinite; metrics need finite numbers.")
    return x, y


def _class_numbers(values: Floats, num_classes: int) -> npt.NDArray[np.int64]:
    numbers = values.astype(np.int64)
    if (numbers != values).any() or numbers.min() < 0 or numbers.max() >= num_classes:
        raise PaSEError(f"Class numbers are integers from 0 to {num_classes - 1}; found other ones.")
    return numbers


def _weighted_f1(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], convention: Convention) -> float:
    from sklearn.metrics import f1_score

    first, second = (predicted, truth) if convention == "mult" else (truth, predicted)
    return float(f1_score(first, second, average="weighted")) if len(truth) else float("nan")


def _correlation(x: Floats, y: Floats) -> float:
    """Pearson's, of values on the scale of [-3, 3]."""
    if not len(x):
        return float("nan")
    # a range as small as the rounding of float32 is a constant with noise
    if min(np.ptp(x), np.ptp(y)) <= 1e-6:
        return 0.0
    return float(np.corrcoef(x.astype(np.float64), y.astype(np.float64))[0, 1])
