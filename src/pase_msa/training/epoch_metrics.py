"""The metrics of a validation epoch, gathered over processes by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pase_msa.batch import Outputs
from pase_msa.errors import PaSEError
from pase_msa.metrics import Convention, check_convention, task_metrics
from pase_msa.task import Task


class SentimentMetrics(Metric):
    """`task_metrics` of all utterances of an epoch, gathered over processes, plus the mean entropy."""

    full_state_update = False
    probabilities: list[Tensor]
    score: list[Tensor]
    labels: list[Tensor]

    def __init__(self, task: Task, convention: Convention = "mmsa", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_convention(convention)
        self.task, self.convention = task, convention
        for name in ("probabilities", "labels", *(["score"] if task.kind == "regression" else [])):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, outputs: Outputs, labels: Tensor) -> None:
        """Add the outputs and labels [N] of a batch."""
        probabilities = outputs.probabilities.detach().float()
        self.probabilities.append(probabilities)
        self.labels.append(labels.detach().float())
        if self.task.kind == "regression":
            score = self.task.score(probabilities) if outputs.score is None else outputs.score
            self.score.append(score.detach().float())

    def compute(self) -> dict[str, float]:
        """Metrics as a flat dictionary: `per_class` is left out, `entropy` (mean, nats) is added."""
        if not len(self.labels):
            raise PaSEError("There are no predictions to measure: no update came before compute.")
        probabilities, labels = dim_zero_cat(self.probabilities), dim_zero_cat(self.labels)
        score = dim_zero_cat(self.score) if self.task.kind == "regression" else None
        result = task_metrics(self.task, probabilities, score, labels, self.convention)
        result.pop("per_class", None)
        return result | {"entropy": float(torch.special.entr(probabilities).sum(1).mean())}
