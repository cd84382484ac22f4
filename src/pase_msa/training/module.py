"""The LightningModule: one training loop for every model and every balancing method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from pase_msa.balancing.base import BalancingMethod
from pase_msa.batch import Batch
from pase_msa.errors import PaSEError
from pase_msa.metrics import Convention, headline
from pase_msa.models.base import Model
from pase_msa.training.config import TrainingConfig
from pase_msa.training.optimizers import scheduled_optimizer
from pase_msa.training.sums import EpochSums
from pase_msa.training.validation import EpochValidation

PROGRESS = "val/progress"
"""Logged where a balancing method measures how good the network is by itself; larger is better."""
_NORMS_EVERY = 4  # steps; norms of gradients take about a fiftieth of the time of a small network's step


class SentimentModule(lightning.LightningModule):
    """Trains a model; the balancing method sees its named losses and owns the backward step.

    Args:
        model: the model.
        config: how it is optimised.
        balancing: the balancing method; none if left out.
        seed: the random state of an epoch is a function of this and the epoch's number.
        convention: of the validation metrics.
    """

    def __init__(
        self,
        model: Model,
        config: TrainingConfig,
        balancing: BalancingMethod | None = None,
        *,
        seed: int = 0,
        convention: Convention = "mmsa",
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.balancing = balancing or BalancingMethod()
        self.auxiliary_heads = self.balancing.auxiliary_heads
        self.row_state = model.row_state  # so that it is in the checkpoint and moves to the device
        self.seed = seed
        self.validation = EpochValidation(model, self.balancing, convention)
        self.metrics = self.validation.metrics  # so that they move to the device
        self._losses: dict[str, Tensor] = {}
        self._sums = EpochSums()
        self._steps = 0  # of the optimiser in this epoch

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities; balancing methods read this."""
        return self.model.task.modalities

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Parameters of one modality; balancing methods scale their learning rates or edit their gradients."""
        return self.model.modality_parameters(modality)

    def coalition_utility(self, kind: str, coalition: frozenset[str]) -> float:
        """What a coalition of modalities is worth, for balancing methods.

        Args:
            kind: "alignment" is eq. 19 on the mean losses of this epoch; "prediction" is the gain of the coalition's
                predictions on validation over the class prior, in nats per utterance.
            coalition: names of its modalities.
        """
        if kind == "alignment":
            return self.model.coalition_utility(self.epoch_means, coalition)
        if kind == "prediction":
            return self.validation.gains[coalition]
        raise PaSEError(f"A utility is 'alignment' or 'prediction', not {kind!r}.")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """At the first batch, begin the epoch: set its random state and reset the sums of losses.

        The random state is a function of (seed, epoch), so that a resumed run repeats the epoch. It is set here and not
        at the start of the epoch, because Lightning draws random numbers there, and more of them in a resumed run.
        """
        if batch_idx == 0:
            seed_epoch(self, self.seed)
            self._sums.reset()
            self._steps = 0
            initialise_prototypes(self.model, batch)
            self.model.begin_epoch()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the named losses of a batch, after masking and reweighting by the balancing method."""
        batch = self.balancing.mask_modalities(batch, self.config.modality_dropout)
        outputs = self.model(batch)
        losses = self.model.losses(outputs, batch)
        # before the momentum update, so that the method sees the model that made the outputs
        self._losses = self.balancing.reweight(losses, outputs, batch, self)
        self.model.update(outputs, batch)
        total = torch.stack(list(self._losses.values())).sum()
        named = {f"train/{name}": value for name, value in self._losses.items()}
        self._sums.add({**named, "train/loss": total, **outputs.details})
        return total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Leave the backward step over the named losses to the balancing method."""
        scale = 1.0 / self.trainer.accumulate_grad_batches
        losses = self._losses if scale == 1.0 else {k: v * scale for k, v in self._losses.items()}
        self.balancing.backward(losses, self)

    @torch.no_grad()
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Add the norm of the gradient of each modality to the epoch's sums, before it is clipped, at some steps."""
        if self._steps % _NORMS_EVERY == 0:
            self._sums.add({f"gradient/{name}": self._gradient_norm(name) for name in self.modalities})
        self._steps += 1

    def _gradient_norm(self, modality: str) -> Tensor:
        """Norm of the gradient of a modality's parameters; 0 where no utterance of the step had it."""
        gradients = [p.grad for p in self.modality_parameters(modality) if p.grad is not None]
        norms = [gradient.float().norm() for gradient in gradients]
        return torch.stack(norms).norm() if norms else torch.zeros((), device=self.device)

    @property
    def epoch_means(self) -> dict[str, float]:
        """Means of the training losses and their details, over the steps of this epoch and over processes."""
        return self._sums.means(self.trainer)

    def on_train_epoch_end(self) -> None:
        """Log the mean losses of the epoch."""
        log_now(self, self.epoch_means)

    def on_validation_epoch_start(self) -> None:
        """Forget the predictions of the last pass."""
        self._share_statistics()
        self.validation.reset()

    def _share_statistics(self) -> None:
        """Give all processes the first one's running statistics of batches, which each takes from its own batches."""
        if self.trainer.world_size > 1:
            for part in self.model.modules():
                if getattr(part, "running_mean", None) is not None:
                    for buffer in part.buffers(recurse=False):
                        torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect predictions: of all modalities, or of every coalition that the balancing method needs."""
        self.validation.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Update the mixture where the balancing method has coalitions, and log the metrics of the predictions."""
        values = {f"val/{name}": value for name, value in self.validation.finish(self.trainer, self.device).items()}
        if self.validation.progress is not None:
            self.log(PROGRESS, self.validation.progress)
        main = f"val/{headline(self.model.task)[0]}"  # the one in the progress bar
        self.log_dict({name: value for name, value in values.items() if name != main})
        self.log(main, values[main], prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser of the configuration, and its learning rate as a function of the step."""
        return scheduled_optimizer(self, self.config, int(self.trainer.estimated_stepping_batches))


def seed_epoch(module: lightning.LightningModule, seed: int) -> None:
    """Set the random state of an epoch, a function of (seed, epoch), so that a resumed run repeats the epoch."""
    torch.manual_seed((seed * 1_000_003 + module.current_epoch * 7919 + module.global_rank) % 2**63)


@torch.no_grad()
def initialise_prototypes(model: Model, batch: Batch) -> None:
    """Before the first step of a run, start the prototypes at the class centroids of its first batch."""
    if not model.ready:
        outputs = model(batch)
        model.losses(outputs, batch)
        model.update(outputs, batch)


def log_now(module: lightning.LightningModule, values: Mapping[str, float]) -> None:
    """Log an epoch's values and write them to disk at once.

    Lightning itself writes them after the checkpoint only, so that a kill between the two would lose them.
    """
    for logger in module.loggers:
        logger.log_metrics({**values, "epoch": module.current_epoch}, step=module.global_step)
        logger.save()
