"""Learning the modality gap, LFM, its alignment under a fixed schedule (Yang, Wan, Jiang, Xu 2024, "Facilitating
Multimodal Classification via Dynamically Learning Modality Gap", NeurIPS).

The labels alone are fitted through the modality that is learned most easily. So what the modalities predict is aligned
first, and the labels gain weight later. With p_m what the network predicts of modality m alone:

    J(p, q) = (KL(c || p) + KL(c || q)) / 2,   c = (p + q) / 2
    L = 2 (a L_model + (1 - a) mean of J over the pairs of modalities)
    a = first + (last - first) min(t / epochs, 1)           in epoch t = 0, 1, ...

The paper learns a from the data. That part is missing: the public code moves it by second derivatives of one parameter
tensor on one batch, and the run that it ships has a hard-coded polynomial of the epoch, near 0.2 at first. `epochs`,
`first` and `last` stand for that polynomial.

Ours: the paper predicts by the mean of the modalities' logits, and L_model is the cross-entropy of that mean. Here any
model may predict; what a modality predicts alone is what the network predicts when it is given nothing else
(`Model.network_coalitions`), and L_model are the model's own losses. The mean of J is over the pairs that an utterance
has, then over the utterances that have a pair. KL(c || p) is as in the code; the Jensen-Shannon divergence would have
KL(p || c). Epochs are counted while the method is active. A step costs one more pass through the fusion per modality,
and for models that do not share the encoding between coalitions one more pass through the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Float
from lightning import LightningModule, Trainer
from torch import Tensor

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.epochs import EpochMeans
from pase_msa.batch import Batch, Outputs
from pase_msa.objective import present_mean
from pase_msa.ranges import COUNT, SHARE, check_ranges

REDUCED = "a fixed schedule in place of the learned one"


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        first: weight a of the model's losses in the first epoch.
        last: a after `epochs` epochs, and from then on.
        epochs: over which it changes.
    """

    name: str = "lfm"
    first: float = 0.2
    last: float = 0.95
    epochs: int = 20

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", first=SHARE, last=SHARE, epochs=COUNT)


def task_weight(epoch: int, first: float, last: float, epochs: int) -> float:
    """a in an epoch, counted from 0."""
    return first + (last - first) * min(epoch / epochs, 1.0)


def gap(logits: Float[Tensor, "m n k"], present: Bool[Tensor, "m n"]) -> Float[Tensor, ""]:
    """Mean of J over the pairs of modalities that an utterance has, and over utterances; 0 where there is no pair."""
    logs = logits.log_softmax(2)
    pairs = torch.tensor(list(combinations(range(len(logits)), 2)), device=logits.device).T
    one, two = logs[pairs[0]], logs[pairs[1]]
    middle = (one.exp() + two.exp()) / 2
    values = (middle * (middle.clamp(min=torch.finfo(middle.dtype).tiny).log() - (one + two) / 2)).sum(2)
    both = present[pairs[0]] & present[pairs[1]]
    each = (values * both).sum(0) / both.sum(0).clamp(min=1)
    return present_mean(each, both.any(0))


class ModalityGap(EpochMeans):
    """See the module.

    Attributes:
        epoch: epochs in which the method was active.
        history: one entry per epoch, {"epoch", "active", "task_weight"}; the gap is among the losses.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.names: tuple[str, ...] = ()
        self.epoch = 0

    def prepare(self, preparation: Preparation) -> None:
        """Take the names of the modalities."""
        self.names = preparation.task.modalities

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the epoch."""
        if self.active and len(self.names) > 1:
            self.epoch += 1
            self.count({"task_weight": self.weight})

    @property
    def weight(self) -> float:
        """a in this epoch."""
        return task_weight(max(self.epoch - 1, 0), self.config.first, self.config.last, self.config.epochs)

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses times 2 a, and "gap", the alignment times 2 (1 - a)."""
        if not self.active or len(self.names) < 2:
            return dict(losses)
        singles = [frozenset([name]) for name in self.names]
        alone = module.model.network_coalitions(batch, singles)  # type: ignore[union-attr,operator]
        present = torch.stack([batch.present[name] for name in self.names])
        distance = gap(torch.stack([single.logits for single in alone]), present)
        weighted = {name: 2 * self.weight * value for name, value in losses.items()}
        return weighted | {"gap": 2 * (1 - self.weight) * distance}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return super().state_dict() | {"epochs": self.epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        super().load_state_dict(state_dict)
        self.epoch = int(state_dict["epochs"])


def build(config: Config) -> ModalityGap:
    """The plug-in's entry point."""
    return ModalityGap(config)
