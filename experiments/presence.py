"""What the quality of an utterance's features says of them, and what its class prior's sign is worth: two questions.

`python -m experiments.presence DATA` answers both from closed-form predictions on folds by video of the training split.
Neither the test split nor a network is read.

1. **Quality.** May a modality that is left be trusted more where its features look better? Proxies of quality of an
   utterance are the distance of its features from those of other training videos, and the number of its steps. The
   prediction of a modality is mixed with the class prior, by a weight that is the same for all or falls with a proxy.
   Both are fitted on all but one fold, and the gain in log-likelihood is that of the remaining fold.
2. **Sign.** Where no modality is trusted, a score is that of the training mean. On how many utterances does its sign
   agree with the truth, over random partitions by video, and on how many does that of each modality alone?
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from pase_msa.data.opening import open_data
from pase_msa.data.problem import Problem, ProblemOptions
from pase_msa.heldout.contributions import estimate, fit_spread
from pase_msa.heldout.pooling import pool
from pase_msa.heldout.ridge import RidgeSolver
from pase_msa.task import Task

Array = NDArray[np.float64]
_FOLDS, _PARTITIONS = 5, 20


def folds_by_video(videos: NDArray[np.int64], seed: int, count: int = _FOLDS) -> NDArray[np.int64]:
    """A fold for each row, the same for a whole video."""
    member = np.unique(videos, return_inverse=True)[1]
    return (np.random.default_rng(seed).permutation(int(member.max()) + 1) % count)[member]


def likelihoods(task: Task, predicted: Array, targets: Array, rows: NDArray[np.bool_]) -> Array:
    """Likelihood of every target under predictions and under the prior, [2, n]; widths are fitted on some rows."""
    mean = targets[rows].mean(0)
    if task.values is not None:
        result = []
        for centred in (predicted, np.zeros_like(predicted)):
            width = float(np.sqrt(((targets[rows] - mean - centred[rows]) ** 2).mean()))
            result.append(np.exp(-0.5 * ((targets - mean - centred) / width) ** 2)[:, 0] / width)
        return np.stack(result)
    sharpness = fit_spread(task, predicted[rows], targets[rows], mean)
    logits = np.log(mean) + sharpness * predicted * len(mean)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return np.stack([((odds / odds.sum(1, keepdims=True)) * targets).sum(1), targets @ mean])


def mixed_gain(both: Array, proxy: Array | None, folds: NDArray[np.int64]) -> Array:
    """Log-likelihood of each utterance under a mixture whose weight was fitted on the other folds, [n].

    The weight is sigmoid(a), or sigmoid(a + b q) with a weak pull of b to zero.
    """
    q = np.zeros(both.shape[1]) if proxy is None else proxy

    def likelihood(parameters: Array, rows: NDArray[np.bool_]) -> Array:
        weight = 1 / (1 + np.exp(-np.clip(parameters[0] + parameters[1] * q[rows], -30, 30)))
        return np.asarray(np.log(weight * both[0, rows] + (1 - weight) * both[1, rows]))

    result = np.zeros(both.shape[1])
    for fold in np.unique(folds):
        others = folds != fold

        def loss(parameters: Array, others: NDArray[np.bool_] = others) -> float:
            return -float(likelihood(parameters, others).sum()) + 0.5 * float(parameters @ parameters) / 9

        fitted = minimize(loss, np.zeros(2), method="Nelder-Mead").x
        fitted[1] = 0.0 if proxy is None else fitted[1]
        result[~others] = likelihood(fitted, ~others)
    return result


def rank(values: Array) -> Array:
    """Values as ranks in [-1, 1], so that no far one decides."""
    return 2 * np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(len(values) - 1, 1) - 1


def proxies(features: Array, steps: NDArray[np.int64], folds: NDArray[np.int64]) -> dict[str, Array]:
    """Proxies of quality, [n] each in [-1, 1], where more is worse: a row's own video is not compared with itself."""
    distance = np.zeros(len(features))
    for fold in np.unique(folds):
        rest = features[folds != fold]
        _, scales, axes = np.linalg.svd(rest - rest.mean(0), full_matrices=False)
        kept = min(20, len(scales))
        scores = (features[folds == fold] - rest.mean(0)) @ axes[:kept].T / (scales[:kept] / len(rest) ** 0.5 + 1e-9)
        distance[folds == fold] = (scores**2).sum(1)
    return {"distance from other videos": rank(distance), "number of steps": -rank(steps.astype(float))}


def quality(task: Task, features: dict[str, Array], steps: dict[str, Array], targets: Array, videos: Array) -> None:
    """Print the gain of weights by quality, for each modality alone, and on a planted case that it should find."""
    folds = folds_by_video(videos, 0)
    print("gain of weights by quality over one weight, nats per utterance, folds by video, 95 % interval")
    for name, values in features.items():
        noise = np.random.default_rng(0)
        level = noise.uniform(0, 4, len(values))[:, None]
        noisy = values + level * noise.standard_normal(values.shape)
        for case, given in ((name, values), (f"{name}, planted noise", noisy)):
            solver = RidgeSolver({name: given}, targets, folds_by_video(np.arange(len(videos)), 0), folds, 0)
            both = likelihoods(task, solver.solve([name]).grouped, targets, np.ones(len(videos), dtype=bool))
            same = mixed_gain(both, None, folds)
            for proxy, q in proxies(given, steps[name], folds).items():
                about = estimate(mixed_gain(both, q, folds) - same, videos)
                print(f"  {case}: {proxy}: {about.value:+.4f} [{about.low:+.4f}, {about.high:+.4f}]")


def sign(features: dict[str, Array], scores: Array, videos: NDArray[np.int64], center: float) -> None:
    """Print how often signs agree on new videos: of the training mean, and of each modality alone."""
    found: dict[str, list[float]] = {"training mean": []} | {name: [] for name in features}
    for seed in range(_PARTITIONS):
        held = folds_by_video(videos, 100 + seed, 6) == 0
        order = np.r_[np.flatnonzero(~held), np.flatnonzero(held)]
        count, truth = int((~held).sum()), scores[held] - center
        mean = scores[~held].mean()
        predictions = {"training mean": np.full(len(truth), mean)}
        for name, values in features.items():
            rows = values[order]
            inner = folds_by_video(videos[order][:count], seed)
            solver = RidgeSolver({name: rows}, scores[order][:count, None], inner, inner, 0)
            predictions[name] = mean + solver.solve([name]).valid[:, 0]
        for name, predicted in predictions.items():
            agree = (predicted - center > 0) == (truth > 0)
            found[name].append(float(agree[truth != 0].mean()))
    print(f"agreement of signs on a sixth of the videos, {_PARTITIONS} partitions, percent: mean, sd, least, most")
    for name, shares in found.items():
        listed = 100 * np.array(shares)
        print(f"  {name}: {listed.mean():.1f} {listed.std(ddof=1):.1f} {listed.min():.1f} {listed.max():.1f}")


def main() -> None:
    """Read the data and answer both questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--label")
    parser.add_argument("--modalities")
    options = parser.parse_args()
    chosen = options.modalities.split(",") if options.modalities else None
    problem = Problem.from_table(open_data(options.data), ProblemOptions(label=options.label, modalities=chosen))
    train, valid, task = problem.train, problem.valid, problem.task
    rows = np.concatenate([train.rows, valid.rows])
    assert train.labels is not None
    labels, videos, count = train.labels[rows], train.videos[rows], len(train.rows)
    pooled = {name: pool(column, rows, count)[0] for name, column in train.columns.items()}
    steps = {name: column.lengths[rows][:count] for name, column in train.columns.items()}
    own = {name: values[:count] for name, values in pooled.items()}
    targets = labels[:, None] if task.values is not None else np.eye(task.num_classes)[labels.astype(np.int64)]
    quality(task, own, steps, targets[:count], videos[:count])
    if task.values is not None:
        sign(pooled, labels, videos, task.center)


if __name__ == "__main__":
    main()
