"""An equilibrium on held-out evidence: what a modality contributes on new videos decides how it is learned and read.

The paper's equilibrium measures contributions on training data, so it believes a modality that only looks good there.
Here the players' coalitions are weighed by their log-likelihood on data that no training step has seen: the folds by
video of a reference model (`pase_msa.heldout`), where there is most of it, and this network's own validation after
every epoch. The weights are a mixed strategy, and it acts in three places:

- the training batch: each utterance is shown with a coalition drawn from it, so that the network practises what it
  will be asked; a share of plain modality dropout keeps every coalition in play, so that a closed one can open again;
- the learning rates (eq. 21): a modality learns at the rate at which it is read;
- the fusion: a prediction is the mixture of the coalitions, so that a modality without trust does not enter it.

Taken from others: pseudo-BMA+ weights (Yao et al. 2018); the gap between training and held-out gain as the sign of
harm (Wang et al. 2020); coalitions as cases of training (modality dropout, Neverova et al. 2016). Ours: coalitions in
place of modalities, so that a synergy counts; folds and validation as one body of evidence; the strategy for all three.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning import LightningModule, Trainer
from torch import Tensor

from pase_msa.balancing.base import BalancingMethod, CoalitionPredictions, MixtureWeights, mask_modalities
from pase_msa.balancing.rates import owners, scale_rates
from pase_msa.batch import Batch
from pase_msa.errors import PaSEError
from pase_msa.heldout.diagnosis import Diagnosis
from pase_msa.heldout.weights import MOST_COALITIONS, coalition_weights, prediction_weights, selection_frequency
from pase_msa.task import Task

_SHARES = np.linspace(0, 1, 21)
_POWERS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5)  # inverse temperatures


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        exploration: share, in (0, 1], of the training utterances that are shown with every modality that is not closed,
            less modality dropout; the others are shown with a coalition drawn by trust. What only several modalities
            tell together is learned in these, whether or not the reference can see it.
        memory: of a coalition's predictions of validation over epochs, in [0, 1): 0 takes the newest alone.
        folds: weight of the evidence from the reference model's folds; 0 leaves validation alone.
        least_rate: learning rate of an open modality that is not read, as a share of the usual one, in [0, 1]. Below 1,
            what it tells only together with another may never be found: a network needs many epochs before that helps.
        reference: whether predictions may lean on the closed-form reference, as far as validation says. Not where a
            language model is fine-tuned: the reference reads features.
    """

    name: str = "held_out"
    exploration: float = 0.5
    memory: float = 0.5
    folds: float = 1.0
    least_rate: float = 1.0
    reference: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.exploration <= 1 or not 0 <= self.memory < 1:
            raise PaSEError(
                f"modulation wants exploration in (0, 1] and memory in [0, 1), found {self.exploration} and "
                f"{self.memory}."
            )
        if self.folds < 0 or not 0 <= self.least_rate <= 1:
            raise PaSEError(
                f"modulation wants folds of 0 or more and least_rate in [0, 1], found {self.folds} and "
                f"{self.least_rate}."
            )


class HeldOutEquilibrium(BalancingMethod):
    """See the module.

    Attributes:
        diagnosis: of the modalities, made before training.
        closed: modalities that the network is never shown (all that an utterance has, if it has nothing else).
        strategy: weight of each of `games`.
        factors: learning-rate factor by modality.
        history: one entry an epoch, {"epoch", "active", "coalition_weights", "phi", "read", "reference"}: weights of coalitions,
            rates, and the share of the prediction that each modality and the reference have a say in.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or Config()
        self.diagnosis: Diagnosis | None = None
        self.modalities: tuple[str, ...] = ()
        self.values: Tensor | None = None  # of the classes of a score
        self.closed: tuple[str, ...] = ()
        self.strategy = np.ones(0)
        self.factors: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self.reference = 0.0
        self._kept: Tensor | None = None  # probabilities of the games, averaged over epochs

    def prepare(self, task: Task, diagnose: Callable[[], Diagnosis]) -> None:
        """Diagnose, and choose the coalitions to play: all of them, or those that the reference believes most."""
        self.modalities = task.modalities
        self.values = None if task.values is None else torch.tensor(task.values, dtype=torch.float64)
        found = self.diagnosis = diagnose()
        self.closed = found.closed
        everyone = frozenset(task.modalities)
        singles = [frozenset([name]) for name in task.modalities]
        by_weight = [found.coalitions[i] for i in np.argsort(-found.weights, kind="stable")]
        chosen = list(dict.fromkeys([by_weight[0], everyone, *by_weight[: MOST_COALITIONS // 2], *singles, *by_weight]))
        self.games = [game for game in found.coalitions if game in set(chosen[:MOST_COALITIONS])]
        self._rows = [found.coalitions.index(game) for game in self.games]
        self._allowed = np.array([not (game & set(found.closed)) for game in self.games])
        self._adopt(self._weigh([]))

    def _weigh(self, own: Sequence[tuple[Any, Any]]) -> Float[np.ndarray, " c"]:
        """Weights of the games by the folds of the reference and by samples of the network's own."""
        assert self.diagnosis is not None
        folds = self.config.folds * self.diagnosis.gains[self._rows]
        return coalition_weights([(folds, self.diagnosis.videos), *own], self._allowed)

    def _adopt(self, weights: Float[np.ndarray, " c"]) -> None:
        self.strategy = weights
        least = self.config.least_rate
        self.factors = {
            name: 0.0 if name in self.closed else least + (1 - least) * read for name, read in self._read().items()
        }

    def _read(self) -> dict[str, float]:
        """Share of the prediction that each modality has a say in."""
        return prediction_weights(self.strategy, self.games, self.modalities)

    def mask_modalities(self, batch: Batch, probability: float) -> Batch:
        """A coalition drawn by trust for most utterances, plain modality dropout for the others."""
        if len(self.games) < 2:
            return mask_modalities(batch, probability)
        names = list(batch.present)
        flags = torch.stack([batch.present[name] for name in names])
        if self.closed:
            opened = flags & torch.tensor([[name not in self.closed] for name in names], device=flags.device)
            flags = torch.where(opened.any(0), opened, flags)
            batch = dataclasses.replace(batch, present=dict(zip(names, flags.unbind(), strict=True)))
        explored = mask_modalities(batch, probability)
        table = torch.tensor([[name in game for name in names] for game in self.games], device=flags.device)
        weights = torch.as_tensor(self.strategy, dtype=torch.float32, device=flags.device)
        drawn = table[torch.multinomial(weights, len(batch), replacement=True)].T & flags
        # who lacks the whole coalition is shown as it is
        drawn = torch.where(drawn.any(0), drawn, flags)
        free = torch.rand(len(batch), device=flags.device) < self.config.exploration
        kept = torch.where(free, torch.stack([explored.present[name] for name in names]), drawn)
        return dataclasses.replace(batch, present=dict(zip(names, kept.unbind(), strict=True)))

    def settle(self, played: CoalitionPredictions) -> MixtureWeights:
        """Weigh the coalitions anew, and the reference against their mixture."""
        membership, cluster = played.membership.double(), played.videos.numpy()
        newest = played.probabilities.double()
        memory, kept = self.config.memory, self._kept
        known = self._kept = newest if kept is None else memory * kept + (1 - memory) * newest

        candidates = tempered(known)

        def update(rows: Bool[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " c"], float, Tensor]:
            """Weights and the reference's share by these utterances, and the probabilities that follow for all."""
            # a network that is too sure of good predictions is not to be taken for one that makes bad ones
            values = _likelihood(likeliest(candidates, membership, rows), membership)
            weights = self._weigh([(values.numpy()[:, rows], cluster[rows])])
            mixture = torch.einsum("c,cnk->nk", torch.as_tensor(weights), newest)
            if played.reference is None or not self.config.reference:
                return weights, 0.0, mixture
            other = played.reference.double()
            ours = calibrate(mixture[None], membership, rows)[0]
            fitted, said = (torch.stack([torch.lerp(p, other, float(r)) for r in _SHARES]) for p in (ours, mixture))
            gains = self._worth(fitted, said, membership).numpy()
            share = float(selection_frequency(gains[:, rows], cluster[rows]) @ _SHARES)
            return weights, share, torch.lerp(mixture, other, share)

        everything = np.ones(len(cluster), dtype=bool)
        weights, self.reference, cross_fitted = update(everything)
        for half in (0, 1):
            mine = (played.halves == half).numpy()
            if mine.any() and not mine.all():
                cross_fitted[mine] = update(~mine)[2][mine]
        self._adopt(weights)
        # what only several modalities tell together is found late, by the network that sees all of them
        widest = max(np.flatnonzero(self._allowed).tolist(), key=lambda row: len(self.games[row]))
        alone = calibrate(newest[widest : widest + 1], membership, everything)
        progress = float(_likelihood(alone, membership).mean())
        shares = dict(zip(self.games, weights.tolist(), strict=True))
        return MixtureWeights(shares, self.reference, cross_fitted.float(), progress)

    def _worth(
        self, fitted: Float[Tensor, "r n k"], said: Float[Tensor, "r n k"], membership: Float[Tensor, "n k"]
    ) -> Float[Tensor, "r n"]:
        """What predictions are worth by the objective that networks are trained by: minus eq. 16, at the temperature
        that suits them, and for a score minus its absolute error, which a temperature is not to move."""
        worth = _likelihood(fitted, membership)
        if self.values is not None:
            worth = worth - ((said - membership) @ self.values).abs()
        return worth

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the learning rates of the modalities in hand."""
        owner = owners(self.modalities, pl_module.modality_parameters)  # type: ignore[arg-type]
        for optimizer in trainer.optimizers:
            scale_rates(optimizer, owner, lambda: self.factors if self.active else {})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch down."""
        named = {"+".join(n for n in self.modalities if n in game): w for game, w in self._shares()}
        self.history.append(
            {
                "epoch": trainer.current_epoch,
                "active": self.active,
                "coalition_weights": named,
                "phi": dict(self.factors),
                "read": self._read(),
                "reference": self.reference,
            }
        )

    def _shares(self) -> list[tuple[frozenset[str], float]]:
        return list(zip(self.games, self.strategy.tolist(), strict=True))

    def log_values(self) -> dict[str, float]:
        """Share of the prediction and learning-rate factor by modality."""
        read = {f"prediction_weight/{name}": value for name, value in self._read().items()} | {
            "prediction_weight/reference": self.reference
        }
        return read | {f"phi/{name}": value if self.active else 1.0 for name, value in self.factors.items()}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint; the diagnosis is made again, since it is a function of the data."""
        return {
            "active": self.active,
            "strategy": self.strategy.tolist(),
            "reference": self.reference,
            "kept": self._kept,
            "history": self.history,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.active = bool(state_dict["active"])
        self._kept = state_dict["kept"]
        self.history = list(state_dict["history"])
        self.reference = float(state_dict["reference"])
        self._adopt(np.array(state_dict["strategy"]))


def calibrate(
    probabilities: Float[Tensor, "c n k"], membership: Float[Tensor, "n k"], rows: Bool[np.ndarray, " n"]
) -> Float[Tensor, "c n k"]:
    """Every coalition's probabilities at the temperature that makes the given utterances most likely."""
    return likeliest(tempered(probabilities), membership, rows)


def tempered(probabilities: Float[Tensor, "c n k"]) -> Float[Tensor, "t c n k"]:
    """Log-probabilities at every temperature."""
    logs = probabilities.clamp(min=1e-12).log()
    return torch.stack([(logs * power).log_softmax(2) for power in _POWERS])


def likeliest(
    candidates: Float[Tensor, "t c n k"], membership: Float[Tensor, "n k"], rows: Bool[np.ndarray, " n"]
) -> Float[Tensor, "c n k"]:
    """Of the temperatures of `tempered`, for every coalition the one that makes the given utterances most likely."""
    chosen = torch.as_tensor(np.flatnonzero(rows))
    fit = (membership[chosen] * candidates[:, :, chosen]).sum(3).mean(2)  # [t, c]
    return candidates[fit.argmax(0), torch.arange(candidates.shape[1])].exp()


def _likelihood(probabilities: Float[Tensor, "c n k"], membership: Float[Tensor, "n k"]) -> Float[Tensor, "c n"]:
    return (membership * probabilities.clamp(min=1e-12).log()).sum(2)


def build(config: Config) -> HeldOutEquilibrium:
    """The plug-in's entry point."""
    return HeldOutEquilibrium(config)
