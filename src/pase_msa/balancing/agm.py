"""Adaptive gradient modulation, AGM (Li et al. 2023, "Boosting Multi-modal Model Performance with Adaptive Gradient
Modulation", ICCV).

The model's logits are attributed to the modalities by Shapley values, so that any fusion will do. A modality whose part
predicts better than the others', by more than it has done so far, learns more slowly in this step; one that has fallen
behind learns faster.

1. mono-modal response phi_m: the Shapley value of modality m in the logits, u(nothing) = 0; the responses sum to the
   logits;
2. score s_m: log-likelihood of the truth under softmax(phi_m);
3. discrepancy ratio r_m = exp(mean over the others of s_m - s_n), and its reference tau_m, the same of the running
   means of the scores since the method began;
4. the gradient of the modality's parameters is multiplied by kappa_m = exp(-alpha (r_m - tau_m)).

The paper has classes, and two modalities in its experiments. Here a label between two ordered classes counts for both
by its membership. The responses are exact for up to eight modalities and sampled beyond. An utterance counts for the
modalities that it has. Made for SGD: Adam divides a gradient by its own size and undoes part of the factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from pase_msa.balancing.epochs import EpochMeans
from pase_msa.balancing.rates import owners
from pase_msa.balancing.responses import PresentMeans, responses
from pase_msa.batch import Batch, Outputs
from pase_msa.ranges import NOT_NEGATIVE, check_ranges
from pase_msa.shapley import attribution

_MOST_EXPONENT = 10.0  # scores are unbounded below


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        alpha: how strongly a gradient follows the discrepancy; 0 not at all.
    """

    name: str = "agm"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", alpha=NOT_NEGATIVE)


def mono_modal_responses(logits: Float[Tensor, "c n k"], matrix: Float[Tensor, "m c"]) -> Float[Tensor, "m n k"]:
    """phi_m from the logits of every coalition but the empty one, whose logits count as zero."""
    return torch.einsum("mc,cnk->mnk", matrix, logits)


def log_ratios(scores: Mapping[str, float]) -> dict[str, float]:
    """Mean over the other modalities of s_m - s_n; 0 where there are no others."""
    total, others = sum(scores.values()), len(scores) - 1
    if others < 1:
        return dict.fromkeys(scores, 0.0)
    return {name: score - (total - score) / others for name, score in scores.items()}


def coefficients(scores: Mapping[str, float], reference: Mapping[str, float], alpha: float) -> dict[str, float]:
    """kappa_m = exp(-alpha (r_m - tau_m)), from the scores and their running means; exponents end at +-10."""
    now, before = log_ratios(scores), log_ratios({name: reference[name] for name in scores})
    result = {}
    for name in scores:
        gap = math.exp(min(before[name], _MOST_EXPONENT)) - math.exp(min(now[name], _MOST_EXPONENT))
        result[name] = math.exp(max(-_MOST_EXPONENT, min(alpha * gap, _MOST_EXPONENT)))
    return result


class AdaptiveGradientModulation(EpochMeans):
    """See the module.

    Attributes:
        reference: running mean of each modality's score.
        history: one entry per epoch, {"epoch", "active", "score/...", "kappa/..."}: means over its steps.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.reference: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._scores: PresentMeans | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that every parameter belongs to one modality at most, and choose the coalitions of the responses."""
        names = pl_module.modalities
        owners(names, pl_module.modality_parameters)  # type: ignore[arg-type]
        self._scores = PresentMeans(names)  # type: ignore[arg-type]
        coalitions, matrix = attribution(names)
        # the empty coalition's logits count as zero
        self._coalitions, self._matrix = coalitions[1:], torch.as_tensor(matrix[:, 1:], dtype=torch.float32)

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """Score every modality by its part of the logits; the losses stay as they are."""
        if self.active and self._scores is not None and len(self._scores.names) > 1:
            assert batch.labels is not None
            logits = responses(module.model, batch, self._coalitions)  # type: ignore[arg-type]
            logs = mono_modal_responses(logits, self._matrix.to(logits.device)).log_softmax(2)
            self._scores.add((logs * module.model.task.membership(batch.labels)).sum(2), batch)  # type: ignore[union-attr,operator]
        return dict(losses)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Scale gradients."""
        if not self.active or self._scores is None:
            return
        scores = self._scores.take(trainer)
        for name, score in scores.items():
            steps = self._steps[name] = self._steps.get(name, 0) + 1
            mean = self.reference.get(name, score)
            self.reference[name] = mean + (score - mean) / steps
        factors = coefficients(scores, self.reference, self.config.alpha)
        for name, factor in factors.items():
            for parameter in pl_module.modality_parameters(name):  # type: ignore[operator]
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        self.count({f"score/{n}": v for n, v in scores.items()} | {f"kappa/{n}": v for n, v in factors.items()})

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return super().state_dict() | {"reference": self.reference, "steps": self._steps}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        super().load_state_dict(state_dict)
        self.reference, self._steps = dict(state_dict["reference"]), dict(state_dict["steps"])


def build(config: Config) -> AdaptiveGradientModulation:
    """The plug-in's entry point."""
    return AdaptiveGradientModulation(config)
