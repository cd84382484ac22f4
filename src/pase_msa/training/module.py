"""The LightningModule: one training loop for every model and every balancing method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning import Trainer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pase_msa.balancing.base import BalancingMethod
from pase_msa.batch import Batch, Outputs
from pase_msa.encoders.base import Encoder
from pase_msa.errors import PaSEError
from pase_msa.heldout.validation import ValidationCoalitions, outputs_of
from pase_msa.metrics import Convention, SentimentMetrics, headline
from pase_msa.models.base import Model
from pase_msa.objective import soft_cross_entropy
from pase_msa.training.config import TrainingConfig


class SentimentModule(lightning.LightningModule):
    """Trains a model; `modulation` sees its named losses and owns the backward step.

    Args:
        model: the model.
        config: optimisation.
        balancing: the balancing method.
        seed: the epoch's random state is a function of this and the epoch.
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
        self.seed = seed
        self.metrics = SentimentMetrics(model.task, convention)
        self.validation_coalitions = ValidationCoalitions(model.task, self.balancing.coalitions)
        self._losses: dict[str, Tensor] = {}
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._means: dict[str, float] | None = None
        self._validation: dict[str, float] = defaultdict(float)
        self._gains: dict[frozenset[str], float] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names, for balancing methods."""
        return self.model.task.modalities

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Parameters of one modality, for balancing methods."""
        return self.model.modality_parameters(modality)

    def coalition_utility(self, kind: str, coalition: frozenset[str]) -> float:
        """ "alignment": eq. 19 on the means of this epoch; "prediction": gain over the prior on validation, in nats."""
        if kind == "alignment":
            return self.model.coalition_utility(self.epoch_means, coalition)
        if kind == "prediction":
            return self._gains[coalition]
        raise PaSEError(f"A utility is 'alignment' or 'prediction', not {kind!r}.")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begin an epoch: its random state is a function of (seed, epoch), so that a resumed run repeats it.

        At the first batch, because what Lightning draws at the start of an epoch differs in a resumed run.
        """
        if batch_idx == 0:
            torch.manual_seed((self.seed * 1_000_003 + self.current_epoch * 7919 + self.global_rank) % 2**63)
            self._sums, self._means = {}, None
            self._first_look(batch)
            self.model.begin_epoch()

    @torch.no_grad()
    def _first_look(self, batch: Batch) -> None:
        """Let prototypes begin at the first batch's centroids, before anything is made of them."""
        if not self.model.ready:
            outputs = self.model(batch)
            self.model.losses(outputs, batch)
            self.model.update(outputs, batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step."""
        batch = self.balancing.mask_modalities(batch, self.config.modality_dropout)
        outputs = self.model(batch)
        losses = self.model.losses(outputs, batch)
        # before the momentum update, so that a method sees the model that made the outputs
        self._losses = self.balancing.reweight(losses, outputs, batch, self)
        self.model.update(outputs, batch)
        total = torch.stack(list(self._losses.values())).sum()
        seen = {f"train/{name}": value for name, value in self._losses.items()}
        self._count({**seen, "train/loss": total, **outputs.details})
        return total

    @torch.no_grad()
    def _count(self, values: dict[str, Tensor]) -> None:
        """Take scalars into the epoch's sums; one tensor a set of names, so that a step costs one addition."""
        # a one behind the values counts the steps: not every loss is part of every step
        names, stacked = tuple(values), torch.stack([*values.values(), torch.ones_like(next(iter(values.values())))])
        self._sums[names] = self._sums[names] + stacked if names in self._sums else stacked

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The balancing method's backward step over the named losses."""
        scale = 1.0 / self.trainer.accumulate_grad_batches
        losses = self._losses if scale == 1.0 else {k: v * scale for k, v in self._losses.items()}
        self.balancing.backward(losses, self)

    @property
    def epoch_means(self) -> dict[str, float]:
        """Means of the training losses and their details over this epoch's steps, and over processes."""
        if self._means is None:
            sums: dict[str, float] = defaultdict(float)
            counts: dict[str, float] = defaultdict(float)
            for names, stacked in self._sums.items():
                joint = self.trainer.strategy.reduce(stacked, reduce_op="sum")
                assert isinstance(joint, Tensor)
                *values, count = joint.tolist()
                for name, value in zip(names, values, strict=True):
                    sums[name] += value
                    counts[name] += count
            self._means = {name: value / counts[name] for name, value in sums.items()}
        return self._means

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        log_now(self, self.epoch_means)

    def on_validation_epoch_start(self) -> None:
        """Reset."""
        self.metrics.reset()
        self.validation_coalitions.reset()
        self._validation = defaultdict(float)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect predictions, or those of every coalition that the balancing method asks for."""
        collected = self.validation_coalitions
        if collected.coalitions:
            reference = self.model.reference if collected.reference is None else None
            predicted = None if reference is None else reference(batch, [frozenset(self.modalities)])[0]
            collected.add(self.model.network_coalitions(batch, collected.coalitions), batch, predicted)
        else:
            assert batch.labels is not None
            self._measure(self.model.network(batch), batch.labels)

    def _measure(self, outputs: Outputs, labels: Tensor) -> None:
        membership = self.model.task.membership(labels)
        self.metrics.update(outputs, labels)
        self._validation["nll"] += float(soft_cross_entropy(outputs.logits, membership).sum())
        self._validation["count"] += len(labels)

    def _update_mixture(self) -> None:
        """Let the balancing method weigh the coalitions, and measure the predictions that follow."""
        coalitions, labels = self.validation_coalitions.coalitions, self.validation_coalitions.labels
        predictions = self.validation_coalitions.predictions()
        membership = predictions.membership
        prior = (membership * self.model.class_prior.cpu().log()).sum(1)
        gains = (membership * predictions.probabilities.clamp(min=1e-12).log()).sum(2) - prior
        self._gains = dict(zip(coalitions, gains.mean(1).tolist(), strict=True))
        weights = self.balancing.update_mixture(predictions)
        if weights is None:
            probabilities = predictions.probabilities[coalitions.index(frozenset(self.modalities))]
        else:
            self.model.mixture.set(weights.coalition_weights, weights.reference)
            probabilities = weights.cross_fitted
            if weights.progress is not None:
                self.log("val/progress", weights.progress)
        self._measure(outputs_of(self.model.task, probabilities.to(self.device)), labels.to(self.device))

    def on_validation_epoch_end(self) -> None:
        """Log metrics."""
        if self.validation_coalitions.coalitions:
            self._update_mixture()
        own = torch.tensor([self._validation["count"], self._validation["nll"]])
        joint = self.trainer.strategy.reduce(own.to(self.device), reduce_op="sum")
        assert isinstance(joint, Tensor)
        count, nll = joint.tolist()
        values = {f"val/{name}": value for name, value in self.metrics.compute().items()}
        values["val/nll"] = nll / max(count, 1)
        shown = f"val/{headline(self.model.task)[0]}"
        self.log_dict({name: value for name, value in values.items() if name != shown})
        self.log(shown, values[shown], prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One optimiser; parameters with a learning rate of their own in groups of their own."""
        optimizer = make_optimizer(self, self.config)
        total = int(self.trainer.estimated_stepping_batches)
        warm = round(self.config.warmup * total)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / (warm + 1)
            done = (step - warm) / max(total - warm, 1)
            if self.config.schedule == "linear":
                return max(1 - done, 0.0)
            if self.config.schedule == "cosine":
                return 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())
            return 1.0

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The optimiser over a module's parameters, grouped by learning rate."""
    own = {
        id(parameter): rate
        for encoder in model.modules()
        if isinstance(encoder, Encoder)
        for parameter, rate in encoder.learning_rates()
    }
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[own.get(id(parameter), config.learning_rate)].append(parameter)
    listed = [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]
    if config.optimizer == "sgd":
        return SGD(listed, lr=config.learning_rate, momentum=0.9)
    # one kernel for all parameters; elsewhere torch's own choice, since not every precision goes with it
    fused = True if all(p.device.type == "cpu" for p in model.parameters()) else None
    if config.optimizer == "adam":
        return Adam(listed, lr=config.learning_rate, fused=fused)
    return AdamW(listed, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)


def log_now(module: lightning.LightningModule, values: Mapping[str, float]) -> None:
    """Log an epoch's values and have them written: Lightning would only after the checkpoint, where a kill between the
    two loses them."""
    for logger in module.loggers:
        logger.log_metrics({**values, "epoch": module.current_epoch}, step=module.global_step)
        logger.save()


class EpochLog(lightning.Callback):
    """Logs what the balancing method and the model's weights say at the end of an epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: lightning.LightningModule) -> None:
        """Log."""
        assert isinstance(pl_module, SentimentModule)
        values = pl_module.balancing.log_values()
        values["phase"] = float(pl_module.balancing.active)
        weighting = getattr(pl_module.model, "weighting", None)
        if weighting is not None:
            values |= {f"weight/{name}": float(value) for name, value in weighting().items()}
        log_now(pl_module, values)
