"""Prototypical modal rebalance, PMR (Fan et al. 2023, "PMR: Prototypical Modal Rebalance for Multimodal Learning",
CVPR).

The classes' prototypes in each modality's vectors are a classifier without parameters. Its loss reaches an encoder
past the fusion, and its weight goes to whichever modality is behind. With u the class membership of an utterance:

1. prototype c_mk: the mean of the vectors h_m of class k, taken once an epoch;
2. p_mk = softmax over k of -||h_m - c_mk||, loss PCE_m = -sum_k u_k log p_mk, score s_m = sum_k u_k p_mk (means over
   the batch's utterances that have the modality);
3. for two modalities L = L_model + alpha sum_m beta_m PCE_m, with beta_m = clip(s_other / s_m - 1, 0, 1), so that
   only the weaker one is pulled to its prototypes;
4. in the first epochs, less mu beta H(p) of the stronger one, where H is the entropy and beta the weaker one's
   coefficient: what learns fast is kept from settling early.

The authors' published code differs from the paper: it has no step 4, and its coefficient is 0 or alpha. The equations
are built here. Ours:

- any number of modalities: beta_m = clip(s_max / s_m - 1, 0, 1), which is the paper's for two; step 4 concerns the
  modality with s_max, by the largest beta of the others;
- scores instead of classes: u is the soft membership, in prototypes, losses and scores;
- prototypes are means over every step of the epoch before, also of phase 1, where the paper passes over a tenth of
  the data. There are none in a run's first epoch. A class that no utterance has shown has no prototype, and its part
  of a membership no loss;
- the values of mu and of the number of its epochs are not the authors'.

In several processes, scores are of a process's own part of the batch, and prototypes are of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from lightning import LightningModule, Trainer
from torch import Tensor

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.epochs import EpochMeans
from pase_msa.batch import Batch, Outputs
from pase_msa.errors import PaSEError
from pase_msa.ranges import NOT_NEGATIVE, PROPER_SHARE, Range, check_ranges
from pase_msa.task import Task

_EPS = 1e-12  # under the root, whose gradient is infinite at 0


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        alpha: weight of the prototype losses.
        mu: weight of the entropy of the modality that is ahead; 0, as in the authors' code, leaves it out.
        entropy_epochs: epochs of balancing in which that entropy counts.
        epochs: epochs of balancing in which there are prototype losses; 0 is all.
        momentum: share of the old prototypes in the new ones, in [0, 1).
    """

    name: str = "pmr"
    alpha: float = 2.0
    mu: float = 0.1
    entropy_epochs: int = 5
    epochs: int = 0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        number = Range(0, 2**31 - 1, whole=True)
        check_ranges(
            self,
            "balancing",
            alpha=NOT_NEGATIVE,
            mu=NOT_NEGATIVE,
            entropy_epochs=number,
            epochs=number,
            momentum=PROPER_SHARE,
        )


def log_posterior(
    vectors: Float[Tensor, "m n d"], prototypes: Float[Tensor, "m k d"], known: Bool[Tensor, "m k"]
) -> Float[Tensor, "m n k"]:
    """log p_mk of step 2; 0 for a class without a prototype, whose probability is 0, so that no product is infinite."""
    gaps = vectors.unsqueeze(2) - prototypes.unsqueeze(1)
    distances = (gaps.square().sum(3) + _EPS).sqrt()
    seen = known.unsqueeze(1)
    return (-distances).masked_fill(~seen, -torch.inf).log_softmax(2).masked_fill(~seen, 0.0)


def prototype_losses(
    logs: Float[Tensor, "m n k"],
    known: Bool[Tensor, "m k"],
    membership: Float[Tensor, "n k"],
    present: Bool[Tensor, "m n"],
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"], Float[Tensor, " m"]]:
    """PCE, score s and entropy H of each modality, over the utterances that have it; 0 where there is none."""
    here = present.to(logs.dtype)
    counts = here.sum(1).clamp(min=1)
    share = membership * known.unsqueeze(1)
    probabilities = logs.exp() * known.unsqueeze(1)
    loss = -(share * logs).sum(2)
    score = (share * probabilities).sum(2)
    entropy = -(probabilities * logs).sum(2)
    loss, score, entropy = ((torch.stack([loss, score, entropy]) * here).sum(2) / counts).unbind()
    return loss, score, entropy


def coefficients(scores: Float[Tensor, " m"], occurs: Bool[Tensor, " m"]) -> Float[Tensor, " m"]:
    """beta_m of step 3 from positive scores; 0 for a modality that no utterance of the batch has."""
    best = scores.masked_fill(~occurs, 0.0).max()
    return (best / scores.clamp(min=_EPS) - 1).clamp(0, 1) * occurs


class PrototypicalModalRebalance(EpochMeans):
    """See the module.

    Attributes:
        prototypes: [M, K, D], in the task's order of modalities; None before the end of the first epoch.
        known: [M, K], whether a class has a prototype in a modality.
        epochs: with prototype losses so far.
        history: one entry per epoch, {"epoch", "active", "s/...", "beta/..."}: means over the steps with prototypes.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.task: Task | None = None
        self.prototypes: Tensor | None = None
        self.known: Tensor | None = None
        self.epochs = 0
        self._totals: Tensor | None = None
        self._acted = False

    def prepare(self, preparation: Preparation) -> None:
        """Refuse a model without modality vectors."""
        if not getattr(preparation.model, "has_vectors", False):
            raise PaSEError(
                f"pmr makes prototypes of modality vectors, and {type(preparation.model).__name__} has no vectors; "
                "choose another model or balancing method."
            )
        self.task = preparation.task

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses, with "prototype" and, in the first epochs of balancing, "entropy"."""
        if self.task is None or len(self.task.modalities) < 2:
            return dict(losses)
        assert batch.labels is not None
        names = self.task.modalities
        vectors = torch.stack([outputs.vectors[name] for name in names])
        present = torch.stack([batch.present[name] for name in names])
        membership = self.task.membership(batch.labels)
        self._add(vectors.detach(), membership, present)
        over = 0 < self.config.epochs <= self.epochs
        if not self.active or over or self.prototypes is None or self.known is None:
            return dict(losses)
        self._acted = True
        known = self.known.to(vectors.device)
        logs = log_posterior(vectors, self.prototypes.to(vectors), known)
        each, scores, entropies = prototype_losses(logs, known, membership, present)
        beta = coefficients(scores.detach(), present.any(1))
        self._report(names, scores.detach(), beta)
        result = {**losses, "prototype": self.config.alpha * (beta * each).sum()}
        if self.config.mu and self.epochs < self.config.entropy_epochs:
            ahead = torch.nn.functional.one_hot(scores.argmax(), len(names))
            result["entropy"] = -self.config.mu * beta.max() * (ahead * entropies).sum()
        return result

    def _add(self, vectors: Tensor, membership: Tensor, present: Tensor) -> None:
        """Add a batch to the epoch's class sums [M, K, D], with the weight of each class in a last column."""
        weights = membership * present.unsqueeze(2)
        totals = torch.cat([weights.transpose(1, 2) @ vectors, weights.sum(1).unsqueeze(2)], dim=2)
        self._totals = totals if self._totals is None else self._totals + totals

    def _report(self, names: Sequence[str], scores: Tensor, beta: Tensor) -> None:
        for index, name in enumerate(names):
            self.count({f"s/{name}": scores[index], f"beta/{name}": beta[index]})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the prototypes of the next epoch."""
        super().on_train_epoch_end(trainer, pl_module)
        self.epochs += self._acted
        self._acted = False
        if self._totals is None:
            return
        totals = trainer.strategy.reduce(self._totals, reduce_op="sum")
        assert isinstance(totals, Tensor)
        self._totals = None
        self.take_means(totals[..., :-1], totals[..., -1])

    def take_means(self, sums: Float[Tensor, "m k d"], weights: Float[Tensor, "m k"]) -> None:
        """Let class sums become prototypes; a class without weight keeps the one that it had."""
        seen = weights > 0
        means = sums / weights.clamp(min=_EPS).unsqueeze(2)
        if self.prototypes is None or self.known is None:
            self.prototypes, self.known = means, seen
            return
        old, known = self.prototypes.to(means), self.known.to(seen.device)
        rate = self.config.momentum * known.to(means.dtype).unsqueeze(2)
        self.prototypes = torch.where(seen.unsqueeze(2), rate * old + (1 - rate) * means, old)
        self.known = known | seen

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        own = {"prototypes": self.prototypes, "known": self.known, "epochs": self.epochs}
        return super().state_dict() | own

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        super().load_state_dict(state_dict)
        self.prototypes, self.known = state_dict["prototypes"], state_dict["known"]
        self.epochs = int(state_dict["epochs"])


def build(config: Config) -> PrototypicalModalRebalance:
    """The plug-in's entry point."""
    return PrototypicalModalRebalance(config)
