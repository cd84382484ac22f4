"""Temperatures at which predictions make held-out labels most likely: over-confidence should not count as error.

Probabilities p become softmax(b log p) at an inverse temperature b, one per coalition, of a fixed set.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

_INVERSE_TEMPERATURES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5)


def tempered(probabilities: Float[Tensor, "c n k"]) -> Float[Tensor, "t c n k"]:
    """Log-probabilities at every temperature."""
    logs = probabilities.clamp(min=1e-12).log()
    return torch.stack([(logs * inverse).log_softmax(2) for inverse in _INVERSE_TEMPERATURES])


def most_likely(
    candidates: Float[Tensor, "t c n k"], membership: Float[Tensor, "n k"], rows: Bool[np.ndarray, " n"]
) -> Float[Tensor, "c n k"]:
    """For every coalition, the probabilities at the temperature that makes the given utterances most likely.

    Args:
        candidates: log-probabilities at every temperature, of `tempered`.
        membership: class membership of the labels.
        rows: utterances that the temperature is fitted on; the result holds all of them.
    """
    chosen = torch.as_tensor(np.flatnonzero(rows))
    likelihood = (membership[chosen] * candidates[:, :, chosen]).sum(3).mean(2)  # [t, c]
    return candidates[likelihood.argmax(0), torch.arange(candidates.shape[1])].exp()


def calibrated(
    probabilities: Float[Tensor, "c n k"], membership: Float[Tensor, "n k"], rows: Bool[np.ndarray, " n"]
) -> Float[Tensor, "c n k"]:
    """Every coalition's probabilities at the temperature that makes the given utterances most likely."""
    return most_likely(tempered(probabilities), membership, rows)


def log_likelihood(probabilities: Float[Tensor, "c n k"], membership: Float[Tensor, "n k"]) -> Float[Tensor, "c n"]:
    """Log-likelihood of the labels under each coalition's probabilities, in nats per utterance."""
    return (membership * probabilities.clamp(min=1e-12).log()).sum(2)
