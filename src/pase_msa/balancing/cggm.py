"""Classifier-guided gradient modulation, CGGM (Guo et al. 2024, "Classifier-guided Gradient Modulation for Enhanced
Multimodal Learning", NeurIPS), with a direction term of our own.

A linear classifier per modality reads its vector without a gradient to the encoder. How much its accuracy e_m rises
tells how fast the modality gets better. Those that get better more slowly have larger gradients in this step:

1. D_m = the rise of e_m since the step before;
2. B_m = (sum_n D_n - D_m) / sum_n D_n, so that the B_m sum to k - 1;
3. the gradient of the modality's parameters is multiplied by rho B_m;
4. L = L_model + lambda L_dir, L_dir = mean over m of |B_m| - B_m cos(g_m, g), with B of the step before: the gradient g
   of the fused classifier is drawn towards g_m, that of the slow modalities' classifiers.

What differs, and why:

- D is measured between batches, so that its sum is near 0 or below in most steps, where step 2 explodes or turns
  gradients round. Here a fall counts as no rise, and B_m = (k - 1) / k where nothing rises; B_m is never below 0 or
  above 1;
- e_m is a running mean over steps with `smoothing` (0 compares with the last batch alone, as the paper does), of the
  mean probability of the truth instead of the share of right answers or signs, so that scores have it, too;
- the authors' code takes cos between the weights of the classifiers and not between their gradients, and the gradients
  themselves have equal shapes in some networks only. Here they are those of the cross-entropy at the logits,
  p_m - u and p - u over all utterances with the modality, which every model has. g_m is a constant;
- the classifiers are trained by L_task along with the model, by its optimiser instead of one of their own.

An utterance counts for the modalities that it has; a modality that no utterance of a step has keeps its e_m. Adam
undoes what is constant in rho B_m. Where one modality is all there is, B would be 0: nothing is done then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.epochs import EpochMeans
from pase_msa.balancing.heads import UnimodalHeads
from pase_msa.balancing.rates import owners
from pase_msa.batch import Batch, Outputs
from pase_msa.ranges import NOT_NEGATIVE, POSITIVE, PROPER_SHARE, check_ranges
from pase_msa.task import Task

_EPS = 1e-8


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        rho: factor on every modality's gradient.
        direction: lambda, weight of the direction term; 0 leaves it out.
        smoothing: of the accuracies over steps, in [0, 1); 0 takes those of the newest step alone, as the paper does.
    """

    name: str = "cggm"
    rho: float = 1.3
    direction: float = 0.2
    smoothing: float = 0.9

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", rho=POSITIVE, direction=NOT_NEGATIVE, smoothing=PROPER_SHARE)


def coefficients(rises: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """B_m of step 2 from D_m; a fall is no rise, and all are (k - 1) / k where nothing rises."""
    safe = rises.clamp(min=0) + _EPS
    return 1 - safe / safe.sum()


def direction_loss(
    balance: Float[Tensor, " m"],
    alone: Float[Tensor, "m n k"],
    fused: Float[Tensor, "n k"],
    present: Bool[Tensor, "m n"],
) -> Float[Tensor, ""]:
    """L_dir of step 4, not below 0; a modality that no utterance has is left out.

    Args:
        balance: B_m.
        alone: g_m, the gradient at the logits of each modality's classifier.
        fused: g, that at the logits of the fused one.
        present: whether the utterance has the modality.
    """
    here = present.unsqueeze(2)
    dots = (alone * fused * here).sum((1, 2))
    norms = [((part.square() * here).sum((1, 2)) + _EPS).sqrt() for part in (alone, fused.expand_as(alone))]
    each = balance.abs() - balance * dots / (norms[0] * norms[1])
    occurs = present.any(1)
    return (each * occurs).sum() / occurs.sum().clamp(min=1)


class ClassifierGuidedModulation(EpochMeans):
    """See the module.

    Attributes:
        auxiliary_heads: the classifiers, by modality.
        accuracies: e_m, [M], in the task's order; below 0 for a modality that was not seen. None before the first step.
        balance: B_m of the newest step, [M]; None before the first.
        history: one entry per epoch, {"epoch", "active", "e/...", "B/..."}: means over its steps.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.task: Task | None = None
        self.heads: UnimodalHeads | None = None
        self.accuracies: Tensor | None = None
        self.balance: Tensor | None = None
        self._correct: Tensor | None = None

    def prepare(self, preparation: Preparation) -> None:
        """Make the classifiers; refuse a model without modality vectors. One modality alone needs none."""
        self.task = preparation.task
        if len(self.task.modalities) > 1:
            self.auxiliary_heads = self.heads = UnimodalHeads("cggm", preparation.task, preparation.model)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that every parameter belongs to one modality at most."""
        owners(pl_module.modalities, pl_module.modality_parameters)  # type: ignore[arg-type]

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses, those of the classifiers, and "direction"."""
        if not self.active or self.heads is None or self.task is None:
            return dict(losses)
        assert batch.labels is not None
        names, membership = self.task.modalities, self.task.membership(batch.labels)
        present = torch.stack([batch.present[name] for name in names])
        with torch.no_grad():
            logits = self.heads.logits(outputs, detached=True)
            probabilities = torch.stack([logits[name] for name in names]).softmax(2)
            truth = (probabilities * membership).sum(2) * present
        newest = torch.stack([truth.sum(1), present.sum(1).to(truth.dtype)])
        self._correct = newest if self._correct is None else self._correct + newest
        result = {**losses, **self.heads.named_losses(outputs, batch, detached=True)}
        if self.config.direction and self.balance is not None:
            fused = outputs.logits.softmax(1) - membership
            balance = self.balance.to(fused.device)
            loss = direction_loss(balance, probabilities - membership, fused, present)
            result["direction"] = self.config.direction * loss
        return result

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure the rises and scale gradients."""
        if not self.active or self._correct is None or self.task is None:
            return
        joint = trainer.strategy.reduce(self._correct, reduce_op="sum")
        assert isinstance(joint, Tensor)
        self._correct = None
        names = self.task.modalities
        balance = self.follow(joint[0], joint[1])
        for index, name in enumerate(names):
            for parameter in pl_module.modality_parameters(name):  # type: ignore[operator]
                if parameter.grad is not None:
                    parameter.grad.mul_(self.config.rho * balance[index])
        assert self.accuracies is not None
        for index, name in enumerate(names):
            self.count({f"e/{name}": self.accuracies[index].clamp(min=0), f"B/{name}": balance[index]})

    @torch.no_grad()
    def follow(self, correct: Float[Tensor, " m"], counts: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Take the summed probabilities of the truth, and the utterances of a step; B_m of steps 1 and 2."""
        before = torch.full_like(correct, -1.0) if self.accuracies is None else self.accuracies.to(correct)
        now = correct / counts.clamp(min=1)
        occurs, known = counts > 0, before >= 0
        smoothed = torch.where(known, before + (1 - self.config.smoothing) * (now - before), now)
        self.accuracies = torch.where(occurs, smoothed, before)
        self.balance = coefficients(torch.where(known, self.accuracies - before, 0.0))
        return self.balance

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return super().state_dict() | {"accuracies": self.accuracies, "balance": self.balance}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        super().load_state_dict(state_dict)
        self.accuracies, self.balance = state_dict["accuracies"], state_dict["balance"]


def build(config: Config) -> ClassifierGuidedModulation:
    """The plug-in's entry point."""
    return ClassifierGuidedModulation(config)
