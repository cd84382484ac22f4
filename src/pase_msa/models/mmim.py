"""MMIM (Han, Chen, Poria 2021, "Improving Multimodal Fusion with Hierarchical Mutual Information Maximization", EMNLP).

Two bounds are raised beside L_task. Between the vectors of a hub modality (text, or else the first) and each other one,
a Gaussian likelihood of the other from the hub, with the entropy of the other by the sign of the label ("bound").
Between the fused vector and each modality's, noise-contrastive estimation (CPC): from the fused vector of an utterance
its own vector of the modality must be told from those of other utterances ("contrast").

Ours, where the published code goes another way:

- The likelihood modules are trained on detached vectors and the vectors through frozen copies of the modules, in one
  step; the authors alternate two passes and two optimisers.
- The log-variance is bounded by tanh, and its half is part of the likelihood, which has no maximum without it. The
  likelihood is a mean over coordinates and not a sum, so that its weight does not depend on the width.
- A covariance gets a small diagonal, and a group of fewer than five rows no entropy. Groups are the poles of a score,
  or the classes. Rows of the batch before are not remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import FusedModel
from pase_msa.objective import Losses
from pase_msa.ranges import NOT_NEGATIVE, SIZE, check_model
from pase_msa.task import Task

_LEAST_ROWS, _DIAGONAL, _ENTROPY_SIZE = 5, 1e-2, 4


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        hidden: size of the fused vector.
        dropout: on the vectors.
        contrast: weight alpha of the contrastive estimation.
        bound: weight beta of the likelihood and entropy.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mmim"
    width: int = 64
    hidden: int = 128
    dropout: float = 0.1
    contrast: float = 0.1
    bound: float = 0.1
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, hidden=SIZE, contrast=NOT_NEGATIVE, bound=NOT_NEGATIVE)


class GaussianPair(nn.Module):
    """Likelihood of vectors y from x, both [N, D], under a Gaussian whose mean and variance are functions of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.log_variance = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh())

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Mean over rows and coordinates of -(m(x) - y)^2 / (2 e^v) - v / 2."""
        mean, log_variance = self.mean(x), self.log_variance(x)
        likelihood: Tensor = (-(mean - y).square() / (2 * log_variance.exp()) - log_variance / 2).mean()
        return likelihood


def gaussian_entropy(samples: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Half the log-determinant of the covariance (divisor N, with a small diagonal) of samples."""
    centred = samples - samples.mean(0)
    covariance = centred.T @ centred / len(samples)
    eye = torch.eye(len(covariance), dtype=samples.dtype, device=samples.device)
    return (covariance + _DIAGONAL * eye).logdet() / 2


def contrastive_estimation(x: Float[Tensor, "n d"], guess: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean of -cos(x_i, g_i) + log sum_j exp cos(x_i, g_j)."""
    similarity = F.normalize(x, dim=1) @ F.normalize(guess, dim=1).T
    return (similarity.logsumexp(1) - similarity.diagonal()).mean()


class MMIM(FusedModel):
    """Encoders, two layers over the concatenation, and the head."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names, width = task.modalities, config.width
        self.hub = "text" if "text" in names else names[0]
        self.others = [name for name in names if name != self.hub]
        self.mix = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(width * len(names), config.hidden),
            nn.Tanh(),
            nn.Linear(config.hidden, config.hidden),
            nn.Tanh(),
        )
        self.head = nn.Linear(config.hidden, task.num_classes)
        self.pairs = nn.ModuleDict({name: GaussianPair(width) for name in self.others})
        self.entropies = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(width, _ENTROPY_SIZE), nn.Tanh()) for name in self.others}
        )
        self.guesses = nn.ModuleDict({name: nn.Linear(config.hidden, width) for name in names})

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The fused vector of the concatenation."""
        fused: Tensor = self.mix(torch.cat([parts[name] for name in self.task.modalities], dim=1))
        return fused

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, "contrast", "bound", and "likelihood", which trains the likelihood modules alone."""
        assert batch.labels is not None
        losses, config, vectors = super().losses(outputs, batch), self.config, outputs.vectors
        contrast = [
            contrastive_estimation(vectors[name][here], self.guesses[name](outputs.fused[here]))
            for name, here in outputs.present.items()
            if bool(here.any())
        ]
        if contrast:
            losses["contrast"] = config.contrast * torch.stack(contrast).sum()
        bounds, likelihoods = [], []
        for name, pair in self.pairs.items():
            both = outputs.present[self.hub] & outputs.present[name]
            if bool(both.any()):
                x, y = vectors[self.hub][both], vectors[name][both]
                likelihoods.append(pair(x.detach(), y.detach()))
                frozen = {key: value.detach() for key, value in pair.named_parameters()}
                bounds.append(functional_call(pair, frozen, (x, y)) + self._entropy(name, y, batch.labels[both]))
        if bounds:
            losses["bound"] = -config.bound * torch.stack(bounds).sum()
            losses["likelihood"] = -torch.stack(likelihoods).sum()
        return losses

    def _entropy(self, name: str, vectors: Float[Tensor, "n d"], labels: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Mean entropy over the poles of the score, or over the classes, of the projected vectors."""
        projected = self.entropies[name](vectors)
        if self.task.values is not None:
            groups = [labels > self.task.center, labels < self.task.center]
        else:
            groups = [labels == number for number in range(self.task.num_classes)]
        values = [gaussian_entropy(projected[group]) for group in groups if int(group.sum()) >= _LEAST_ROWS]
        # the sum times zero keeps the projection's gradient defined where no group is large enough
        return torch.stack(values).mean() if values else projected.sum() * 0.0


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MMIM:
    """The plug-in's entry point."""
    return MMIM(task, inputs, config)
