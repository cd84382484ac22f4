"""The LightningModule of several targets: one model each, which share the encoders, and a batch is encoded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pase_msa.balancing.base import BalancingMethod
from pase_msa.balancing.rates import owners, scale_rates
from pase_msa.batch import Batch
from pase_msa.metrics import headline
from pase_msa.models.base import Model
from pase_msa.training.config import RunConfig
from pase_msa.training.module import PROGRESS, initialise_prototypes, log_now, seed_epoch
from pase_msa.training.optimizers import scheduled_optimizer
from pase_msa.training.phases import TransitionRule
from pase_msa.training.sums import EpochSums
from pase_msa.training.validation import EpochValidation

SELECTION = "val/relative_error"
"""Selects the epoch: mean over targets of the error as a part of that of the best constant; smaller is better.

The error is the mean absolute error of a score, and 1 - f1_weighted of classes.
"""


class TargetModels(nn.Module):
    """Models of several targets that share the encoders and scalers of the first one.

    Args:
        models: by label, over the same modalities.

    Attributes:
        labels: of the targets.
        models: in the same order.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        super().__init__()
        self.labels = tuple(models)
        self.models = nn.ModuleList(models.values())
        first = self[self.labels[0]]
        for label in self.labels[1:]:
            self[label].encoders, self[label].scalers = first.encoders, first.scalers

    def __getitem__(self, label: str) -> Model:
        model = self.models[self.labels.index(label)]
        assert isinstance(model, Model)
        return model

    def encoded(self, batch: Batch) -> Batch:
        """The batch with the vectors of the shared encoders, for models that read vectors."""
        first = self[self.labels[0]]
        if not first.has_vectors:
            return batch
        vectors, present = first.encode(batch)
        return dataclasses.replace(batch, encoded={name: v for name, v in vectors.items() if bool(present[name].any())})


class TargetsModule(lightning.LightningModule):
    """Trains the models of several targets together: the mean of their losses, each over the rows that have its label.

    The labels of a batch are [N, T]. Each target has its own balancing method, whose masks act on the shared vectors,
    so that a target is shown the coalitions that its own evidence asks for.

    Args:
        model: of all targets.
        balancing: of each target, by label.
        constants: error of the best constant on validation, by label.
        config: of the run.
    """

    def __init__(
        self,
        model: TargetModels,
        balancing: Mapping[str, BalancingMethod],
        constants: Mapping[str, float],
        config: RunConfig,
    ) -> None:
        super().__init__()
        self.model, self.balancing, self.constants = model, dict(balancing), dict(constants)
        self.config, self.seed = config.training, config.seed
        self.validations = {
            label: EpochValidation(model[label], method, config.convention) for label, method in balancing.items()
        }
        self.metrics = nn.ModuleList(validation.metrics for validation in self.validations.values())
        self._sums = EpochSums()

    def rows(self, batch: Batch) -> dict[str, tuple[Tensor, Batch]]:
        """By label, which utterances have it, and the batch of these; a target without any is left out."""
        assert batch.labels is not None
        parts = {}
        for column, label in enumerate(self.model.labels):
            labels = batch.labels[:, column]
            known = torch.isfinite(labels)
            if bool(known.any()):
                whole = dataclasses.replace(batch, labels=labels)
                parts[label] = (known, whole if bool(known.all()) else whole.take(known))
        return parts

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """At the first batch, begin the epoch: set its random state and reset the sums of losses."""
        if batch_idx == 0:
            seed_epoch(self, self.seed)
            self._sums.reset()
            for label in self.model.labels:
                self.model[label].begin_epoch()
        for label, (_, part) in self.rows(batch).items():
            initialise_prototypes(self.model[label], part)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean over targets of the sums of their losses."""
        parts, shown = {}, {name: torch.zeros_like(flag) for name, flag in batch.present.items()}
        for label, (known, part) in self.rows(batch).items():
            masked = self.balancing[label].mask_modalities(part, self.config.modality_dropout)
            parts[label] = known, masked
            for name, flag in masked.present.items():
                shown[name][known] |= flag
        # what some target is shown is encoded, once for all of them
        encoded = self.model.encoded(dataclasses.replace(batch, present=shown)).encoded
        totals: list[Tensor] = []
        named: dict[str, Tensor] = {}
        for label, (known, masked) in parts.items():
            model = self.model[label]
            if encoded is not None:
                masked = dataclasses.replace(masked, encoded={name: v[known] for name, v in encoded.items()})
            outputs = model(masked)
            losses = model.losses(outputs, masked)
            model.update(outputs, masked)
            totals.append(torch.stack(list(losses.values())).sum())
            named |= {f"train/{label}/{name}": value for name, value in losses.items()}
        total = torch.stack(totals).sum() / len(self.model.labels)
        self._sums.add({**named, "train/loss": total})
        return total

    def on_train_epoch_end(self) -> None:
        """Log the mean losses of the epoch."""
        log_now(self, self._sums.means(self.trainer))

    def on_validation_epoch_start(self) -> None:
        """Forget the predictions of the last pass."""
        for validation in self.validations.values():
            validation.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect predictions of each target, over the rows that have its label."""
        for label, (_, part) in self.rows(self.model.encoded(batch)).items():
            self.validations[label].add(part)

    def on_validation_epoch_end(self) -> None:
        """Update the mixtures, and log the metrics of each target and the mean that selects the epoch."""
        relative, progress = [], []
        for label, validation in self.validations.items():
            values = validation.finish(self.trainer, self.device)
            self.log_dict({f"val/{label}/{name}": value for name, value in values.items()})
            name, mode = headline(self.model[label].task)
            error = values[name] if mode == "min" else 1.0 - values[name]
            relative.append(error / max(self.constants[label], 1e-12))
            if validation.progress is not None:
                progress.append(validation.progress)
        self.log(SELECTION, sum(relative) / len(relative), prog_bar=True)
        if progress:
            self.log(PROGRESS, sum(progress) / len(progress))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser of the configuration, over the parameters of all targets, each once."""
        return scheduled_optimizer(self, self.config, int(self.trainer.estimated_stepping_batches))


class TargetsBalancing(Callback):
    """The balancing methods of all targets: the phase of each, their part of the checkpoint, and learning rates.

    A shared encoder learns at the largest of the rates that the targets ask for: one that excludes a modality sends it
    no gradient anyway, and must not stop it for another.

    Args:
        methods: by label.
        models: of the targets.
        config: of the run.
    """

    def __init__(self, methods: Mapping[str, BalancingMethod], models: TargetModels, config: RunConfig) -> None:
        super().__init__()
        self.methods, self.models = dict(methods), models
        self.rules = {label: TransitionRule(config.phases, headline(models[label].task)[1]) for label in methods}
        self.ends: dict[str, dict[str, int | None]] = {
            label: {"switched_at": None, "guarded_at": None} for label in methods
        }

    def factors(self) -> dict[str, float]:
        """Learning-rate factor of each shared encoder."""
        found: dict[str, float] = {}
        for method in self.methods.values():
            own = getattr(method, "factors", {}) if method.active else {}
            for name in self.models[self.models.labels[0]].task.modalities:
                found[name] = max(found.get(name, 0.0), own.get(name, 1.0))
        return found

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the phases that the run begins or resumes in, and scale the learning rates from now on."""
        self._set()
        first = self.models[self.models.labels[0]]
        owner = owners(first.task.modalities, first.modality_parameters)
        for optimizer in trainer.optimizers:
            scale_rates(optimizer, owner, self.factors)

    def _set(self) -> None:
        for label, method in self.methods.items():
            method.active = self.rules[label].phase == "balancing"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let each method note the epoch, log its values, and take one step of each rule."""
        logged: dict[str, float] = {}
        for label, method in self.methods.items():
            method.on_train_epoch_end(trainer, pl_module)
            logged |= {f"{name}/{label}": value for name, value in method.log_values().items()}
            values, rule = trainer.callback_metrics, self.rules[label]
            before = rule.phase
            name = headline(self.models[label].task)[0]
            rule.step(float(values[f"val/{label}/entropy"]), float(values[f"val/{label}/{name}"]))
            if rule.phase != before:
                self.ends[label]["switched_at" if rule.phase == "balancing" else "guarded_at"] = trainer.current_epoch
        self._set()
        log_now(pl_module, logged)

    def state_dict(self) -> dict[str, Any]:
        """The state of the checkpoint."""
        rules = {
            label: {name: value for name, value in vars(rule).items() if name not in ("config", "sign")}
            for label, rule in self.rules.items()
        }
        methods = {label: method.state_dict() for label, method in self.methods.items()}
        return {"methods": methods, "rules": rules, "ends": self.ends}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the state of a checkpoint."""
        for label, method in self.methods.items():
            method.load_state_dict(state_dict["methods"][label])
            vars(self.rules[label]).update(state_dict["rules"][label])
        self.ends = state_dict["ends"]
