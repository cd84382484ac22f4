"""Gradient blending (Wang et al. 2020, "What Makes Training Multi-Modal Classification Networks Hard?", CVPR).

Beside the model's own head there is a linear head per modality, on that modality's vector. The loss is the blend of all
heads: each is weighted by how much it generalises over the square of how much it overfits. Predictions are those of the
model's own head.

Over some epochs of training, with L the loss on the training and on the validation split:

    generalisation  G = L_valid(before) - L_valid(after)
    overfitting     O = (L_valid - L_train)(after) - (L_valid - L_train)(before)
    weight          w proportional to G / O^2, all weights summing to one

"offline" measures them before training, in runs of each modality alone and of all together, as the paper's first
variant does. "online" measures them every few epochs on the run's own heads; the paper's second variant trains copies
for that.

The paper has classes. Here L is the cross-entropy against the (soft) class membership, in nats, and a head is trained
by the same losses as the model, on the utterances that have its modality. Three safeguards are ours:

- G is at least a hundredth of the largest, or the model's own head might not be trained at all;
- |O| is at least a tenth of the largest, or a head that happens not to overfit would have all the weight;
- where nothing generalises, weights are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from pase_msa.balancing.base import BalancingMethod, LossMeasurement, Preparation
from pase_msa.balancing.heads import UnimodalHeads
from pase_msa.batch import Batch, Outputs
from pase_msa.objective import soft_cross_entropy
from pase_msa.ranges import COUNT, check_ranges
from pase_msa.task import Task

_JOINT = "+"  # no modality's name: those are words
_LEAST_GAIN, _LEAST_OVERFITTING = 0.01, 0.1


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        estimate: "offline": weights from training runs beforehand; "online": from this run, again and again.
        epochs: of each run beforehand (offline); no more than training.epochs.
        every: epochs between two estimates (online).
    """

    name: str = "gradient_blending"
    estimate: Literal["offline", "online"] = "offline"
    epochs: int = 10
    every: int = 5

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", epochs=COUNT, every=COUNT)


def blend_weights(before: Mapping[str, LossMeasurement], after: Mapping[str, LossMeasurement]) -> dict[str, float]:
    """Weights by name from the losses before and after some epochs of training; see the module."""
    gains = {name: before[name].valid - after[name].valid for name in after}
    largest = max(gains.values())
    if largest <= 0:
        return dict.fromkeys(gains, 1 / len(gains))
    grown = {n: abs((after[n].valid - after[n].train) - (before[n].valid - before[n].train)) for n in after}
    least = max(_LEAST_OVERFITTING * max(grown.values()), 1e-6)
    raw = {n: max(gain, _LEAST_GAIN * largest) / max(grown[n], least) ** 2 for n, gain in gains.items()}
    return {name: value / sum(raw.values()) for name, value in raw.items()}


class GradientBlending(BalancingMethod):
    """See the module.

    Attributes:
        auxiliary_heads: the heads, by modality.
        weights: of the modalities' heads, and under "+" of the model's own.
        history: one entry per epoch, {"epoch", "active", "weights"}.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.task: Task | None = None
        self.heads: UnimodalHeads | None = None
        self.weights: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self._sums: dict[str, dict[str, list[float]]] = {}
        self._anchor: tuple[int, dict[str, LossMeasurement]] | None = None

    def prepare(self, preparation: Preparation) -> None:
        """Make the heads; offline, ask for the runs of each modality alone and of all together."""
        self.task, names = preparation.task, preparation.task.modalities
        self.auxiliary_heads = self.heads = UnimodalHeads("gradient_blending", preparation.task, preparation.model)
        self.weights = dict.fromkeys((*names, _JOINT), 1 / (len(names) + 1))
        if self.config.estimate == "online" or len(names) < 2:
            return
        runs = {name: preparation.measure_unimodal(frozenset([name]), self.config.epochs) for name in names}
        runs[_JOINT] = preparation.measure_unimodal(frozenset(names), self.config.epochs)
        before, after = ({name: pair[end] for name, pair in runs.items()} for end in (0, 1))
        self.weights = blend_weights(before, after)

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The blend of the model's losses and those of the heads."""
        if not self.active or self.task is None or len(self.task.modalities) < 2:
            return dict(losses)
        assert self.heads is not None
        own = self.heads.losses(outputs, batch)
        if self.config.estimate == "online":
            self._measure("train", outputs, batch)
        if not own:
            return dict(losses)
        joint = {name: self.weights[_JOINT] * value for name, value in losses.items()}
        return joint | {f"alone/{name}": self.weights[name] * value for name, value in own.items()}

    @torch.no_grad()
    def _measure(self, split: str, outputs: Outputs, batch: Batch) -> None:
        assert batch.labels is not None
        assert self.task is not None
        membership = self.task.membership(batch.labels)
        sums = self._sums.setdefault(split, {})
        assert self.heads is not None
        for name, logits in (self.heads.logits(outputs) | {_JOINT: outputs.logits}).items():
            values = soft_cross_entropy(logits, membership)
            here = torch.ones_like(values) if name == _JOINT else batch.present[name].to(values.dtype)
            entry = sums.setdefault(name, [0.0, 0.0])
            entry[0] += float((values * here).sum())
            entry[1] += float(here.sum())

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add to the heads' losses on validation."""
        if self.config.estimate == "online" and "train" in self._sums:
            self._measure("valid", pl_module.model.network(batch), batch)  # type: ignore[union-attr,operator]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Estimate the weights anew every few epochs, and add the epoch to the history."""
        measured = self._measured(trainer) if {"train", "valid"} <= set(self._sums) else {}
        self._sums = {}
        if measured and self._anchor is None:
            self._anchor = (trainer.current_epoch, measured)
        elif measured and self._anchor is not None and trainer.current_epoch - self._anchor[0] >= self.config.every:
            self.weights = blend_weights(self._anchor[1], measured)
            self._anchor = (trainer.current_epoch, measured)
        self.history.append({"epoch": trainer.current_epoch, "active": self.active, "weights": dict(self.weights)})

    def _measured(self, trainer: Trainer) -> dict[str, LossMeasurement]:
        means: dict[str, dict[str, float]] = {}
        assert self.task is not None
        names = (*self.task.modalities, _JOINT)
        for split, sums in self._sums.items():
            own = torch.tensor([sums[name] for name in names], device=trainer.strategy.root_device)
            joint = trainer.strategy.reduce(own, reduce_op="sum")
            assert isinstance(joint, Tensor)
            means[split] = {n: total / max(count, 1.0) for n, (total, count) in zip(names, joint.tolist(), strict=True)}
        return {name: LossMeasurement(means["train"][name], means["valid"][name]) for name in names}

    def log_values(self) -> dict[str, float]:
        """The weights, "joint" being the model's own head."""
        return {f"blend/{'joint' if name == _JOINT else name}": value for name, value in self.weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        anchor = None
        if self._anchor is not None:
            anchor = {"epoch": self._anchor[0], "losses": {n: [m.train, m.valid] for n, m in self._anchor[1].items()}}
        return {"active": self.active, "weights": self.weights, "history": self.history, "anchor": anchor}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.active, self.history = bool(state_dict["active"]), list(state_dict["history"])
        self.weights, anchor = dict(state_dict["weights"]), state_dict["anchor"]
        self._anchor = None
        if anchor is not None:
            losses = {name: LossMeasurement(*pair) for name, pair in anchor["losses"].items()}
            self._anchor = (int(anchor["epoch"]), losses)


def build(config: Config) -> GradientBlending:
    """The plug-in's entry point."""
    return GradientBlending(config)
