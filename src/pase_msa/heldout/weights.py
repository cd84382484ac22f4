"""How much of the prediction each coalition of modalities makes: held-out evidence, weighed with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: coalitions with a share in a prediction, at most; each costs one more pass of the fusion
MOST_COALITIONS = 16
_DRAWS = 400


def coalition_weights(
    samples: Sequence[tuple[Float[Array, "c n"], Int[NDArray[np.int64], " n"]]],
    allowed: NDArray[np.bool_] | None = None,
    *,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Float[Array, " c"]:
    """Weights of coalitions that add up to one (pseudo-BMA+, Yao et al. 2018, clustered by video).

    Each draw of a Bayesian bootstrap over videos (Rubin 1981) weighs every video of every sample, and the coalitions
    share out that draw by the softmax of their weighted log-likelihoods; the weights are the mean over draws. Where the
    evidence is clear one coalition takes all; where it is not, those that it cannot tell apart share.

    Args:
        samples: log-likelihood of every coalition and utterance, and the video of each utterance; every sample is
            evidence of its own (validation, folds of the training split).
        allowed: coalitions that may have a weight; all if left out.
        draws: of the bootstrap.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    count = len(samples[0][0])
    total = np.zeros((draws, count))
    for values, videos in samples:
        member = np.unique(videos, return_inverse=True)[1]
        clusters = int(member.max(initial=-1)) + 1
        if not clusters:
            continue
        sums = np.stack([np.bincount(member, weights=row, minlength=clusters) for row in values])  # [c, videos]
        total += generator.dirichlet(np.ones(clusters), draws) * clusters @ sums.T
    if allowed is not None:
        total[:, ~allowed] = -np.inf
    total -= total.max(1, keepdims=True)
    shares = np.exp(total)
    weights: Array = (shares / shares.sum(1, keepdims=True)).mean(0)
    return weights


def prediction_weights(
    weights: Float[Array, " c"], coalitions: Sequence[frozenset[str]], players: Sequence[str]
) -> dict[str, float]:
    """Share of the prediction that each modality has a say in."""
    return {
        name: min(float(sum(w for w, coalition in zip(weights, coalitions, strict=True) if name in coalition)), 1.0)
        for name in players
    }


def selection_frequency(
    values: Float[Array, "g n"], videos: Int[NDArray[np.int64], " n"], *, draws: int = _DRAWS, seed: int = 0
) -> Float[Array, " g"]:
    """How often each of g alternatives has the largest mean, over a Bayesian bootstrap by video.

    Averaging over draws shrinks a choice to the middle of what the data cannot tell apart.
    """
    member = np.unique(videos, return_inverse=True)[1]
    clusters = int(member.max(initial=0)) + 1
    sums = np.stack([np.bincount(member, weights=row, minlength=clusters) for row in values])
    drawn = np.random.default_rng(seed).dirichlet(np.ones(clusters), draws) @ sums.T
    return np.bincount(drawn.argmax(1), minlength=len(values)) / draws
