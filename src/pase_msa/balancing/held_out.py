"""Balancing by held-out evidence: what a modality contributes on new videos decides how it is learned and used.

The paper's method (`sgm`) measures contributions on training data, so that a modality which only looks good there is
learned and used. Here coalitions of modalities are weighed by their log-likelihood on data that no training step has
seen. These are the folds by video of the closed-form reference (`pase_msa.heldout`), which is most of the evidence, and
the network's own predictions of the validation split after every epoch. The coalition weights act in three places:

- the training batch: a part of the utterances is shown with a coalition drawn by the weights, so that the network
  trains on what it will be asked for; the others are under plain modality dropout, so that a coalition of a small
  weight is trained too and can gain weight later;
- the learning rates (eq. 21): a modality may learn more slowly where little of the prediction uses it;
- the prediction: it is the mixture of the coalitions, so that an excluded modality does not enter it.

Taken from others: pseudo-BMA+ weights (Yao et al. 2018); the gap between training and held-out gain as the sign of
harm (Wang et al. 2020); coalitions as cases of training (modality dropout, Neverova et al. 2016). Ours: coalitions in
place of modalities, so that a synergy counts; folds and validation as one body of evidence; one vector of coalition
weights for all three places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from pase_msa.balancing.base import BalancingMethod, Preparation, mask_modalities
from pase_msa.balancing.rates import owners, scale_rates
from pase_msa.batch import Batch
from pase_msa.heldout.diagnosis import Diagnosis
from pase_msa.heldout.mixture import MixtureWeights
from pase_msa.heldout.presence import presence_patterns
from pase_msa.heldout.temperature import calibrated, log_likelihood, most_likely, tempered
from pase_msa.heldout.validation import CoalitionPredictions
from pase_msa.heldout.weights import (
    MOST_COALITIONS,
    coalition_weights,
    draw_likelihoods,
    prediction_weights,
    selection_frequency,
    weights_by_presence,
)
from pase_msa.ranges import NOT_NEGATIVE, PROPER_SHARE, SHARE, Range, check_ranges

#: weights of the reference in the prediction, among which validation chooses
_REFERENCE_WEIGHTS = np.linspace(0, 1, 21)


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        exploration: part, in (0, 1], of the training utterances that are under plain modality dropout, with every
            modality that is not excluded; the others are shown with a coalition drawn by the coalition weights. What
            only several modalities tell together is learned in these, whether or not the reference can represent it.
        memory: of the validation predictions over epochs, in [0, 1): weights are fitted on their exponential moving
            average, and 0 takes the newest alone.
        folds: weight of the evidence from the reference's folds; 0 leaves validation alone.
        least_rate: learning rate of a modality that no prediction uses but that is not excluded, as a factor of the
            usual one, in [0, 1]. Below 1, what it tells only together with another may never be found: a network needs
            many epochs before that helps.
        reference: whether the closed-form reference may be part of the prediction, as far as validation prefers that.
            Not where a language model is fine-tuned: the reference needs features.
    """

    name: str = "held_out"
    exploration: float = 0.5
    memory: float = 0.5
    folds: float = 1.0
    least_rate: float = 1.0
    reference: bool = True

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "balancing",
            exploration=Range(0, 1, above=True),
            memory=PROPER_SHARE,
            folds=NOT_NEGATIVE,
            least_rate=SHARE,
        )


@dataclass(frozen=True)
class _Fit:
    """Weights of coalitions [c] and of the reference, probabilities [n, k], and weights by what an utterance has."""

    weights: Float[np.ndarray, " c"]
    reference: float
    probabilities: Float[Tensor, "n k"]
    given: dict[frozenset[str], tuple[dict[frozenset[str], float], float]]


class HeldOutBalancing(BalancingMethod):
    """See the module.

    Attributes:
        config: the options.
        diagnosis: of the modalities, made before training.
        modalities: names, in the task's order.
        excluded: modalities that the network is never shown (unless an utterance has nothing else).
        coalitions: those that are weighed, up to 16 of the diagnosis' ones.
        coalition_weights: one per coalition, which add up to one, [c].
        reference_weight: weight of the closed-form reference in the prediction.
        factors: learning-rate factor by modality.
        history: one entry per epoch, {"epoch", "active", "coalition_weights", "phi", "prediction_weight",
            "reference_weight"}; "phi" holds the factors.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or Config()
        self.diagnosis: Diagnosis | None = None
        self.modalities: tuple[str, ...] = ()
        self.excluded: tuple[str, ...] = ()
        self.coalition_weights: Float[np.ndarray, " c"] = np.ones(0)
        self.reference_weight = 0.0
        self.factors: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self._class_values: Tensor | None = None  # of a score
        self._rows: list[int] = []  # of the coalitions among those of the diagnosis
        self._allowed: NDArray[np.bool_] = np.ones(0, dtype=bool)  # coalitions without an excluded modality
        self._averaged: Tensor | None = None  # validation probabilities, averaged over epochs, [c, n, k]

    def prepare(self, preparation: Preparation) -> None:
        """Diagnose, and choose the coalitions to weigh: all of them, or those of the largest weights."""
        task = preparation.task
        self.modalities = task.modalities
        self._class_values = None if task.values is None else torch.tensor(task.values, dtype=torch.float64)
        diagnosis = self.diagnosis = preparation.diagnose()
        self.excluded = diagnosis.excluded
        everyone = frozenset(task.modalities)
        singles = [frozenset([name]) for name in task.modalities]
        by_weight = [diagnosis.coalitions[i] for i in np.argsort(-diagnosis.coalition_weights, kind="stable")]
        # in order of importance, so that the first 16 hold what is needed whatever the number of modalities
        heavy, nothing = by_weight[: MOST_COALITIONS // 2], frozenset[str]()
        chosen = list(dict.fromkeys([by_weight[0], everyone, *heavy, *singles, nothing, *by_weight]))
        self.coalitions = [c for c in diagnosis.coalitions if c in set(chosen[:MOST_COALITIONS])]
        self._rows = [diagnosis.coalitions.index(coalition) for coalition in self.coalitions]
        self._allowed = np.array([not (coalition & set(self.excluded)) for coalition in self.coalitions])
        self._set_weights(coalition_weights(self._draw([]), self._allowed))

    def _draw(self, samples: Sequence[tuple[Any, Any]]) -> Float[np.ndarray, "b c"]:
        """Draws from the folds of the reference and from samples of the network's own likelihoods."""
        assert self.diagnosis is not None
        folds = self.config.folds * self.diagnosis.gains[self._rows]
        return draw_likelihoods([(folds, self.diagnosis.videos), *samples])

    def _set_weights(self, weights: Float[np.ndarray, " c"]) -> None:
        """Take coalition weights, and the learning-rate factors that follow from them."""
        self.coalition_weights = weights
        least = self.config.least_rate
        self.factors = {
            name: 0.0 if name in self.excluded else least + (1 - least) * weight
            for name, weight in self._prediction_weights().items()
        }

    def _prediction_weights(self) -> dict[str, float]:
        """Part of the network's prediction that uses each modality."""
        return prediction_weights(self.coalition_weights, self.coalitions, self.modalities)

    def mask_modalities(self, batch: Batch, probability: float) -> Batch:
        """Plain modality dropout for some utterances, a coalition drawn by the coalition weights for the others."""
        if len(self.coalitions) < 2:
            return mask_modalities(batch, probability)
        names = list(batch.present)
        batch = self._without_excluded(batch)
        flags = torch.stack([batch.present[name] for name in names])
        explored = mask_modalities(batch, probability)
        table = torch.tensor([[name in c for name in names] for c in self.coalitions], device=flags.device)
        weights = torch.as_tensor(self.coalition_weights, dtype=torch.float32, device=flags.device)
        drawn = table[torch.multinomial(weights, len(batch), replacement=True)].T & flags
        # an utterance that has nothing of its coalition is shown as it is
        drawn = torch.where(drawn.any(0), drawn, flags)
        exploring = torch.rand(len(batch), device=flags.device) < self.config.exploration
        shown = torch.where(exploring, torch.stack([explored.present[name] for name in names]), drawn)
        return dataclasses.replace(batch, present=dict(zip(names, shown.unbind(), strict=True)))

    def _without_excluded(self, batch: Batch) -> Batch:
        """The batch with excluded modalities masked, except for utterances that have nothing else."""
        if not self.excluded:
            return batch
        names = list(batch.present)
        flags = torch.stack([batch.present[name] for name in names])
        allowed = flags & torch.tensor([[name not in self.excluded] for name in names], device=flags.device)
        flags = torch.where(allowed.any(0), allowed, flags)
        return dataclasses.replace(batch, present=dict(zip(names, flags.unbind(), strict=True)))

    def update_mixture(self, predictions: CoalitionPredictions) -> MixtureWeights:
        """Weigh the coalitions anew, and the reference against their mixture."""
        newest = predictions.probabilities.double()
        memory, before = self.config.memory, self._averaged
        self._averaged = newest if before is None else memory * before + (1 - memory) * newest
        candidates = tempered(self._averaged)
        patterns = presence_patterns(self.modalities)
        occurring = _occurring(predictions, self.modalities)
        everything = np.ones(len(predictions.videos), dtype=bool)
        fit = self._fit_mixture(predictions, candidates, everything, patterns)
        weights, self.reference_weight, cross_fitted = fit.weights, fit.reference, fit.probabilities
        for half in (0, 1):
            mine = (predictions.halves == half).numpy()
            if mine.any() and not mine.all():
                # each half is predicted with what is fitted on the other one
                other = self._fit_mixture(predictions, candidates, ~mine, occurring)
                cross_fitted[mine] = other.probabilities[mine]
        self._set_weights(weights)
        return MixtureWeights(
            dict(zip(self.coalitions, weights.tolist(), strict=True)),
            self.reference_weight,
            cross_fitted.float(),
            self._progress(predictions),
            fit.given,
        )

    def _fit_mixture(
        self,
        predictions: CoalitionPredictions,
        candidates: Float[Tensor, "t c n k"],
        rows: Bool[np.ndarray, " n"],
        patterns: Sequence[frozenset[str]],
    ) -> _Fit:
        """What predictions are made of by the evidence of some of the utterances, and the predictions of all.

        Args:
            predictions: of the newest epoch.
            candidates: the averaged probabilities at every temperature.
            rows: utterances that may be fitted on.
            patterns: sets of modalities to fit weights for, of utterances that lack one.
        """
        membership, videos = predictions.membership.double(), predictions.videos.numpy()
        # at the temperature that suits each: good predictions that are too sure of themselves should not count as bad
        likelihoods = log_likelihood(most_likely(candidates, membership, rows), membership)
        drawn = self._draw([(likelihoods.numpy()[:, rows], videos[rows])])
        weights = coalition_weights(drawn, self._allowed)
        share, probabilities = self._with_reference(predictions, weights, 0, rows)
        given: dict[frozenset[str], tuple[dict[frozenset[str], float], float]] = {}
        by_presence = weights_by_presence(drawn, self.coalitions, self._allowed, patterns)
        known = presence_patterns(self.modalities)
        for pattern, own in by_presence.items():
            values = np.array([own.get(coalition, 0.0) for coalition in self.coalitions])
            part, predicted = self._with_reference(predictions, values, 1 + known.index(pattern), rows)
            given[pattern] = own, part
            if predictions.present is not None:
                has = torch.tensor([name in pattern for name in self.modalities])
                mine = (predictions.present == has).all(1)
                probabilities[mine] = predicted[mine]
        return _Fit(weights, share, probabilities, given)

    def _with_reference(
        self,
        predictions: CoalitionPredictions,
        weights: Float[np.ndarray, " c"],
        row: int,
        rows: Bool[np.ndarray, " n"],
    ) -> tuple[float, Float[Tensor, "n k"]]:
        """Weight of the reference beside a mixture of coalitions, and the probabilities of both together.

        A model has one temperature, that of predictions with all modalities. For these, a network that is too sure of
        itself does not count as bad; where a modality is lost it does, since no temperature will mend it.

        Args:
            predictions: of the newest epoch.
            weights: of the coalitions.
            row: of the reference's predictions; 0 is with all modalities.
            rows: utterances that may be fitted on.
        """
        membership, videos = predictions.membership.double(), predictions.videos.numpy()
        mixture = torch.einsum("c,cnk->nk", torch.as_tensor(weights), predictions.probabilities.double())
        if predictions.reference is None or not self.config.reference:
            return 0.0, mixture
        reference = predictions.reference[row].double()
        network = calibrated(mixture[None], membership, rows)[0] if row == 0 else mixture
        fitted, plain = (
            torch.stack([torch.lerp(network_part, reference, float(r)) for r in _REFERENCE_WEIGHTS])
            for network_part in (network, mixture)
        )
        objective = self._objective(fitted, plain, membership).numpy()
        weight = float(selection_frequency(objective[:, rows], videos[rows]) @ _REFERENCE_WEIGHTS)
        return weight, torch.lerp(mixture, reference, weight)

    def _objective(
        self, fitted: Float[Tensor, "r n k"], plain: Float[Tensor, "r n k"], membership: Float[Tensor, "n k"]
    ) -> Float[Tensor, "r n"]:
        """Minus the loss that networks are trained by (eq. 16), per utterance.

        The cross-entropy is that of calibrated probabilities. For a score, its absolute error is added; it is that of
        the plain probabilities, since a temperature should not move the score.
        """
        value = log_likelihood(fitted, membership)
        if self._class_values is not None:
            value = value - ((plain - membership) @ self._class_values).abs()
        return value

    def _progress(self, predictions: CoalitionPredictions) -> float:
        """Validation log-likelihood of the network with every modality that is not excluded, calibrated.

        What only several modalities tell together is found late, by the network that is shown all of them: as long as
        this rises, the mixture may still gain from it.
        """
        widest = max(np.flatnonzero(self._allowed).tolist(), key=lambda row: len(self.coalitions[row]))
        newest, membership = predictions.probabilities.double(), predictions.membership.double()
        everything = np.ones(len(predictions.videos), dtype=bool)
        network = calibrated(newest[widest : widest + 1], membership, everything)
        return float(log_likelihood(network, membership).mean())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scale the learning rates of the modalities from now on."""
        owner = owners(self.modalities, pl_module.modality_parameters)  # type: ignore[arg-type]
        for optimizer in trainer.optimizers:
            scale_rates(optimizer, owner, lambda: self.factors if self.active else {})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch to the history."""
        weights = zip(self.coalitions, self.coalition_weights.tolist(), strict=True)
        self.history.append(
            {
                "epoch": trainer.current_epoch,
                "active": self.active,
                "coalition_weights": {"+".join(n for n in self.modalities if n in c): w for c, w in weights},
                "phi": dict(self.factors),
                "prediction_weight": self._prediction_weights(),
                "reference_weight": self.reference_weight,
            }
        )

    def log_values(self) -> dict[str, float]:
        """Prediction weight and learning-rate factor by modality, and the weight of the reference."""
        weights = self._prediction_weights() | {"reference": self.reference_weight}
        return {f"prediction_weight/{name}": value for name, value in weights.items()} | {
            f"phi/{name}": value if self.active else 1.0 for name, value in self.factors.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint. The diagnosis is made again, since it is a function of the data."""
        return {
            "active": self.active,
            "coalition_weights": self.coalition_weights.tolist(),
            "reference_weight": self.reference_weight,
            "averaged": self._averaged,
            "history": self.history,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.active = bool(state_dict["active"])
        self._averaged = state_dict["averaged"]
        self.history = list(state_dict["history"])
        self.reference_weight = float(state_dict["reference_weight"])
        self._set_weights(np.array(state_dict["coalition_weights"]))


def _occurring(predictions: CoalitionPredictions, modalities: Sequence[str]) -> list[frozenset[str]]:
    """The sets of modalities that utterances have which lack one; none where all have everything, which is the rule."""
    if predictions.present is None or bool(predictions.present.all()):
        return []
    sets = {
        frozenset(n for n, flag in zip(modalities, row, strict=True) if flag) for row in predictions.present.tolist()
    }
    return [pattern for pattern in presence_patterns(modalities) if pattern in sets]


def build(config: Config) -> HeldOutBalancing:
    """The plug-in's entry point."""
    return HeldOutBalancing(config)
