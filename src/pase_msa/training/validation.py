"""What an epoch's validation pass tells of a model: the weights of its mixture, and the metrics that follow."""

from __future__ import annotations

import math

import torch
from lightning import Trainer
from torch import Tensor

from pase_msa.balancing.base import BalancingMethod
from pase_msa.batch import Batch, Outputs
from pase_msa.errors import PaSEError
from pase_msa.heldout.validation import ValidationCoalitions, outputs_of
from pase_msa.metrics import Convention
from pase_msa.models.base import Model
from pase_msa.objective import soft_cross_entropy
from pase_msa.training.epoch_metrics import SentimentMetrics


class EpochValidation:
    """Collects the predictions of a pass, and lets the balancing method weigh the coalitions at its end.

    Args:
        model: its mixture is set where the balancing method weighs coalitions.
        balancing: the balancing method.
        convention: of the metrics.

    Attributes:
        metrics: of the predictions, for a LightningModule to register.
        gains: of each coalition over the class prior, in nats per utterance, after a pass.
        progress: how good the network is by itself, where the balancing method measures it; larger is better.
    """

    def __init__(self, model: Model, balancing: BalancingMethod, convention: Convention) -> None:
        self.model, self.balancing = model, balancing
        self.metrics = SentimentMetrics(model.task, convention)
        self.coalitions = ValidationCoalitions(model.task, balancing.coalitions)
        self.gains: dict[frozenset[str], float] = {}
        self.progress: float | None = None
        self._nll = self._count = 0.0

    def reset(self) -> None:
        """Forget the predictions of the last pass."""
        self.metrics.reset()
        self.coalitions.reset()
        self.progress = None
        self._nll = self._count = 0.0

    def add(self, batch: Batch) -> None:
        """Collect predictions: of all modalities, or of every coalition that the balancing method needs."""
        collected = self.coalitions
        if collected.coalitions:
            # the reference is not trained, so that its predictions of the first pass hold for all
            reference = self.model.reference if collected.reference is None else None
            collected.add(self.model.network_coalitions(batch, collected.coalitions), batch, reference)
        else:
            assert batch.labels is not None
            self._measure(self.model.network(batch), batch.labels)

    def _measure(self, outputs: Outputs, labels: Tensor) -> None:
        """Add predictions to the metrics and to the cross-entropy (eq. 16)."""
        membership = self.model.task.membership(labels)
        self.metrics.update(outputs, labels)
        self._nll += float(soft_cross_entropy(outputs.logits, membership).sum())
        self._count += len(labels)

    def finish(self, trainer: Trainer, device: torch.device) -> dict[str, float]:
        """The metrics of the pass and "nll", with the mixture that the balancing method makes of it.

        Errors:
            PaSEError: the predictions are not finite.
        """
        if self.coalitions.coalitions:
            self._update_mixture(trainer, device)
        mine = torch.tensor([self._count, self._nll])
        joint = trainer.strategy.reduce(mine.to(device), reduce_op="sum")
        assert isinstance(joint, Tensor)
        count, nll = joint.tolist()
        if not math.isfinite(nll):  # of all processes, so that none of them waits for one that has ended
            raise _diverged(trainer)
        return {**self.metrics.compute(), "nll": nll / max(count, 1)}

    def _update_mixture(self, trainer: Trainer, device: torch.device) -> None:
        """Let the balancing method weigh the coalitions, and measure the predictions that follow."""
        if trainer.world_size > 1:
            self.coalitions.gather()
        coalitions, labels = self.coalitions.coalitions, self.coalitions.labels
        predictions = self.coalitions.predictions()
        membership = predictions.membership
        if not bool(torch.isfinite(predictions.probabilities).all()):
            raise _diverged(trainer)
        prior = (membership * self.model.class_prior.cpu().log()).sum(1)
        gains = (membership * predictions.probabilities.clamp(min=1e-12).log()).sum(2) - prior
        self.gains = dict(zip(coalitions, gains.mean(1).tolist(), strict=True))
        weights = self.balancing.update_mixture(predictions)
        if weights is None:
            probabilities = predictions.probabilities[coalitions.index(frozenset(self.model.task.modalities))]
        else:
            self.model.mixture.set(weights.coalition_weights, weights.reference, weights.given)
            probabilities, self.progress = weights.cross_fitted, weights.progress
        self._measure(outputs_of(self.model.task, probabilities.to(device)), labels.to(device))


def _diverged(trainer: Trainer) -> PaSEError:
    return PaSEError(
        f"Training diverged in epoch {trainer.current_epoch}: what the model predicts is no number any more; lower "
        "training.learning_rate, or see with `pase inspect` whether features have extreme values."
    )
