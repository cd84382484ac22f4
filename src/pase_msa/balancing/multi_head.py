"""The plain control of balancing methods with unimodal heads: the model's losses plus those of a linear head per
modality. Nothing is weighed, compared or modulated.

    L = L_model + weight sum_m L_m        L_m: L_task of a linear layer on the vector of m, over the utterances with m

A method that has such heads (gradient blending, MMPareto) is worth what it gains over this. Optionally all encoders
learn at `factor` times their rate, or from gradients of `factor` times their size.

A public benchmark (BalanceBenchmark) lists under the name of MMPareto (Wei & Hu 2024) a trainer that takes every
gradient after the sum of all losses was differentiated, so that no two of them differ. It amounts to this control with
a factor of 3 on the encoders' gradients (`factor` 3, `apply_to` "gradient").

With Adam, or where gradients are clipped, most of a factor on gradients is undone; one on learning rates is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lightning import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.epochs import EpochMeans
from pase_msa.balancing.heads import UnimodalHeads
from pase_msa.balancing.rates import owners, scale_rates
from pase_msa.batch import Batch, Outputs
from pase_msa.ranges import NOT_NEGATIVE, POSITIVE, check_ranges


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        weight: of the heads' losses.
        factor: by which all encoders learn faster (or slower) than the rest; 1 changes nothing.
        apply_to: the "learning_rate" of the encoders, or their "gradient".
    """

    name: str = "multi_head"
    weight: float = 1.0
    factor: float = 1.0
    apply_to: Literal["learning_rate", "gradient"] = "learning_rate"

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", weight=NOT_NEGATIVE, factor=POSITIVE)


class MultiHead(EpochMeans):
    """See the module.

    Attributes:
        auxiliary_heads: the heads, by modality.
        history: one entry per epoch, {"epoch", "active", "alone/..."}: mean loss of each head over its steps.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.heads: UnimodalHeads | None = None

    def prepare(self, preparation: Preparation) -> None:
        """Make the heads; refuse a model without modality vectors. One modality alone needs none."""
        if len(preparation.task.modalities) > 1:
            self.auxiliary_heads = self.heads = UnimodalHeads("multi_head", preparation.task, preparation.model)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scale the encoders' learning rates from now on, where that is asked for."""
        if self.heads is None or self.config.apply_to != "learning_rate" or self.config.factor == 1.0:
            return
        names = pl_module.modalities
        owner = owners(names, pl_module.modality_parameters)  # type: ignore[arg-type]
        factors = dict.fromkeys(names, self.config.factor)  # type: ignore[arg-type]
        for optimizer in trainer.optimizers:
            scale_rates(optimizer, owner, lambda: factors if self.active else {})

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses and those of the heads."""
        if not self.active or self.heads is None:
            return dict(losses)
        own = self.heads.named_losses(outputs, batch)
        self.count({name: value.detach() for name, value in own.items()})
        return dict(losses) | {name: self.config.weight * value for name, value in own.items()}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Scale the encoders' gradients, where that is asked for."""
        if not self.active or self.heads is None or self.config.apply_to != "gradient":
            return
        for name in pl_module.modalities:  # type: ignore[union-attr]
            for parameter in pl_module.modality_parameters(name):  # type: ignore[operator]
                if parameter.grad is not None:
                    parameter.grad.mul_(self.config.factor)


def build(config: Config) -> MultiHead:
    """The plug-in's entry point."""
    return MultiHead(config)
