"""The diagnosis of a data set: which modalities to trust before anything large is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold

from pase_msa.errors import PaSEError
from pase_msa.heldout.contributions import SOURCES, estimate, gains
from pase_msa.heldout.experts import Experts, make_experts
from pase_msa.heldout.ridge import Pooling, Reference
from pase_msa.heldout.table import render_diagnosis
from pase_msa.heldout.verdict import CLOSED, Evidence, Verdict, judge, videos_needed
from pase_msa.heldout.weights import coalition_weights, prediction_weights
from pase_msa.shapley import attribution
from pase_msa.task import Task

Array = NDArray[np.float64]
_FOLDS = 5


@dataclass(frozen=True)
class ModalityDiagnosis:
    """What is said of one modality.

    Attributes:
        evidence: its contributions.
        verdict: see `pase_msa.heldout.verdict.judge`.
        why: one clause.
        more_videos: validation videos that would decide, where undecided and within reach.
        trust: share of the reference's prediction that it has a say in.
    """

    evidence: Evidence
    verdict: Verdict
    why: str
    more_videos: int | None
    trust: float


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of a data set.

    Attributes:
        modalities: by name.
        coalitions: those that were played, the empty one first and all modalities last.
        weights: trust in each of them, from the reference alone.
        gains: log-likelihood gain of each coalition on each training utterance, folds by video, [c, n] nats.
        videos: video of each of these utterances.
        counts: utterances and videos of both splits.
        experts: the reference itself, if it was asked for.
        held: contribution of each modality to each validation utterance, nats, [v]; the means are `evidence.valid`.
    """

    modalities: dict[str, ModalityDiagnosis]
    coalitions: tuple[frozenset[str], ...]
    weights: Float[Array, " c"]
    gains: Float[Array, "c n"]
    videos: NDArray[np.int64]
    counts: dict[str, int] = field(default_factory=dict)
    experts: Experts | None = None
    held: dict[str, Float[Array, " v"]] = field(default_factory=dict)

    @property
    def closed(self) -> tuple[str, ...]:
        """Modalities that are not to be read: what they say in training does not hold on new videos."""
        return tuple(name for name, found in self.modalities.items() if found.verdict in CLOSED)

    def __str__(self) -> str:
        """The table that `pase diagnose` prints."""
        return render_diagnosis(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for strict JSON: None stands for an interval that is not known."""
        rows = {}
        for name, found in self.modalities.items():
            estimates = {source: getattr(found.evidence, source).to_dict() for source in SOURCES}
            rows[name] = {
                "verdict": found.verdict,
                "why": found.why,
                "more_videos": found.more_videos,
                "coalition_weights": found.trust,
                "contributions": estimates,
            }
        return {"unit": "nats an utterance", "counts": self.counts, "modalities": rows}


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
        poolings: how the features were made, to keep the reference as experts; without, it is not kept.
        seed: of the folds, the Fourier features and the bootstrap.

    Errors:
        PaSEError: no training or no validation rows.
    """
    held = len(labels) - training
    if training < 1 or held < 1:
        raise PaSEError(
            f"A diagnosis wants a training and a validation split, found {training} and {held} labelled utterances."
        )
    targets = labels[:, None] if task.values is not None else np.eye(task.num_classes)[labels.astype(np.int64)]
    own, other = videos[:training], videos[training:]
    reference = Reference(features, targets[:training], _folds(own, None, seed), _folds(own, own, seed), seed)
    known: dict[frozenset[str], dict[str, Array]] = {}

    def play(players: Sequence[str]) -> tuple[tuple[frozenset[str], ...], Array, dict[str, Array]]:
        coalitions, matrix = attribution(tuple(players))
        for coalition in coalitions:
            if coalition not in known:
                said = reference.predict([name for name in features if name in coalition])
                values = gains(task, [said], targets[:training], targets[training:])
                known[coalition] = {source: rows[0] for source, rows in values.items()}
        found = {source: np.stack([known[c][source] for c in coalitions]) for source in SOURCES}
        return coalitions, matrix, found

    names = list(features)
    coalitions, matrix, utilities = play(names)
    everyone = utilities
    found: dict[str, tuple[Evidence, Verdict, str]] = {}
    held_shares: dict[str, Array] = {}
    remaining = list(names)
    while remaining:
        judged = {}
        for i, name in enumerate(remaining):
            shares = {source: matrix[i] @ values for source, values in utilities.items()}
            evidence = Evidence(
                **{source: estimate(share, other if source == "valid" else own) for source, share in shares.items()},
                leak=estimate(shares["random"] - shares["grouped"], own),
                learned=estimate(shares["sample"] - shares["random"], own),
            )
            judged[name] = (evidence, *judge(evidence))
            held_shares[name] = shares["valid"]
        # what a deceiver does to the others' contributions must not be held against or for them: they play again
        closed = [name for name, (_, verdict, _) in judged.items() if verdict in CLOSED]
        found |= {name: row for name, row in judged.items() if name in closed or not closed}
        remaining = [name for name in remaining if name not in closed]
        if not closed:
            break
        if remaining:
            _, matrix, utilities = play(remaining)
    shut = {name for name, (_, verdict, _) in found.items() if verdict in CLOSED}
    allowed = np.array([not (coalition & shut) for coalition in coalitions])
    weights = coalition_weights([(everyone["grouped"], own), (everyone["valid"], other)], allowed, seed=seed)
    share = prediction_weights(weights, coalitions, names)
    believed = dict(zip(coalitions, weights.tolist(), strict=True))
    experts = None
    if poolings:
        experts = make_experts(task, reference, poolings, believed, targets[:training], labels[:training])
    return Diagnosis(
        {
            name: ModalityDiagnosis(
                evidence, verdict, why, videos_needed(evidence) if verdict == "undecided" else None, share[name]
            )
            for name in names
            for evidence, verdict, why in [found[name]]
        },
        coalitions,
        weights,
        everyone["grouped"],
        own,
        {
            "training_utterances": training,
            "training_videos": len(np.unique(own)),
            "validation_utterances": held,
            "validation_videos": len(np.unique(other)),
        },
        experts,
        held_shares,
    )


def _folds(rows: NDArray[np.int64], groups: NDArray[np.int64] | None, seed: int) -> NDArray[np.int64]:
    """Fold of each row; whole groups where they are given (and there are two or more)."""
    parts = len(rows) if groups is None else len(np.unique(groups))
    result = np.zeros(len(rows), dtype=np.int64)
    if len(rows) < 2:
        return result
    if groups is None or parts < 2:
        splitter = KFold(min(_FOLDS, len(rows)), shuffle=True, random_state=seed).split(rows)
    else:
        splitter = GroupKFold(min(_FOLDS, parts), shuffle=True, random_state=seed).split(rows, groups=groups)
    for number, (_, chosen) in enumerate(splitter):
        result[chosen] = number
    return result
