"""Weights of coalitions of modalities from held-out evidence. No other module computes them.

The weights add up to one. A prediction is the average of the coalitions' predictions by these weights, and the
prediction weight of a modality is the sum of the weights of the coalitions that hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: coalitions that a prediction is made of, at most; each costs one more pass of the fusion
MOST_COALITIONS = 16
_DRAWS = 400


def draw_likelihoods(
    samples: Sequence[tuple[Float[Array, "c n"], Int[NDArray[np.int64], " n"]]], *, draws: int = _DRAWS, seed: int = 0
) -> Float[Array, "b c"]:
    """Log-likelihood of every coalition in every draw of a Bayesian bootstrap over videos (Rubin 1981).

    Each draw weighs every video of every sample. The weights of any set of coalitions follow from these.

    Args:
        samples: log-likelihood of every coalition on every utterance, and the video of each utterance; one pair per
            independent set of utterances (validation, folds of the training split).
        draws: of the bootstrap.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    total = np.zeros((draws, len(samples[0][0])))
    for values, videos in samples:
        member = np.unique(videos, return_inverse=True)[1]
        clusters = int(member.max(initial=-1)) + 1
        if not clusters:
            continue
        sums = np.stack([np.bincount(member, weights=row, minlength=clusters) for row in values])  # [c, videos]
        # Dirichlet weights with a mean of 1 per video: each draw is a log-likelihood of as many videos as there are
        total += generator.dirichlet(np.ones(clusters), draws) * clusters @ sums.T
    return total


def coalition_weights(total: Float[Array, "b c"], allowed: NDArray[np.bool_] | None = None) -> Float[Array, " c"]:
    """Weights of coalitions that add up to one (pseudo-BMA+, Yao et al. 2018, clustered by video).

    The weights of a draw are the softmax of the coalitions' log-likelihoods in it, and the result is the mean over
    draws. A coalition that is clearly best has a weight near 1; coalitions that the data cannot tell apart have similar
    weights.

    Args:
        total: from `draw_likelihoods`.
        allowed: coalitions that may have a weight; all if left out.
    """
    if allowed is not None:
        total = np.where(allowed, total, -np.inf)
    total = total - total.max(1, keepdims=True)  # exponents of 0 or less do not overflow
    exponentials = np.exp(total)
    weights: Array = (exponentials / exponentials.sum(1, keepdims=True)).mean(0)
    return weights


def weights_by_presence(
    total: Float[Array, "b c"],
    coalitions: Sequence[frozenset[str]],
    allowed: NDArray[np.bool_],
    patterns: Sequence[frozenset[str]],
) -> dict[frozenset[str], dict[frozenset[str], float]]:
    """Weights among the coalitions that are left, for each set of modalities that an utterance may have.

    They are the posterior given that the others are lost: the same draws of the same evidence, over the coalitions
    within the set. A set none of whose coalitions is allowed has no weights of its own.

    Args:
        total: from `draw_likelihoods`.
        coalitions: in its order.
        allowed: those that may have a weight.
        patterns: sets of modalities.
    """
    result = {}
    for pattern in patterns:
        left = allowed & np.array([coalition <= pattern for coalition in coalitions])
        if left.any():
            weights = coalition_weights(total, left).tolist()
            result[pattern] = {c: w for c, w, here in zip(coalitions, weights, left, strict=True) if here}
    return result


def prediction_weights(
    weights: Float[Array, " c"], coalitions: Sequence[frozenset[str]], modalities: Sequence[str]
) -> dict[str, float]:
    """Part of the prediction that uses each modality, in [0, 1]: the weight of all coalitions that hold it.

    These do not add up to one over modalities, since a coalition of two counts for both.
    """
    return {
        name: min(float(sum(w for w, coalition in zip(weights, coalitions, strict=True) if name in coalition)), 1.0)
        for name in modalities
    }


def selection_frequency(
    values: Float[Array, "g n"], videos: Int[NDArray[np.int64], " n"], *, draws: int = _DRAWS, seed: int = 0
) -> Float[Array, " g"]:
    """How often each of g alternatives has the largest mean, over draws of a Bayesian bootstrap by video.

    Args:
        values: of every alternative on every utterance; larger is better.
        videos: of each utterance.
        draws: of the bootstrap.
        seed: of the draws.

    Returns:
        Frequencies that add up to one. An average of the alternatives by them shrinks to the middle of those that the
        data cannot tell apart.
    """
    member = np.unique(videos, return_inverse=True)[1]
    clusters = int(member.max(initial=0)) + 1
    sums = np.stack([np.bincount(member, weights=row, minlength=clusters) for row in values])
    drawn = np.random.default_rng(seed).dirichlet(np.ones(clusters), draws) @ sums.T
    return np.bincount(drawn.argmax(1), minlength=len(values)) / draws
