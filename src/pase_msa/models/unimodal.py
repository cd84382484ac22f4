"""The loss of what one modality predicts."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from pase_msa.objective import present_mean, utterance_losses
from pase_msa.task import Task


def unimodal_loss(
    task: Task,
    logits: Float[Tensor, "n k"],
    labels: Float[Tensor, " n"],
    present: Bool[Tensor, " n"],
    *,
    class_weight: float = 1.0,
    score_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """L_task, eq. 16, of what one modality predicts, over the utterances that have it.

    Args:
        task: what is predicted.
        logits: of the modality, [N, K].
        labels: [N].
        present: whether the utterance has the modality, [N].
        class_weight: of the cross-entropy.
        score_weight: of the absolute error of the score (regression).
    """
    score = task.score(logits.softmax(1)) if task.kind == "regression" and score_weight else None
    weights = {"class_weight": class_weight, "score_weight": score_weight}
    return present_mean(utterance_losses(logits, score, labels, task.membership(labels), **weights), present)
