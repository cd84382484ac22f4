"""What became of every modality: its contributions in training and on new videos, the verdict, what was done about it.

The diagnosis speaks of a reference model that is solved in closed form; here the trained network is asked the same, in
the same unit. Where the two disagree, the verdict says so: a modality that the reference gets more out of on new videos
is under-trained, and one that pays in the network's training only was memorised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.heldout.contributions import SOURCES, Estimate, estimate, fitted_gains
from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis
from pase_msa.heldout.verdict import CLOSED, FEW, LIKELY, NEGLIGIBLE, SURE, Verdict
from pase_msa.models.base import Model
from pase_msa.shapley import attribution

Array = NDArray[np.float64]
#: certainty, on one side, that the reference gets more out of a modality than the network does
MORE = 0.99
_MINOR = 0.01  # a smaller share of the prediction is as good as none
ModalityVerdict = Literal["under-trained"] | Verdict


@dataclass(frozen=True)
class NetworkEvidence:
    """What a modality contributes to the trained network, every coalition read as it is, before trust.

    Attributes:
        train: on as many training utterances as there are validation ones.
        valid: on validation.
        behind: the reference's contribution on validation less the network's, paired by utterance.
    """

    train: Estimate
    valid: Estimate
    behind: Estimate


def modality_report(
    model: Model,
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
        batch_size: utterances a pass.

    Returns:
        "mode"; "reference_share", of the prediction; "coalition_weights", weight by coalition, names joined by "+"; "counts";
        "modalities": by name "verdict" and "why", "diagnosis" (the verdict before training), "share" of the prediction
        that the modality has a say in, "network_share" of the network's part of it, "learning_rate", "action",
        "reference" and "network": estimates in nats an utterance, and "behind": reference less network.
    """
    evidence = network_evidence(model, diagnosis, train, valid, batch_size=batch_size)
    share = float(model.mixture.reference) if model.reference is not None else 0.0
    names = model.task.modalities
    rows = {}
    for name in names:
        found = diagnosis.modalities[name]
        verdict, why = refine(found, evidence[name])
        total = min(model.prediction_weight(name), 1.0)
        by_reference = share * model.reference.prediction_weight(name) if model.reference is not None else 0.0
        rows[name] = {
            "verdict": verdict,
            "why": why,
            "diagnosis": found.verdict,
            "more_videos": found.more_videos if verdict == "undecided" else None,
            "share": total,
            "network_share": min(model.mixture.prediction_weight(name), 1.0),
            "learning_rate": rates.get(name, 1.0),
            "action": action(verdict, total, by_reference, rates.get(name, 1.0)),
            "reference": {source: getattr(found.evidence, source).to_dict() for source in SOURCES},
            "network": {"train": evidence[name].train.to_dict(), "valid": evidence[name].valid.to_dict()},
            "behind": evidence[name].behind.to_dict(),
        }
    trusted = model.mixture.coalitions
    return {
        "mode": "held_out",
        "unit": "nats an utterance",
        "reference_share": share,
        "coalition_weights": {
            "+".join(n for n in names if n in coalition): weight for coalition, weight in trusted.items()
        },
        "counts": {**diagnosis.counts, "network_training_utterances": min(len(train), len(valid))},
        "modalities": rows,
    }


def network_evidence(
    model: Model, diagnosis: Diagnosis, train: UtteranceDataset, valid: UtteranceDataset, *, batch_size: int = 256
) -> dict[str, NetworkEvidence]:
    """The network's own contributions, by the games of the diagnosis.

    A closed modality is one of all players; the others play among themselves, so that they neither pay for it nor
    profit. Which training utterances are asked is fixed.
    """
    names = model.task.modalities
    opened = tuple(name for name in names if name not in diagnosis.closed)
    games = {players: attribution(players) for players in {names, opened} if players}
    wanted = list(dict.fromkeys(game for found, _ in games.values() for game in found if game))
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[: len(valid)])
    some = UtteranceDataset(train.columns, train.rows[chosen], train.videos, train.labels)
    shares: dict[str, dict[str, Array]] = {}
    for split, dataset in (("train", some), ("valid", valid)):
        values = _gains(model, dataset, train, wanted, batch_size)
        for name in names:
            players = opened if name in opened else names
            coalitions, matrix = games[players]
            shares.setdefault(name, {})[split] = matrix[players.index(name)] @ np.stack([values[c] for c in coalitions])
    own, other = train.videos[some.rows], valid.videos[valid.rows]
    return {
        name: NetworkEvidence(
            estimate(found["train"], own),
            estimate(found["valid"], other),
            estimate(diagnosis.held[name] - found["valid"], other),
        )
        for name, found in shares.items()
    }


@torch.inference_mode()
def _gains(
    model: Model,
    dataset: UtteranceDataset,
    train: UtteranceDataset,
    games: Sequence[frozenset[str]],
    batch_size: int,
) -> dict[frozenset[str], Float[Array, " n"]]:
    """Log-likelihood gain of every coalition over knowing nothing, in the unit of the diagnosis."""
    task = model.task
    parts = []
    for batch in evaluation_loader(dataset, batch_size):
        parts.append(torch.stack([output.probabilities.double() for output in model.network_coalitions(batch, games)]))
    probabilities = torch.cat(parts, dim=1)
    assert train.labels is not None
    labels = [train.labels[rows] for rows in (dataset.rows, train.rows)]
    if task.values is not None:
        truth, targets = (values[:, None] for values in labels)
        said = task.score(probabilities).numpy()[:, :, None] - targets.mean(0)
    else:
        truth, targets = (np.eye(task.num_classes)[values.astype(np.int64)] for values in labels)
        prior = np.log(np.clip(targets.mean(0), 1e-9, None))
        said = (probabilities.clamp(min=1e-12).log().numpy() - prior) / task.num_classes
    return {frozenset(): np.zeros(len(truth))} | dict(
        zip(games, fitted_gains(task, list(said), truth, targets), strict=True)
    )


def refine(found: ModalityDiagnosis, network: NetworkEvidence) -> tuple[ModalityVerdict, str]:
    """The verdict of the diagnosis in the light of what the network made of the modality, and one clause that says why.

    - under-trained: it is not closed, contributes to the reference on new videos, and to the network surely less.
    - memorised: not useful to the reference; to the network in training only.

    Both want enough validation videos: of a few the spread is not known.
    """
    if found.verdict in CLOSED:
        return found.verdict, found.why
    behind, told, enough = network.behind, found.evidence.valid, network.valid.videos >= FEW
    if enough and told.bound(LIKELY) > 0 and behind.bound(MORE) > 0 and behind.value > NEGLIGIBLE:
        return "under-trained", f"the reference gets {behind.value:.3f} nats more out of it on new videos"
    learned = network.train.bound(SURE) > 0 and network.train.value > NEGLIGIBLE
    gone = enough and network.valid.upper(LIKELY) < NEGLIGIBLE
    if found.verdict != "useful" and learned and gone:
        return "memorised", "the network learned it by heart: it contributes in training and not on new videos"
    return found.verdict, found.why


def action(verdict: ModalityVerdict, share: float, by_reference: float, rate: float) -> str:
    """What was done about a modality, in words.

    Args:
        verdict: on it.
        share: of the prediction that it has a say in.
        by_reference: the part of that share that is the reference's.
        rate: its learning-rate factor.
    """
    if verdict in CLOSED and share < _MINOR:
        return "closed: no prediction reads it"
    if verdict == "under-trained" and by_reference >= _MINOR:
        return f"the reference speaks for it: {_percent(by_reference)} of the prediction"
    done = f"read in {_percent(share)} of the prediction" if share >= _MINOR else "left out of the prediction"
    return done if rate > 1 - _MINOR else f"{done}, learns at {_percent(rate)} of the usual rate"


def _percent(share: float) -> str:
    """In whole percent, never more than 100."""
    return f"{min(round(100 * share), 100)} %"


def summary_lines(content: Mapping[str, Any]) -> list[str]:
    """A line for every modality that is closed, under-trained or memorised: "vision: deceptive, closed"."""
    lines = []
    for name, row in content["modalities"].items():
        if row["verdict"] in CLOSED:
            lines.append(f"{name}: {row['verdict']}, {'closed' if row['share'] < _MINOR else row['action']}")
        elif row["verdict"] in ("under-trained", "memorised"):
            lines.append(f"{name}: {row['verdict']}, {row['action']}")
    return lines
