"""EUAR (Gao, Hu, Jiang, Lu, Shen, Xu 2024, "Enhanced Experts with Uncertainty-Aware Routing", ACM MM).

From the authors' partial code; the weights of its losses are not from the paper. Each modality has a mixture of
Gaussian experts: an expert gives a mean and a variance of every coordinate, a gate sends an utterance to its `active`
best experts, and the modality's vector is the gated sum of samples in training and of means in evaluation. Losses keep
experts near the standard normal ("kl"), spread utterances over experts ("balance"), and prefer certain experts
("uncertainty").

Ours, where the published code goes another way: gates are normalised per utterance, since a normalisation over the
batch makes a prediction depend on its neighbours; samples are used in training (there the variance has no effect on
the output); sums over coordinates are means. An absent modality adds zero and has no part in a loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.objective import Losses
from pase_msa.ranges import NOT_NEGATIVE, SIZE, check_model
from pase_msa.task import Task

REDUCED = "after partial code, loss weights not the paper's"


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        experts: per modality.
        active: experts that an utterance goes to.
        dropout: in the head.
        kl: weight of the divergence of experts from the standard normal.
        balance: weight of the spread over experts.
        uncertainty: weight of the variance of the experts that are used.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "euar"
    width: int = 72
    experts: int = 4
    active: int = 3
    dropout: float = 0.1
    kl: float = 1e-3
    balance: float = 1e-3
    uncertainty: float = 1e-3
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, experts=SIZE, active=SIZE, kl=NOT_NEGATIVE, balance=NOT_NEGATIVE, uncertainty=NOT_NEGATIVE)
        if not 1 <= self.active <= self.experts:
            raise PaSEError(
                f"model.active of euar is between 1 and model.experts ({self.experts}), found {self.active}."
            )


class GaussianExperts(nn.Module):
    """Experts with mean and variance, and their gate, for the vectors of one modality.

    Args:
        width: size D of the vectors.
        experts: number E of experts.
        active: number of them that a vector goes to.
    """

    def __init__(self, width: int, experts: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.mean = nn.Linear(width, experts * width)
        self.log_variance = nn.Linear(width, experts * width)
        self.gate = nn.Linear(width, experts)

    def forward(self, vectors: Float[Tensor, "n d"]) -> tuple[Tensor, dict[str, Tensor]]:
        """The gated sum [N, D], and "mean" and "log_variance" [N, E, D], "probability" and "gate" [N, E]."""
        by_expert = (-1, vectors.shape[1])
        mean = self.mean(vectors).unflatten(1, by_expert)
        log_variance = self.log_variance(vectors).unflatten(1, by_expert).clamp(-10, 10)
        probability = self.gate(vectors).softmax(1)
        chosen = torch.zeros_like(probability).scatter(1, probability.topk(self.active, dim=1).indices, 1.0)
        gate = probability * chosen
        gate = gate / gate.sum(1, keepdim=True)
        sample = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        parts = {"mean": mean, "log_variance": log_variance, "probability": probability, "gate": gate}
        return (gate.unsqueeze(2) * sample).sum(1), parts


def standard_normal_divergence(mean: Tensor, log_variance: Tensor) -> Float[Tensor, ""]:
    """Mean over coordinates of the Kullback-Leibler divergence of N(mean, variance) from N(0, 1)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2


def expert_balance(probability: Float[Tensor, "n e"], gate: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """E^2 mean_e (share of rows that use e times mean probability of e): the number of active experts if uniform."""
    experts = probability.shape[1]
    return experts**2 * ((gate > 0).to(gate.dtype).mean(0) * probability.mean(0)).mean()


class EUAR(FusedModel):
    """Encoders, Gaussian experts per modality, concatenation, and the head."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.experts = nn.ModuleDict(
            {name: GaussianExperts(config.width, config.experts, config.active) for name in task.modalities}
        )
        sizes = [config.width * len(task.modalities), 72, 128, 128]
        layers: list[nn.Module] = []
        for size, following in itertools.pairwise(sizes):
            layers += [nn.Linear(size, following), nn.LayerNorm(following), nn.ReLU(), nn.Dropout(config.dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], task.num_classes))

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The experts' vectors side by side."""
        vectors, state = [], {}
        for name, experts in self.experts.items():
            vector, details = experts(parts[name])
            vectors.append(vector * present[name].unsqueeze(1))
            state.update({f"{key}/{name}": value for key, value in details.items()})
        return torch.cat(vectors, dim=1), state

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, "kl", "balance" and "uncertainty"."""
        losses, state, config = super().losses(outputs, batch), self.tensors(outputs), self.config
        terms: dict[str, list[Tensor]] = {"kl": [], "balance": [], "uncertainty": []}
        for name, here in outputs.present.items():
            if not bool(here.any()):
                continue
            mean, log_variance, probability, gate = (
                state[f"{key}/{name}"][here] for key in ("mean", "log_variance", "probability", "gate")
            )
            terms["kl"].append(standard_normal_divergence(mean, log_variance))
            terms["balance"].append(expert_balance(probability, gate))
            terms["uncertainty"].append((gate * log_variance.exp().mean(2)).sum(1).mean())
        weights = {"kl": config.kl, "balance": config.balance, "uncertainty": config.uncertainty}
        return losses | {key: weights[key] * torch.stack(values).sum() for key, values in terms.items() if values}

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and experts."""
        return [*self.encoders[modality].parameters(), *self.experts[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> EUAR:
    """The plug-in's entry point."""
    return EUAR(task, inputs, config)
