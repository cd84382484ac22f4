"""On-the-fly gradient modulation with generalisation enhancement, OGM-GE (Peng et al. 2022, "Balanced Multimodal
Learning via On-the-fly Gradient Modulation", CVPR).

At every step the gradient of the modality that is ahead is made smaller. Gaussian noise makes up for the spread that
the gradient of a batch loses by that.

The paper has two modalities, classes, and a linear layer over a concatenation that it cuts in two. Here:

- what a modality predicts alone is what the network predicts when it is given nothing else
  (`Model.network_coalitions`), for any fusion;
- its score s_m is the mean probability of the truth, over the batch's utterances that have the modality; a label
  between two ordered classes counts for both by its membership;
- its discrepancy ratio rho_m is s_m over the mean score of the other modalities, which is the paper's ratio for two;
- the covariance of the noise is the variance of the gradient's entries, one number per parameter tensor.

Made for SGD: Adam divides a gradient by its own size and undoes part of the factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from pase_msa.balancing.epochs import EpochMeans
from pase_msa.balancing.rates import owners
from pase_msa.balancing.responses import PresentMeans, responses
from pase_msa.batch import Batch, Outputs
from pase_msa.ranges import NOT_NEGATIVE, check_ranges

Noise = Literal["all", "slowed", "none"]


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        alpha: how strongly a modality that is ahead is slowed down; 0 not at all.
        noise: which modalities' gradients get noise: "all" (the paper), those that are "slowed", or "none" (OGM).
    """

    name: str = "ogm_ge"
    alpha: float = 0.3
    noise: Noise = "all"

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", alpha=NOT_NEGATIVE)


def discrepancy_ratios(scores: Mapping[str, float]) -> dict[str, float]:
    """rho_m: a modality's score over the mean score of the others; 1 where there are no others."""
    total, others = sum(scores.values()), len(scores) - 1
    if others < 1:
        return dict.fromkeys(scores, 1.0)
    return {name: score * others / max(total - score, 1e-12) for name, score in scores.items()}


def coefficients(ratios: Mapping[str, float], alpha: float) -> dict[str, float]:
    """k_m = 1 - tanh(alpha rho_m) where the modality is ahead (rho_m > 1), else 1."""
    return {name: 1 - math.tanh(alpha * rho) if rho > 1 else 1.0 for name, rho in ratios.items()}


class OnTheFlyGradientModulation(EpochMeans):
    """See the module.

    Attributes:
        history: one entry per epoch, {"epoch", "active", "rho/...", "k/..."}: means over its steps.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._scores: PresentMeans | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that every parameter belongs to one modality at most."""
        names = pl_module.modalities
        owners(names, pl_module.modality_parameters)  # type: ignore[arg-type]
        self._scores = PresentMeans(names)  # type: ignore[arg-type]

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """Score what every modality predicts alone; the losses stay as they are."""
        if self.active and self._scores is not None and len(self._scores.names) > 1:
            assert batch.labels is not None
            singles = [frozenset([name]) for name in self._scores.names]
            probabilities = responses(module.model, batch, singles).softmax(2)  # type: ignore[arg-type]
            self._scores.add((probabilities * module.model.task.membership(batch.labels)).sum(2), batch)  # type: ignore[union-attr,operator]
        return dict(losses)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Scale gradients and add noise."""
        if not self.active or self._scores is None:
            return
        ratios = discrepancy_ratios(self._scores.take(trainer))
        factors = coefficients(ratios, self.config.alpha)
        generator = None
        for name, factor in factors.items():
            for parameter in pl_module.modality_parameters(name):  # type: ignore[operator]
                if parameter.grad is None:
                    continue
                noisy = self.config.noise == "all" or (self.config.noise == "slowed" and factor < 1)
                if noisy and generator is None:  # the same noise in every process, or their parameters drift apart
                    generator = torch.Generator(parameter.device)
                    seed = int(getattr(pl_module, "seed", 0)) * 15_485_863 + trainer.global_step * 104_729 + 1
                    generator.manual_seed(seed % 2**63)
                edit(parameter.grad, factor, generator if noisy else None)
        self.count({f"rho/{n}": v for n, v in ratios.items()} | {f"k/{n}": v for n, v in factors.items()})


@torch.no_grad()
def edit(gradient: Tensor, factor: float, generator: torch.Generator | None) -> None:
    """k g + h in place; h is Gaussian of the deviation of the entries of g, where there is a generator."""
    deviation = gradient.std(correction=0) if generator is not None else None
    gradient.mul_(factor)
    if deviation is not None:
        noise: dict[str, Any] = {"generator": generator, "device": gradient.device, "dtype": gradient.dtype}
        gradient.add_(deviation * torch.randn(gradient.shape, **noise))


def build(config: Config) -> OnTheFlyGradientModulation:
    """The plug-in's entry point."""
    return OnTheFlyGradientModulation(config)
