"""What each coalition gains over predicting the training mean, per utterance, and intervals of means over utterances.

The unit is the nat: the gain in log-likelihood of the truth, with natural logarithms. A modality's contribution is its
Shapley value over these gains (see `pase_msa.shapley`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pase_msa.heldout.ridge import CoalitionFit
from pase_msa.task import Task

Array = NDArray[np.float64]
#: where a gain is measured: in sample, on random folds, on folds of whole videos, on the validation split, and there
#: once more, each prediction as sure as suits it
SOURCES = ("sample", "random", "grouped", "valid", "suited")
LEVEL = 0.95
_LEAST_SHARPNESS = 0.25


@dataclass(frozen=True)
class Estimate:
    """A mean over utterances with its uncertainty; utterances of one video count as one observation.

    Attributes:
        value: nats per utterance.
        error: standard error, clustered by video; infinite where there is a single video.
        low: lower end of the 95 % interval.
        high: its upper end.
        videos: number of videos among the utterances.
    """

    value: float
    error: float
    low: float
    high: float
    videos: int

    def bound(self, level: float) -> float:
        """One-sided lower confidence bound."""
        return self.value - quantile(level, self.videos) * self.error

    def upper(self, level: float) -> float:
        """One-sided upper confidence bound."""
        return self.value + quantile(level, self.videos) * self.error

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers, for strict JSON; None where the interval is infinite."""
        ends = {name: getattr(self, name) for name in ("error", "low", "high")}
        finite = {name: value if np.isfinite(value) else None for name, value in ends.items()}
        return {"value": self.value, **finite, "videos": self.videos}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Estimate:
        """Inverse of `to_dict`."""
        infinite = {"error": float("inf"), "low": float("-inf"), "high": float("inf")}
        return cls(**{**content, **{name: value for name, value in infinite.items() if content[name] is None}})


def quantile(level: float, videos: int) -> float:
    """Student's quantile for a mean over this many videos; infinite for a single one."""
    from scipy.special import stdtrit  # here, since the first step need not wait for it

    return float(stdtrit(videos - 1, level)) if videos > 1 else float("inf")


def estimate(values: Float[Array, " n"], videos: Int[NDArray[np.int64], " n"]) -> Estimate:
    """Mean over utterances and its standard error, clustered by video (Liang and Zeger 1986).

    The variance of the mean is the sum over videos of squared sums of deviations, over n^2, times V / (V - 1) for V
    videos: utterances of one video need not be independent.
    """
    member = np.unique(videos, return_inverse=True)[1]
    count = int(member.max(initial=-1)) + 1
    mean = float(values.mean())
    sums = np.bincount(member, weights=values - mean, minlength=count)
    if count < 2:
        return Estimate(mean, float("inf"), float("-inf"), float("inf"), count)
    error = float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(values))
    half = quantile((1 + LEVEL) / 2, count) * error
    return Estimate(mean, error, mean - half, mean + half, count)


def gains(
    task: Task,
    fit: CoalitionFit,
    targets: Float[Array, "n o"],
    valid: Float[Array, "v o"],
) -> dict[str, Float[Array, " n"]]:
    """Gain in log-likelihood of a coalition over the training mean, in nats, per source and utterance.

    Regression: a normal density around the prediction. Classification: a softmax of the predicted class indicators. Its
    width or temperature is fitted in sample for "sample", and on the folds for the others. "valid" has that of the
    folds by video, so that it tests whether what the folds promise holds on new videos. "suited" is "valid" with what
    is most likely there, a scale of the predictions and a width of the density, or a temperature, as in `fitted_gains`:
    louder voices make predictions that are too sure, and still tell something.

    Args:
        task: regression or classification.
        fit: of the coalition. The empty one has a negative gain out of fold, since it predicts the mean of the other
            folds; differences between coalitions do not suffer from it.
        targets: of the training rows, not centred.
        valid: of the validation rows.
    """
    mean = targets.mean(0)
    truth = {"sample": targets, "random": targets, "grouped": targets, "valid": valid}
    spreads = {source: fit_spread(task, getattr(fit, source), targets, mean) for source in SOURCES[:3]}
    spreads["valid"] = spreads["grouped"]
    result = {source: _gain(task, spreads[source], getattr(fit, source), truth[source], targets) for source in truth}
    suited = fit.valid * _scale(fit.valid, valid - mean) if task.values is not None else fit.valid
    return result | {"suited": fitted_gains(task, [suited], valid, targets)[0]}


def fitted_gains(
    task: Task, predictions: Sequence[Float[Array, "n o"]], truth: Float[Array, "n o"], targets: Float[Array, "t o"]
) -> Float[Array, "c n"]:
    """Gains of predictions on one set of utterances, each at the width or temperature that is most likely on these.

    Whether predictions are over- or under-confident then counts neither for nor against them. So it is for a network,
    of which there are no predictions on folds.

    Args:
        task: regression or classification.
        predictions: of every coalition. Regression: centred on the mean of `targets`. Classification: the excess of the
            log-probabilities over those of the class prior, divided by the number of classes.
        truth: scores or class indicators of the utterances.
        targets: those of the training rows; a gain is over their mean and spread.
    """
    mean = targets.mean(0)
    # a softmax that is flat enough hides any harm, and its uncertainty with it
    least = 0.0 if task.values is not None else _LEAST_SHARPNESS
    spreads = [max(fit_spread(task, one, truth, mean), least) for one in predictions]
    return np.stack(
        [_gain(task, spread, one, truth, targets) for spread, one in zip(spreads, predictions, strict=True)]
    )


def _scale(predicted: Array, truth: Array) -> float:
    """The factor, zero or more, with which predictions have the least squared error; both are centred on one mean."""
    square = float((predicted**2).sum())
    return max(float((predicted * truth).sum()) / square, 0.0) if square > 0 else 1.0


def fit_spread(
    task: Task, predicted: Float[Array, "n o"], targets: Float[Array, "n o"], mean: Float[Array, " o"]
) -> float:
    """Width of the normal density (regression) or sharpness of the softmax that makes the targets most likely.

    Args:
        task: regression or classification.
        predicted: centred on `mean`.
        targets: scores, or class indicators.
        mean: of the training targets.
    """
    if task.values is not None:
        prior_width = _prior_width(targets, mean)
        return max(float(np.sqrt(((targets - mean - predicted) ** 2).mean())), 1e-3 * prior_width)
    from scipy.optimize import minimize_scalar  # here, since a regression does without
    from scipy.special import log_softmax

    base = np.log(np.clip(mean, 1e-9, None))

    def loss(sharpness: float) -> float:
        return -float((targets * log_softmax(base + sharpness * predicted * len(base), axis=1)).sum(1).mean())

    return float(minimize_scalar(loss, bounds=(0.0, 10.0), method="bounded").x)


def _gain(task: Task, spread: float, predicted: Array, truth: Array, targets: Array) -> Float[Array, " n"]:
    """Log-likelihood of the truth under each prediction minus that under the training mean (the class prior)."""
    mean = targets.mean(0)
    if task.values is not None:
        prior_width = _prior_width(targets, mean)
        ours = -0.5 * ((truth - mean - predicted) / spread) ** 2 - np.log(spread)
        return np.asarray((ours + 0.5 * ((truth - mean) / prior_width) ** 2 + np.log(prior_width))[:, 0])
    from scipy.special import log_softmax

    base = np.log(np.clip(mean, 1e-9, None))
    ours = log_softmax(base + spread * predicted * len(base), axis=1)
    return np.asarray((truth * (ours - base)).sum(1))


def _prior_width(targets: Array, mean: Array) -> float:
    """Deviation of the targets, or 1 where they are constant."""
    return float(np.sqrt(((targets - mean) ** 2).mean())) or 1.0
