"""The contract of a balancing method: a Lightning callback that sees the named losses and owns the backward step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback, LightningModule
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.task import Task

if TYPE_CHECKING:  # a method that needs no held-out evidence loads none of it
    from pase_msa.heldout.diagnosis import Diagnosis
    from pase_msa.heldout.mixture import MixtureWeights
    from pase_msa.heldout.validation import CoalitionPredictions


@dataclass(frozen=True)
class LossMeasurement:
    """Mean cross-entropy of a network at one moment, in nats per utterance.

    Attributes:
        train: on the training split.
        valid: on the validation split.
    """

    train: float
    valid: float


@dataclass(frozen=True)
class Preparation:
    """What a balancing method may use or ask for before a run trains.

    Attributes:
        task: what is predicted.
        model: the untrained model.
        diagnose: makes the diagnosis of the modalities.
        measure_unimodal: trains a model of the same kind on some of the modalities, without balancing, for a number of
            epochs; returns its losses before and after.
        train_unimodal: trains such a model likewise and returns it in evaluation mode, with the weights of its best
            epoch, for methods that distil from it. A resumed run trains it again, with the same result.
    """

    task: Task
    model: nn.Module
    diagnose: Callable[[], Diagnosis]
    measure_unimodal: Callable[[frozenset[str], int], tuple[LossMeasurement, LossMeasurement]]
    train_unimodal: Callable[[frozenset[str], int], nn.Module]


class BalancingMethod(Callback):
    """Changes what is learned from which modality; override what the method needs.

    A plug-in module offers `Config`, a dataclass of options with a field `name`, and
    `build(config) -> BalancingMethod`; optionally `REDUCED`, a few words on what separates it from the published method
    of its name.

    What is called, by whom and when, in this order; "Lightning" marks its own hooks:

    | hook | called by | when | what it is for |
    | --- | --- | --- | --- |
    | `prepare` | `training.run` | once, before the first step | ask for a diagnosis or unimodal runs; refuse a model |
    | `on_fit_start` | Lightning | once, before the first step | scale learning rates (`rates.scale_rates`) |
    | `mask_modalities` | `SentimentModule` | each step, before the forward pass | choose what utterances show |
    | `reweight` | `SentimentModule` | each step, after the model's losses | weigh losses, add some |
    | `backward` | `SentimentModule` | each step, after the model's `update` | own the backward step |
    | `on_before_optimizer_step` | Lightning | each step, before it is taken | edit gradients |
    | `update_mixture` | `SentimentModule` | each epoch, after validation | decide what predictions are made of |
    | `on_train_epoch_end` | Lightning | each epoch, after that | keep a history |
    | `log_values` | `EpochLog`, `History` | each epoch, after that | report |

    `prepare` may also set the attributes below, and detach encoders by forward hooks of the model. `update_mixture` is
    called where `coalitions` are set.

    Only Lightning's own hooks are called where a method is used as a plain callback of another trainer.

    Attributes:
        active: False in phase 1, when gradients and learning rates may not be touched; the dual-phase rule sets it.
        coalitions: of modalities, whose predictions of the validation split the method needs after each epoch.
        diagnosis: of the modalities, where the method asked for one; its reference becomes part of the model.
        auxiliary_heads: parameters of the method's own, which train along with the model and are not saved with it.
    """

    active: bool = True
    coalitions: Sequence[frozenset[str]] = ()
    diagnosis: Diagnosis | None = None
    auxiliary_heads: nn.Module | None = None

    def prepare(self, preparation: Preparation) -> None:
        """Set up before training."""

    def mask_modalities(self, batch: Batch, probability: float) -> Batch:
        """The training batch with some modalities of some utterances marked absent (modality dropout).

        Args:
            batch: as it was loaded.
            probability: of `training.modality_dropout`.
        """
        return mask_modalities(batch, probability)

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The named losses that are summed, from those of the model.

        Args:
            losses: of the model.
            outputs: of the model, on the batch.
            batch: as the model saw it.
            module: `SentimentModule`, with `model`, `modalities` and `modality_parameters`.
        """
        return dict(losses)

    def backward(self, losses: Mapping[str, Tensor], module: LightningModule, **options: Any) -> None:
        """The backward step over the named losses, as `reweight` returned them."""
        torch.autograd.backward(torch.stack(list(losses.values())).sum(), **options)

    def update_mixture(self, predictions: CoalitionPredictions) -> MixtureWeights | None:
        """What predictions are made of from now on; None leaves them to the network with all modalities.

        Args:
            predictions: of the validation split, by coalition, in the order of `coalitions`.
        """
        return None

    def log_values(self) -> dict[str, float]:
        """Numbers to log at the end of an epoch, by name."""
        return {}


def mask_modalities(batch: Batch, probability: float) -> Batch:
    """Mask each modality of each utterance with `probability`; an utterance never loses its last one."""
    if not probability or len(batch.present) < 2:
        return batch
    names = list(batch.present)
    flags = torch.stack([batch.present[name] for name in names])
    masked = flags & (torch.rand(flags.shape, device=flags.device) >= probability)
    masked = torch.where(masked.any(0), masked, flags)
    return dataclasses.replace(batch, present=dict(zip(names, masked.unbind(), strict=True)))
