"""The diagnosis of a data set: which modalities contribute on new videos, before anything large is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pase_msa.errors import PaSEError
from pase_msa.heldout.contributions import SOURCES, estimate, gains
from pase_msa.heldout.pooling import Pooling
from pase_msa.heldout.presence import presence_patterns
from pase_msa.heldout.reference import RidgeReference
from pase_msa.heldout.ridge import RidgeSolver
from pase_msa.heldout.verdict import EXCLUDED, Evidence, Verdict, judge, videos_needed
from pase_msa.heldout.weights import coalition_weights, draw_likelihoods, prediction_weights, weights_by_presence
from pase_msa.shapley import attribution
from pase_msa.task import Task

Array = NDArray[np.float64]
Coalition = frozenset[str]
_FOLDS = 5


@dataclass(frozen=True)
class ModalityDiagnosis:
    """The diagnosis of one modality.

    Attributes:
        evidence: its contributions.
        verdict: see `pase_msa.heldout.verdict.judge`.
        why: one clause.
        more_videos: validation videos that would decide, where undecided and within reach.
        prediction_weight: part of the reference's prediction that uses it, in [0, 1].
    """

    evidence: Evidence
    verdict: Verdict
    why: str
    more_videos: int | None
    prediction_weight: float


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of a data set.

    Attributes:
        modalities: by name.
        coalitions: of modalities; the empty one stands first, all modalities last.
        coalition_weights: of these, from the reference alone, [c].
        gains: log-likelihood gain of each coalition on each training utterance, folds by video, [c, n] nats.
        videos: video of each of these utterances, [n].
        counts: utterances and videos of both splits.
        reference: the closed-form model itself, if it was asked for.
        valid_contributions: of each modality to each validation utterance, nats, [v]; the means are `evidence.valid`.
    """

    modalities: dict[str, ModalityDiagnosis]
    coalitions: tuple[Coalition, ...]
    coalition_weights: Float[Array, " c"]
    gains: Float[Array, "c n"]
    videos: NDArray[np.int64]
    counts: dict[str, int] = field(default_factory=dict)
    reference: RidgeReference | None = None
    valid_contributions: dict[str, Float[Array, " v"]] = field(default_factory=dict)

    @property
    def excluded(self) -> tuple[str, ...]:
        """Modalities that no prediction may use: their contribution in training does not hold on new videos."""
        return tuple(name for name, row in self.modalities.items() if row.verdict in EXCLUDED)

    def __str__(self) -> str:
        """The table that `pase diagnose` prints."""
        from pase_msa.heldout.table import render_diagnosis  # rich is needed for printing only

        return render_diagnosis(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for strict JSON; None stands for an interval that is not known."""
        rows = {}
        for name, row in self.modalities.items():
            estimates = {source: getattr(row.evidence, source).to_dict() for source in SOURCES}
            rows[name] = {
                "verdict": row.verdict,
                "why": row.why,
                "more_videos": row.more_videos,
                "prediction_weight": row.prediction_weight,
                "contributions": estimates,
            }
        return {"unit": "nats per utterance", "counts": self.counts, "modalities": rows}


def diagnose_features(
    task: Task,
    features: Mapping[str, Float[Array, "n p"]],
    labels: Float[Array, " n"],
    videos: NDArray[np.int64],
    training: int,
    *,
    poolings: Mapping[str, Pooling] | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose from pooled features; the first `training` rows are the training split, the others validation.

    Args:
        task: what is predicted.
        features: modality -> features [n, p], finite, standardised.
        labels: scores or class numbers.
        videos: video of each row.
        training: number of training rows.
        poolings: how the features were made, which the reference needs to predict; without, it is not kept.
        seed: of the folds, the Fourier features and the bootstrap.

    Errors:
        PaSEError: no training or no validation rows.
    """
    valid = len(labels) - training
    if training < 1 or valid < 1:
        raise PaSEError(
            f"A diagnosis wants a training and a validation split, found {training} and {valid} labelled utterances."
        )
    names, train_videos, valid_videos = tuple(features), videos[:training], videos[training:]
    targets = labels[:, None] if task.values is not None else np.eye(task.num_classes)[labels.astype(np.int64)]
    random, grouped = _folds(train_videos, None, seed), _folds(train_videos, train_videos, seed)
    solver = RidgeSolver(features, targets[:training], random, grouped, seed)
    all_gains = _CoalitionGains(task, solver, names, targets[:training], targets[training:])
    judged = _judge_and_exclude(all_gains, train_videos, valid_videos)
    coalitions, _, gains_of_all = all_gains.of(names)
    samples = [(gains_of_all["grouped"], train_videos), (gains_of_all["valid"], valid_videos)]
    drawn, allowed = draw_likelihoods(samples, seed=seed), _allowed(coalitions, judged)
    weights = coalition_weights(drawn, allowed)
    reference = None
    if poolings:
        by_coalition = dict(zip(coalitions, weights.tolist(), strict=True))
        given = weights_by_presence(drawn, coalitions, allowed, presence_patterns(names))
        reference = RidgeReference.fit(task, solver, poolings, by_coalition, labels[:training], given)
    used = prediction_weights(weights, coalitions, names)
    return Diagnosis(
        {name: judged[name].diagnosis(used[name]) for name in names},
        coalitions,
        weights,
        gains_of_all["grouped"],
        train_videos,
        _counts(training=train_videos, validation=valid_videos),
        reference,
        {name: row.valid_contributions for name, row in judged.items()},
    )


def _allowed(coalitions: Sequence[Coalition], judged: Mapping[str, _Judged]) -> NDArray[np.bool_]:
    """Coalitions that may have a weight: those without an excluded modality."""
    excluded = {name for name, row in judged.items() if row.verdict in EXCLUDED}
    return np.array([not (coalition & excluded) for coalition in coalitions])


def _counts(**videos: NDArray[np.int64]) -> dict[str, int]:
    """Utterances and videos of each split, from the video of each utterance."""
    counts: dict[str, int] = {}
    for split, numbers in videos.items():
        counts |= {f"{split}_utterances": len(numbers), f"{split}_videos": len(np.unique(numbers))}
    return counts


class _CoalitionGains:
    """Log-likelihood gain of coalitions on every utterance, by source. Each coalition is solved once."""

    def __init__(
        self, task: Task, solver: RidgeSolver, modalities: tuple[str, ...], targets: Array, valid: Array
    ) -> None:
        self.task, self.solver, self.modalities = task, solver, modalities
        self.targets, self.valid = targets, valid
        self._solved: dict[Coalition, dict[str, Array]] = {}

    def of(self, modalities: tuple[str, ...]) -> tuple[tuple[Coalition, ...], Array, dict[str, Array]]:
        """Coalitions of some modalities, the matrix [m, c] that makes Shapley values, and gains [c, n] by source."""
        coalitions, matrix = attribution(modalities)
        for coalition in coalitions:
            if coalition not in self._solved:
                fit = self.solver.solve([name for name in self.modalities if name in coalition])
                self._solved[coalition] = gains(self.task, fit, self.targets, self.valid)
        return coalitions, matrix, {s: np.stack([self._solved[c][s] for c in coalitions]) for s in SOURCES}


@dataclass(frozen=True)
class _Judged:
    """A modality after its last round."""

    evidence: Evidence
    verdict: Verdict
    why: str
    valid_contributions: Float[Array, " v"]

    def diagnosis(self, prediction_weight: float) -> ModalityDiagnosis:
        more = videos_needed(self.evidence) if self.verdict == "undecided" else None
        return ModalityDiagnosis(self.evidence, self.verdict, self.why, more, prediction_weight)


def _judge_and_exclude(
    all_gains: _CoalitionGains, train_videos: NDArray[np.int64], valid_videos: NDArray[np.int64]
) -> dict[str, _Judged]:
    """Judge all modalities, exclude those whose verdict asks for it, and judge the others again without them.

    A deceptive modality changes what the others contribute beside it, which should count neither for nor against them.
    So a modality that is excluded is judged among all that were left, and one that stays among those that stay.
    """
    judged: dict[str, _Judged] = {}
    remaining = all_gains.modalities
    while remaining:
        _, matrix, utilities = all_gains.of(remaining)
        for row, name in zip(matrix, remaining, strict=True):
            contributions = {source: row @ values for source, values in utilities.items()}
            judged[name] = _judge_contributions(contributions, train_videos, valid_videos)
        staying = tuple(name for name in remaining if judged[name].verdict not in EXCLUDED)
        if staying == remaining:
            break
        remaining = staying
    return judged


def _judge_contributions(
    contributions: Mapping[str, Array], train_videos: NDArray[np.int64], valid_videos: NDArray[np.int64]
) -> _Judged:
    """Evidence and verdict from a modality's contribution to every utterance, by source."""
    videos = {"valid": valid_videos, "suited": valid_videos}
    evidence = Evidence(
        **{source: estimate(values, videos.get(source, train_videos)) for source, values in contributions.items()},
        leak=estimate(contributions["random"] - contributions["grouped"], train_videos),
        learned=estimate(contributions["sample"] - contributions["random"], train_videos),
    )
    return _Judged(evidence, *judge(evidence), contributions["valid"])


def _folds(rows: NDArray[np.int64], groups: NDArray[np.int64] | None, seed: int) -> NDArray[np.int64]:
    """Fold of each row; whole groups stay together where they are given, and there are two or more.

    The folds are those of scikit-learn's `GroupKFold` and `KFold`, shuffled, whose import would take longer than a
    diagnosis of two thousand utterances.
    """
    random = np.random.RandomState(seed)
    units, unit = (rows, None) if groups is None else np.unique(groups, return_inverse=True)
    if unit is None or len(units) < 2:
        order, unit = np.arange(len(rows)), np.arange(len(rows))
        random.shuffle(order)
    else:
        order = random.permutation(len(units))
    result = np.zeros(len(order), dtype=np.int64)
    for number, members in enumerate(np.array_split(order, min(_FOLDS, max(len(order), 1)))):
        result[members] = number
    return result[unit]
