"""Predictions with what each modality contributed: one pass of the encoders, one fusion a coalition."""

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

_DUST = 2e-6  # share of a value that is no contribution, but rounding: values come in float32


@dataclass
class Inference:
    """What a model says about N utterances.

    Attributes:
        logits: [N, K].
        probabilities: [N, K].
        score: [N] (regression), else None.
        predicted: class number, [N].
        confidence: calibrated, [N].
        base: what would be said without any modality: the score, or the probability of the predicted class, [N].
        contributions: by modality, the Shapley value of its presence in the score (or in the probability of the
            predicted class), [N]; they add up to the value less `base`.
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
    games: Sequence[frozenset[str]],
    *,
    batch_size: int = 256,
    workers: int = 0,
) -> Float[Tensor, "c n k"]:
    """Logits with only the named modalities, one a coalition, on the CPU."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for batch in evaluation_loader(dataset, batch_size, workers):
        outputs = model.predict_coalitions(batch.to(device), games)
        parts.append(torch.stack([output.logits.float() for output in outputs]).cpu())
    model.train(training)
    return torch.cat(parts, dim=1)


def infer(model: Model, dataset: UtteranceDataset, *, batch_size: int = 256, workers: int = 0) -> Inference:
    """Predict and attribute."""
    games, matrix = attribution(tuple(model.task.modalities))
    logits = predict_coalitions(model, dataset, games, batch_size=batch_size, workers=workers)
    return attribute(model.task, logits, matrix, float(model.temperature))


def attribute(task: Task, logits: Float[Tensor, "c n k"], matrix: NDArray[np.float64], temperature: float) -> Inference:
    """Predictions and contributions from the logits of every coalition (the empty one first, all last)."""
    probabilities = logits.softmax(2)
    predicted = logits[-1].argmax(1)
    if task.kind == "regression":
        values = task.score(probabilities)
        score: Tensor | None = values[-1]
    else:
        values = probabilities[:, torch.arange(logits.shape[1]), predicted]
        score = None
    shares = torch.from_numpy(matrix) @ values.double()
    shares = torch.where(shares.abs() > _DUST * values.abs().amax(0), shares, 0.0).to(values.dtype)
    return Inference(
        logits[-1],
        probabilities[-1],
        score,
        predicted,
        confidence(task, logits[-1], temperature),
        values[0],
        dict(zip(task.modalities, shares.unbind(), strict=True)),
    )
