"""The contract of a balancing method: a Lightning callback that sees the named losses and owns the backward step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning import Callback, LightningModule
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.heldout.diagnosis import Diagnosis
from pase_msa.task import Task


@dataclass(frozen=True)
class CoalitionPredictions:
    """What each coalition of `games` says of the validation split.

    Attributes:
        probabilities: of the classes, [c, n, k].
        reference: those of the closed-form reference, [n, k], where the model has one.
        membership: the truth, [n, k].
        videos: [n].
        halves: half of the validation videos that each utterance belongs to, 0 or 1, [n].
    """

    probabilities: Float[Tensor, "c n k"]
    reference: Float[Tensor, "n k"] | None
    membership: Float[Tensor, "n k"]
    videos: Int[Tensor, " n"]
    halves: Int[Tensor, " n"]


@dataclass(frozen=True)
class MixtureWeights:
    """What predictions are to be made of.

    Attributes:
        weights: of coalitions, for the model.
        reference: share of its reference.
        cross_fitted: class probabilities of the validation split, each by weights that its own half had no part in, [n, k].
        progress: how far the network is by itself, whether or not predictions follow it yet; larger is better.
    """

    weights: dict[frozenset[str], float]
    reference: float
    cross_fitted: Float[Tensor, "n k"]
    progress: float | None = None


@dataclass(frozen=True)
class Measured:
    """Cross-entropy of a network at one moment, in nats.

    Attributes:
        train: on the training split.
        valid: on the validation split.
    """

    train: float
    valid: float


class BalancingMethod(Callback):
    """Extra losses, gradient edits or learning-rate scales; override what the method needs.

    A plug-in module offers `Config`, a dataclass of options with a field `name`, and `build(config) -> BalancingMethod`.
    Gradients are edited in Lightning's `on_before_optimizer_step`, learning rates as `ShapleyModulation` does.

    Attributes:
        active: False in phase 1, when gradients and learning rates may not be touched; the dual-phase rule sets it.
        games: coalitions of modalities that the method wants played on validation after each epoch; none by default.
        diagnosis: of the modalities, where the method asked for one; its reference becomes part of the model.
        auxiliary_heads: parameters of the method's own, which train along with the model and are not saved with it.
    """

    active: bool = True
    games: Sequence[frozenset[str]] = ()
    diagnosis: Diagnosis | None = None
    auxiliary_heads: nn.Module | None = None

    def prepare(self, task: Task, diagnose: Callable[[], Diagnosis]) -> None:
        """Told once before training what the task is; may ask for a diagnosis of the modalities."""

    def attach(self, model: nn.Module, task: Task) -> None:
        """Told once before training, after `brief`, which model it is; may make a `auxiliary_heads`, or refuse."""

    def measure_unimodal(self, run: Callable[[frozenset[str], int], tuple[Measured, Measured]]) -> None:
        """Told once before training, after `meet`; may ask for training runs beforehand.

        Args:
            run: trains the same kind of model on some of the modalities, without balancing, for a number of epochs,
                and gives its losses before and after.
        """

    def mask_modalities(self, batch: Batch, probability: float) -> Batch:
        """The training batch with some modalities of some utterances marked absent (modality dropout)."""
        return mask_modalities(batch, probability)

    def settle(self, played: CoalitionPredictions) -> MixtureWeights | None:
        """Told what `games` came to after each epoch; may say which of them predictions are made of."""
        return None

    def on_outputs(self, outputs: Outputs, batch: Batch, module: LightningModule) -> None:
        """Shown the outputs of a training batch, and the batch, once the model's losses are there."""

    def reweight(self, losses: Mapping[str, Tensor], module: LightningModule) -> dict[str, Tensor]:
        """The named losses, with some added or reweighed, before they are summed."""
        return dict(losses)

    def backward(self, losses: Mapping[str, Tensor], module: LightningModule, **options: Any) -> None:
        """The backward step over the named losses."""
        torch.autograd.backward(torch.stack(list(losses.values())).sum(), **options)

    def log_values(self) -> dict[str, float]:
        """What to log at the end of an epoch."""
        return {}


def mask_modalities(batch: Batch, probability: float) -> Batch:
    """Each modality of each utterance absent with `probability`; an utterance never loses its last one."""
    if not probability or len(batch.present) < 2:
        return batch
    names = list(batch.present)
    flags = torch.stack([batch.present[name] for name in names])
    kept = flags & (torch.rand(flags.shape, device=flags.device) >= probability)
    kept = torch.where(kept.any(0), kept, flags)
    return dataclasses.replace(batch, present=dict(zip(names, kept.unbind(), strict=True)))
