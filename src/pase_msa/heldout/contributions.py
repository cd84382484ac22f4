"""What each modality contributes to the reference model in sample, by folds and on validation, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import t as student

from pase_msa.heldout.ridge import Predictions
from pase_msa.task import Task

Array = NDArray[np.float64]
SOURCES = ("sample", "random", "grouped", "valid")
LEVEL = 0.95
_LEAST = 0.25  # sharpness


@dataclass(frozen=True)
class Estimate:
    """A mean over utterances and how far to trust it; utterances of one video count as one observation.

    Attributes:
        value: nats an utterance.
        error: standard error, clustered by video.
        low: lower end of the 95 % interval.
        high: its upper end.
        videos: that it rests on.
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
        """Plain numbers, for strict JSON: None stands for an interval that is not known."""
        ends = {name: getattr(self, name) for name in ("error", "low", "high")}
        known = {name: value if np.isfinite(value) else None for name, value in ends.items()}
        return {"value": self.value, **known, "videos": self.videos}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Estimate:
        """What `to_dict` gave."""
        unknown = {"error": float("inf"), "low": float("-inf"), "high": float("inf")}
        return cls(**{**content, **{name: value for name, value in unknown.items() if content[name] is None}})


def quantile(level: float, videos: int) -> float:
    """Student's quantile for so many videos; infinite for a single one."""
    return float(student.ppf(level, videos - 1)) if videos > 1 else float("inf")


def estimate(values: Float[Array, " n"], videos: Int[NDArray[np.int64], " n"]) -> Estimate:
    """Mean and clustered standard error (Liang and Zeger 1986, with the usual small-sample factor)."""
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
    predictions: Sequence[Predictions],
    targets: Float[Array, "n o"],
    held: Float[Array, "v o"],
) -> dict[str, Float[Array, "c n"]]:
    """Log-likelihood gain over the training mean, in nats an utterance, of every coalition.

    Regression: a normal density around the prediction; classification: a softmax of the predicted indicators. Its width
    or temperature is fitted in sample for "sample" and on the folds for the others, so "valid" is the raw value: it
    tells how far the folds can be believed.

    Args:
        task: decides between the two.
        predictions: of every coalition, the empty one included: out of fold it knows the other folds' mean only, which
            is worse than that of all by no fault of any modality.
        targets: of the training rows, not centred.
        held: of the validation rows.
    """
    mean = targets.mean(0)
    own = {"sample": targets, "random": targets, "grouped": targets, "valid": held}
    found: dict[str, list[Array]] = {source: [] for source in SOURCES}
    for prediction in predictions:
        spreads = {source: fit_density(task, getattr(prediction, source), targets, mean) for source in SOURCES[:3]}
        spreads["valid"] = spreads["grouped"]
        for source in SOURCES:
            said = getattr(prediction, source)
            found[source].append(_gain(task, spreads[source], said, own[source], targets, mean))
    return {source: np.stack(rows) for source, rows in found.items()}


def fitted_gains(
    task: Task, said: Sequence[Float[Array, "n o"]], truth: Float[Array, "n o"], targets: Float[Array, "t o"]
) -> Float[Array, "c n"]:
    """As `gains`, of predictions on one set of utterances, at the width or temperature that suits each on these best.

    For a model whose folds nobody has predicted: mere over- or under-confidence then counts neither for it nor against.

    Args:
        task: decides between a density and a softmax.
        said: of every coalition, centred on the mean of `targets` (regression), or the log-probabilities' excess over
            the class prior, divided by the number of classes (classification).
        truth: what was to be said.
        targets: of the training rows; knowing nothing is knowing their mean and spread.
    """
    mean = targets.mean(0)
    # a softmax that is made flat enough hides any harm, and the uncertainty with it
    spreads = [max(fit_density(task, one, truth, mean), 0.0 if task.values is not None else _LEAST) for one in said]
    return np.stack([_gain(task, spread, one, truth, targets, mean) for spread, one in zip(spreads, said, strict=True)])


def fit_density(task: Task, said: Float[Array, "n o"], targets: Float[Array, "n o"], mean: Float[Array, " o"]) -> float:
    """Width of the normal density (regression) or sharpness of the softmax that makes the predictions most likely."""
    if task.values is not None:
        wide = float(np.sqrt(((targets - mean) ** 2).mean())) or 1.0
        return max(float(np.sqrt(((targets - mean - said) ** 2).mean())), 1e-3 * wide)
    base = np.log(np.clip(mean, 1e-9, None))

    def loss(sharpness: float) -> float:
        return -float((targets * log_softmax(base + sharpness * said * len(base), axis=1)).sum(1).mean())

    return float(minimize_scalar(loss, bounds=(0.0, 10.0), method="bounded").x)


def _gain(task: Task, spread: float, said: Array, truth: Array, targets: Array, mean: Array) -> Array:
    """Log-likelihood gain of each prediction over the prior."""
    if task.values is not None:
        wide = float(np.sqrt(((targets - mean) ** 2).mean())) or 1.0
        ours = -0.5 * ((truth - mean - said) / spread) ** 2 - np.log(spread)
        return np.asarray((ours + 0.5 * ((truth - mean) / wide) ** 2 + np.log(wide))[:, 0])
    base = np.log(np.clip(mean, 1e-9, None))
    ours = log_softmax(base + spread * said * len(base), axis=1)
    return np.asarray((truth * (ours - base)).sum(1))
