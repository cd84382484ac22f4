"""The training objective, equations 15 to 17 of He et al., "PaSE", as named terms that add up."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

Losses = dict[str, Tensor]


def soft_cross_entropy(logits: Float[Tensor, "*n k"], membership: Float[Tensor, "*n k"]) -> Float[Tensor, "*n"]:
    """Cross-entropy against (soft) memberships, eq. 16, one value per utterance."""
    return -(membership * logits.log_softmax(-1)).sum(-1)


def task_losses(
    logits: Float[Tensor, "n k"],
    score: Float[Tensor, " n"] | None,
    labels: Float[Tensor, " n"],
    membership: Float[Tensor, "n k"],
    *,
    class_weight: float = 1.0,
    score_weight: float = 1.0,
) -> Losses:
    """L_task: "class", the cross-entropy of eq. 16, and for regression "score", the absolute error of the score.

    Args:
        logits: [N, K].
        score: [N]; None for classification.
        labels: [N].
        membership: of the labels, [N, K].
        class_weight: of the cross-entropy.
        score_weight: of the absolute error.
    """
    losses = {"class": class_weight * soft_cross_entropy(logits, membership).mean()}
    if score is not None and score_weight:
        losses["score"] = score_weight * (score - labels).abs().mean()
    return losses


def align_losses(intra: Float[Tensor, " m"] | None, inter: Float[Tensor, ""] | None, mu: float) -> Losses:
    """mu L_align, eq. 15 and 17: "intra", the sum of the weighted calibration losses, and "inter", the alignment loss.

    Args:
        intra: calibration losses (eq. 3) times modality weights (eq. 11), [M]; None without calibration.
        inter: alignment loss (eq. 9); None without alignment.
        mu: weight of both.
    """
    losses: Losses = {}
    if intra is not None:
        losses["intra"] = mu * intra.sum()
    if inter is not None:
        losses["inter"] = mu * inter
    return losses


def utterance_losses(
    logits: Float[Tensor, "n k"],
    score: Float[Tensor, " n"] | None,
    labels: Float[Tensor, " n"],
    membership: Float[Tensor, "n k"],
    *,
    class_weight: float = 1.0,
    score_weight: float = 1.0,
) -> Float[Tensor, " n"]:
    """L_task of each utterance, whose mean is the sum of `task_losses`, which has the same arguments."""
    values = class_weight * soft_cross_entropy(logits, membership)
    return values if score is None else values + score_weight * (score - labels).abs()


def present_mean(values: Float[Tensor, " n"], present: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean over the utterances that have something; 0 where none has. It waits for no value, as an index would."""
    here = present.to(values.dtype)
    mean: Tensor = (values * here).sum() / here.sum().clamp(min=1)
    return mean
