"""Learning rates by modality, from how each modality does on validation. Two rules, both from abstracts only.

"overfitting", after the abstract of Fujimori, Endo, Kawai & Mochizuki 2019, "Modality-Specific Learning Rate Control
for Multimodal Classification", ACPR: every modality overfits at its own time. A linear head per modality is trained
beside the model, L = L_model + sum_m L_m. The validation loss V_m of a head tells when its modality overfits, and then
its encoder is slowed down or stopped while the others go on. The abstract does not say how either is done. Ours:

    stale_m = epochs since the least V_m      factor_m = 1 while stale_m < patience,
                                              then decay^floor(stale_m / patience); decay 0 stops the encoder for good

"utilisation", after the abstract of Guerra-Manzanares & Shamout 2025, "MILES: Modality-Informed Learning Rate Scheduler
for Balancing Multimodal Learning", IJCNN: A is the accuracy on validation after an epoch, with all modalities or with
one masked, and

    u_m = (A - A_without_m) / A               factor_m = mu in the next epoch where u_m is more than tau ahead, else 1

A modality is ahead by its u_m minus the mean of the others', which is the difference for two; the abstract does not say
how it is for more. A is the mean membership of the predicted class, the usual accuracy for classes. This rule adds no
head and no loss.

Not in this file: taking an encoder back to its best weights, which the abstract does not mention. Both rules read the
validation split that selects the epoch, so it is used twice. A rate, unlike a gradient, is not undone by Adam. At a
factor of 0 AdamW's weight decay stops, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from lightning import LightningModule, Trainer
from torch import Tensor

from pase_msa.balancing.base import BalancingMethod, Preparation
from pase_msa.balancing.heads import UnimodalHeads
from pase_msa.balancing.rates import owners, scale_rates
from pase_msa.batch import Batch, Outputs
from pase_msa.ranges import COUNT, NOT_NEGATIVE, PROPER_SHARE, SHARE, check_ranges

if TYPE_CHECKING:  # held-out evidence is slow to load
    from pase_msa.heldout.validation import CoalitionPredictions


REDUCED = "after abstracts only"


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        rule: "overfitting" (Fujimori et al.) or "utilisation" (MILES).
        patience: epochs without a better validation loss of a modality before its encoder is slowed (overfitting).
        decay: factor on the learning rate then, and again after as many epochs; 0 stops the encoder (overfitting).
        tau: how far ahead a modality's utilisation may be (utilisation).
        mu: factor on the learning rate of a modality that is further ahead (utilisation).
    """

    name: str = "modality_lr"
    rule: Literal["overfitting", "utilisation"] = "overfitting"
    patience: int = 3
    decay: float = 0.0
    tau: float = 0.2
    mu: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", patience=COUNT, decay=PROPER_SHARE, tau=NOT_NEGATIVE, mu=SHARE)


def overfitting_factor(stale: int, patience: int, decay: float) -> float:
    """The factor on a learning rate, `stale` epochs after the least validation loss; decay 0 stops."""
    return 1.0 if stale < patience else decay ** (stale // patience)


def accuracy(probabilities: Float[Tensor, "*c n k"], membership: Float[Tensor, "n k"]) -> Float[Tensor, "*c"]:
    """A: mean membership of the predicted class."""
    chosen = torch.nn.functional.one_hot(probabilities.argmax(-1), probabilities.shape[-1])
    return (chosen * membership).sum(-1).mean(-1)


def utilisation_factors(total: float, without: Mapping[str, float], tau: float, mu: float) -> dict[str, float]:
    """mu for modalities that are more than tau ahead, else 1; 1 for all where nothing is predicted right.

    Args:
        total: A with all modalities.
        without: A with one of them masked, by its name.
        tau: see the module.
        mu: see the module.
    """
    others = len(without) - 1
    if others < 1 or total <= 0:
        return dict.fromkeys(without, 1.0)
    used = {name: (total - value) / total for name, value in without.items()}
    gaps = {name: value - (sum(used.values()) - value) / others for name, value in used.items()}
    return {name: mu if gap > tau else 1.0 for name, gap in gaps.items()}


class ModalityLearningRates(BalancingMethod):
    """See the module.

    Attributes:
        auxiliary_heads: the heads, by modality (overfitting).
        factors: of the next epoch's learning rates, by modality.
        best: least validation loss of each head (overfitting).
        stale: epochs since then (overfitting).
        history: one entry per epoch, {"epoch", "active", "factors"} and "losses", the validation losses, or
            "accuracies", with one modality masked and under "all".
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.heads: UnimodalHeads | None = None
        self.modalities: tuple[str, ...] = ()
        self.factors: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.stale: dict[str, int] = {}
        self.history: list[dict[str, Any]] = []
        self._sums: Tensor | None = None
        self._accuracies: dict[str, float] = {}

    def prepare(self, preparation: Preparation) -> None:
        """Make the heads, or ask for the coalitions of all modalities and of all but one. One modality needs neither.

        Errors:
            PaSEError: a model without modality vectors, for the rule "overfitting".
        """
        self.modalities = names = preparation.task.modalities
        if len(names) < 2:
            return
        if self.config.rule == "overfitting":
            self.auxiliary_heads = self.heads = UnimodalHeads("modality_lr", preparation.task, preparation.model)
        else:
            every = frozenset(names)
            self.coalitions = [every, *(every - {name} for name in names)]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scale learning rates from now on."""
        if len(self.modalities) > 1:
            owner = owners(self.modalities, pl_module.modality_parameters)  # type: ignore[arg-type]
            for optimizer in trainer.optimizers:
                scale_rates(optimizer, owner, lambda: self.factors if self.active else {})

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses and those of the heads."""
        if not self.active or self.heads is None:
            return dict(losses)
        return dict(losses) | self.heads.named_losses(outputs, batch)

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add to the heads' losses on validation; this passes each batch through the network once more."""
        if not self.active or self.heads is None:
            return
        found = self.heads.losses(pl_module.model.network(batch), batch)  # type: ignore[union-attr,operator]
        counts = torch.stack([batch.present[name].sum() for name in self.modalities]).to(torch.float64)
        zero = torch.zeros((), device=counts.device)
        means = torch.stack([found.get(name, zero) for name in self.modalities])
        newest = torch.stack([means * counts, counts])
        self._sums = newest if self._sums is None else self._sums + newest

    def update_mixture(self, predictions: CoalitionPredictions) -> None:
        """Measure the accuracies with all modalities and without each; predictions stay those of the network."""
        values = accuracy(predictions.probabilities, predictions.membership.to(predictions.probabilities)).tolist()
        self._accuracies = dict(zip(("all", *self.modalities), values, strict=True))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The factors of the next epoch."""
        losses, accuracies = self._losses(trainer), self._accuracies
        self._accuracies = {}
        if losses:
            self.follow(losses)
        if accuracies:
            without = {name: accuracies[name] for name in self.modalities}
            self.factors = utilisation_factors(accuracies["all"], without, self.config.tau, self.config.mu)
        measured = {"losses": losses} if self.config.rule == "overfitting" else {"accuracies": accuracies}
        entry: dict[str, Any] = {"epoch": trainer.current_epoch, "active": self.active, "factors": dict(self.factors)}
        self.history.append(entry | measured)

    def _losses(self, trainer: Trainer) -> dict[str, float]:
        """The mean validation loss of each head in this epoch, over all processes."""
        if self._sums is None:
            return {}
        joint = trainer.strategy.reduce(self._sums, reduce_op="sum")
        assert isinstance(joint, Tensor)
        self._sums = None
        totals, counts = joint.tolist()
        return {n: total / count for n, total, count in zip(self.modalities, totals, counts, strict=True) if count}

    def follow(self, losses: Mapping[str, float]) -> None:
        """Take the validation losses of an epoch; a modality without any stays as it is."""
        for name, loss in losses.items():
            if name not in self.best or loss < self.best[name]:
                self.best[name], self.stale[name] = loss, 0
            else:
                self.stale[name] += 1
            newest = overfitting_factor(self.stale[name], self.config.patience, self.config.decay)
            # a stopped encoder stays stopped, though its head may yet get better
            self.factors[name] = newest if self.factors.get(name) != 0.0 else 0.0

    def log_values(self) -> dict[str, float]:
        """The factors of the next epoch."""
        return {f"rate/{name}": value if self.active else 1.0 for name, value in self.factors.items()}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        own = {"factors": self.factors, "best": self.best, "stale": self.stale}
        return {"active": self.active, "history": self.history} | own

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.active, self.history = bool(state_dict["active"]), list(state_dict["history"])
        self.factors, self.best = dict(state_dict["factors"]), dict(state_dict["best"])
        self.stale = dict(state_dict["stale"])


def build(config: Config) -> ModalityLearningRates:
    """The plug-in's entry point."""
    return ModalityLearningRates(config)
