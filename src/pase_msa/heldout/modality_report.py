"""What became of every modality in a run: its contributions in training and on new videos, its verdict and its use.

The diagnosis measures the closed-form reference; here the trained network is measured in the same way and unit. Where
the two disagree, the verdict follows: a modality that contributes more to the reference on new videos is under-trained,
and one that contributes to the network in training only was memorised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pase_msa.batch import Batch, Outputs
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.heldout.contributions import SOURCES, Estimate, estimate, fitted_gains
from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis
from pase_msa.heldout.mixture import CoalitionMixture
from pase_msa.heldout.reference import RidgeReference
from pase_msa.heldout.verdict import EXCLUDED, FEW, LIKELY, NEGLIGIBLE, SURE, Verdict
from pase_msa.shapley import attribution
from pase_msa.task import Task

Array = NDArray[np.float64]
#: one-sided confidence that a modality contributes more to the reference than to the network
MORE = 0.99
_MINOR = 0.01  # a smaller part of the prediction is as good as none
Value = TypeVar("Value")
ModalityVerdict = Literal["under-trained"] | Verdict


class MixtureModel(Protocol):
    """The part of a model (`pase_msa.models.base.Model`) that a report needs."""

    task: Task
    mixture: CoalitionMixture
    reference: RidgeReference | None

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """The network's outputs with only the named modalities, one per coalition."""

    def prediction_weight(self, modality: str) -> float:
        """Part of the prediction that uses a modality."""


@dataclass(frozen=True)
class NetworkEvidence:
    """What a modality contributes to the trained network by itself, without mixture and reference.

    Attributes:
        train: on as many training utterances as there are validation ones.
        valid: on validation.
        behind: the reference's contribution on validation minus the network's, paired by utterance.
    """

    train: Estimate
    valid: Estimate
    behind: Estimate


@dataclass(frozen=True)
class Use:
    """How much of the prediction uses a modality, each in [0, 1]; the last two add up to the first.

    Attributes:
        prediction_weight: part of the prediction that uses it.
        network_weight: by coalitions of the network.
        reference_weight: by coalitions of the closed-form reference.
    """

    prediction_weight: float
    network_weight: float
    reference_weight: float

    @classmethod
    def of(cls, model: MixtureModel, modality: str) -> Use:
        """What a model uses of a modality."""
        total = min(model.prediction_weight(modality), 1.0)
        reference = _reference_weight(model)
        if model.reference is not None:
            reference *= model.reference.prediction_weight(modality)
        return cls(total, max(total - reference, 0.0), reference)


def _reference_weight(model: MixtureModel) -> float:
    """Weight of the closed-form reference in every prediction."""
    return float(model.mixture.reference) if model.reference is not None else 0.0


def modality_report(
    model: MixtureModel,
    diagnosis: Diagnosis,
    train: UtteranceDataset,
    valid: UtteranceDataset,
    *,
    rates: Mapping[str, float],
    batch_size: int = 256,
) -> dict[str, Any]:
    """What became of every modality, as plain containers.

    Args:
        model: trained, on the CPU.
        diagnosis: made before training.
        train: training utterances.
        valid: validation utterances, those of the diagnosis in its order.
        rates: learning-rate factor by modality at the epoch that was selected.
        batch_size: utterances per pass.

    Returns:
        "mode"; "unit"; "reference_weight", the part of every prediction that is the closed-form reference's;
        "coalition_weights" of the network, by coalition, names joined by "+"; "given", both of these for utterances
        that lack a modality, by what they have; "counts"; and "modalities". By name,
        these hold "verdict" and "why"; "diagnosis", the verdict before training; "more_videos";
        "prediction_weight", the part of the prediction that uses the modality, and its two parts "network_weight" and
        "reference_weight"; "learning_rate", a factor; "action", in words; "reference" and "network", estimates in nats
        per utterance; and "behind", reference minus network.
    """
    evidence = network_evidence(model, diagnosis, train, valid, batch_size=batch_size)
    names = model.task.modalities
    rows = {
        name: _report_row(diagnosis.modalities[name], evidence[name], Use.of(model, name), rates.get(name, 1.0))
        for name in names
    }
    return {
        "mode": "held_out",
        "unit": "nats per utterance",
        "reference_weight": _reference_weight(model),
        "coalition_weights": _joined(names, model.mixture.coalition_weights),
        "given": {
            joined: {
                "reference_weight": share if model.reference is not None else 0.0,
                "coalition_weights": _joined(names, weights),
            }
            for joined, (weights, share) in _joined(names, model.mixture.given).items()
        },
        "counts": {**diagnosis.counts, "network_training_utterances": min(len(train), len(valid))},
        "modalities": rows,
    }


def _joined(names: Sequence[str], values: Mapping[frozenset[str], Value]) -> dict[str, Value]:
    """By names joined by "+", in the order of the modalities."""
    return {"+".join(name for name in names if name in part): value for part, value in values.items()}


def _report_row(row: ModalityDiagnosis, evidence: NetworkEvidence, use: Use, rate: float) -> dict[str, Any]:
    verdict, why = refine(row, evidence)
    return {
        "verdict": verdict,
        "why": why,
        "diagnosis": row.verdict,
        "more_videos": row.more_videos if verdict == "undecided" else None,
        "prediction_weight": use.prediction_weight,
        "network_weight": use.network_weight,
        "reference_weight": use.reference_weight,
        "learning_rate": rate,
        "action": action(verdict, use, rate),
        "reference": {source: getattr(row.evidence, source).to_dict() for source in SOURCES},
        "network": {"train": evidence.train.to_dict(), "valid": evidence.valid.to_dict()},
        "behind": evidence.behind.to_dict(),
    }


def network_evidence(
    model: MixtureModel,
    diagnosis: Diagnosis,
    train: UtteranceDataset,
    valid: UtteranceDataset,
    *,
    batch_size: int = 256,
) -> dict[str, NetworkEvidence]:
    """The network's own contributions, by the same coalitions as those of the diagnosis.

    An excluded modality is measured among all modalities, the others among themselves, so that they neither lose nor
    gain by it. The training utterances are the same ones in every call.
    """
    names = model.task.modalities
    used = tuple(name for name in names if name not in diagnosis.excluded)
    matrices = {group: attribution(group) for group in {names, used} if group}
    needed = list(dict.fromkeys(c for coalitions, _ in matrices.values() for c in coalitions if c))
    if train.whole_videos:
        sample = train.subsample(len(valid), seed=0)
    else:
        sample = train.over(train.rows[np.sort(np.random.default_rng(0).permutation(len(train))[: len(valid)])])
    contributions: dict[str, dict[str, Array]] = {name: {} for name in names}
    for split, dataset in (("train", sample), ("valid", valid)):
        values = _gains(model, dataset, train, needed, batch_size)
        for name in names:
            group = used if name in used else names
            coalitions, matrix = matrices[group]
            stacked = np.stack([values[coalition] for coalition in coalitions])
            contributions[name][split] = matrix[group.index(name)] @ stacked
    train_videos, valid_videos = train.videos[sample.rows], valid.videos[valid.rows]
    return {
        name: NetworkEvidence(
            estimate(parts["train"], train_videos),
            estimate(parts["valid"], valid_videos),
            estimate(diagnosis.valid_contributions[name] - parts["valid"], valid_videos),
        )
        for name, parts in contributions.items()
    }


@torch.inference_mode()
def _gains(
    model: MixtureModel,
    dataset: UtteranceDataset,
    train: UtteranceDataset,
    coalitions: Sequence[frozenset[str]],
    batch_size: int,
) -> dict[frozenset[str], Float[Array, " n"]]:
    """Log-likelihood gain of every coalition over the training mean, in the unit of the diagnosis."""
    task = model.task
    parts = []
    for batch in evaluation_loader(dataset, batch_size):
        outputs = model.network_coalitions(batch, coalitions)
        parts.append(torch.stack([output.probabilities.double() for output in outputs]))
    probabilities = torch.cat(parts, dim=1)
    assert train.labels is not None
    labels = [train.labels[rows] for rows in (dataset.rows, train.rows)]
    if task.values is not None:
        truth, targets = (values[:, None] for values in labels)
        predictions = task.score(probabilities).numpy()[:, :, None] - targets.mean(0)
    else:
        truth, targets = (np.eye(task.num_classes)[values.astype(np.int64)] for values in labels)
        prior = np.log(np.clip(targets.mean(0), 1e-9, None))
        predictions = (probabilities.clamp(min=1e-12).log().numpy() - prior) / task.num_classes
    gains = fitted_gains(task, list(predictions), truth, targets)
    return {frozenset(): np.zeros(len(truth))} | dict(zip(coalitions, gains, strict=True))


def refine(row: ModalityDiagnosis, network: NetworkEvidence) -> tuple[ModalityVerdict, str]:
    """The verdict of the diagnosis in the light of the trained network, and one clause that gives the reason.

    - under-trained: it is not excluded, contributes to the reference on new videos, and surely less to the network.
    - memorised: not useful to the reference; to the network in training only.

    Both want enough validation videos: of a few the spread is not known.
    """
    if row.verdict in EXCLUDED:
        return row.verdict, row.why
    behind, reference, enough = network.behind, row.evidence.valid, network.valid.videos >= FEW
    if enough and reference.bound(LIKELY) > 0 and behind.bound(MORE) > 0 and behind.value > NEGLIGIBLE:
        return "under-trained", f"contributes {behind.value:.3f} nats more to the reference on new videos"
    learned = network.train.bound(SURE) > 0 and network.train.value > NEGLIGIBLE
    gone = enough and network.valid.upper(LIKELY) < NEGLIGIBLE
    if row.verdict != "useful" and learned and gone:
        return "memorised", "contributes to the network in training and not on new videos"
    return row.verdict, row.why


def action(verdict: ModalityVerdict, use: Use, rate: float) -> str:
    """What was done about a modality, in words.

    Args:
        verdict: on it.
        use: how much of the prediction uses it. This does not add up to 100 % over modalities.
        rate: its learning-rate factor.
    """
    if use.prediction_weight < _MINOR:
        words = "excluded: no prediction uses it" if verdict in EXCLUDED else "used by no prediction"
    else:
        words = f"used by {_percent(use.prediction_weight)} of the prediction"
        if use.reference_weight >= _MINOR:
            words += f", of which closed-form reference {_percent(use.reference_weight)}"
    excluded = verdict in EXCLUDED and use.prediction_weight < _MINOR
    return words if excluded or rate > 1 - _MINOR else f"{words}; learns at {_percent(rate)} of the usual rate"


def _percent(part: float) -> str:
    """In whole percent, never more than 100."""
    return f"{min(round(100 * part), 100)} %"


def summary_lines(content: Mapping[str, Any]) -> list[str]:
    """One line for each modality that is excluded, under-trained or memorised, such as "vision: deceptive, excluded".

    Args:
        content: of `modality_report`.
    """
    lines = []
    for name, row in content["modalities"].items():
        if row["verdict"] in EXCLUDED:
            unused = row["prediction_weight"] < _MINOR
            lines.append(f"{name}: {row['verdict']}, {'excluded' if unused else row['action']}")
        elif row["verdict"] in ("under-trained", "memorised"):
            lines.append(f"{name}: {row['verdict']}, {row['action']}")
    return lines
