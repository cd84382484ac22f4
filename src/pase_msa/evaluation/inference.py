"""Predictions with the contribution of each modality: one pass of the encoders, one fusion per coalition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pase_msa.calibration import confidence
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.models.base import Model
from pase_msa.shapley import attribution
from pase_msa.task import Task

_ROUNDING = 2e-6  # a contribution below this part of the largest value is rounding: values come in float32


@dataclass
class Inference:
    """A model's predictions of N utterances over K classes.

    Attributes:
        logits: [N, K].
        probabilities: [N, K].
        score: in label units, [N]; None for classes.
        predicted: number of the predicted class, [N].
        confidence: calibrated probability that the prediction is right, [N].
        base: the prediction without any modality: its score, or its probability of the predicted class, [N].
        contributions: by modality, the Shapley value of its presence in the score (or in the probability of the
            predicted class), [N]. They add up to that value minus `base`.
    """

    logits: Float[Tensor, "n k"]
    probabilities: Float[Tensor, "n k"]
    score: Float[Tensor, " n"] | None
    predicted: Tensor
    confidence: Float[Tensor, " n"]
    base: Float[Tensor, " n"]
    contributions: dict[str, Float[Tensor, " n"]]


@torch.inference_mode()
def predict_coalitions(
    model: Model,
    dataset: UtteranceDataset,
    coalitions: Sequence[frozenset[str]],
    *,
    batch_size: int = 256,
    workers: int = 0,
    lost: bool = False,
) -> Float[Tensor, "c n k"]:
    """Logits of a dataset where the model is given only the modalities of a coalition.

    Args:
        model: as it predicts: mixture and reference are part of it. Its mode is restored at the end.
        dataset: N utterances.
        coalitions: sets of modality names; the empty one is the prediction without any modality.
        batch_size: utterances per pass.
        workers: processes that load batches.
        lost: whether the other modalities are as if they had never been there, so that the model weighs what is left;
            see `Model.predict_coalitions`. It makes no difference to a model without weights by what is there.

    Returns:
        Logits [C, N, K] on the CPU, one row per coalition.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for batch in evaluation_loader(dataset, batch_size, workers):
        outputs = model.predict_coalitions(batch.to(device), coalitions, lost=lost)
        parts.append(torch.stack([output.logits.float() for output in outputs]).cpu())
    model.train(training)
    return torch.cat(parts, dim=1)


def infer(model: Model, dataset: UtteranceDataset, *, batch_size: int = 256, workers: int = 0) -> Inference:
    """Predictions of a dataset, with the contribution of each modality; see `predict_coalitions` for the arguments."""
    coalitions, matrix = attribution(tuple(model.task.modalities))
    logits = predict_coalitions(model, dataset, coalitions, batch_size=batch_size, workers=workers)
    return attribute(model.task, logits, matrix, float(model.temperature))


def attribute(task: Task, logits: Float[Tensor, "c n k"], matrix: NDArray[np.float64], temperature: float) -> Inference:
    """Predictions and contributions from the logits of every coalition.

    Args:
        task: what is predicted.
        logits: [C, N, K], the empty coalition first, the one of all modalities last.
        matrix: [M, C], turns values of the coalitions into Shapley values of the M modalities; see `attribution`.
        temperature: of the confidence.
    """
    probabilities = logits.softmax(2)
    predicted = logits[-1].argmax(1)
    if task.kind == "regression":
        values = task.score(probabilities)
        score: Tensor | None = values[-1]
    else:
        values = probabilities[:, torch.arange(logits.shape[1]), predicted]
        score = None
    shares = torch.from_numpy(matrix) @ values.double()
    shares = torch.where(shares.abs() > _ROUNDING * values.abs().amax(0), shares, 0.0).to(values.dtype)
    return Inference(
        logits[-1],
        probabilities[-1],
        score,
        predicted,
        confidence(task, logits[-1], temperature),
        values[0],
        dict(zip(task.modalities, shares.unbind(), strict=True)),
    )
