"""What follows training: the confidence is calibrated on validation, and the modalities get their report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from pase_msa.calibration import fit_temperature
from pase_msa.cards.card import RunFacts
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.heldout.modality_report import modality_report
from pase_msa.models.base import Model
from pase_msa.training.run_folder import RunFolder

if TYPE_CHECKING:  # evaluation reads `run_facts` and loads no Lightning
    from pase_msa.balancing.base import BalancingMethod


def calibrate(
    model: Model, valid: UtteranceDataset, batch_size: int
) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
    """Bring a trained model to the CPU and fit the temperature of its confidence on validation.

    Args:
        model: trained; its `temperature` is set.
        valid: the N validation utterances, labelled.
        batch_size: utterances per pass.

    Returns:
        Logits [N, K] and labels [N] of the validation split.
    """
    logits, labels = validation_logits(model.cpu().eval(), valid, batch_size)
    model.temperature.fill_(fit_temperature(model.task, logits, labels))
    return logits, labels


@torch.inference_mode()
def validation_logits(
    model: Model, dataset: UtteranceDataset, batch_size: int
) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
    """Logits [N, K] and labels [N] of a labelled dataset, as the model predicts them."""
    logits, labels = [], []
    for batch in evaluation_loader(dataset, batch_size):
        assert batch.labels is not None
        logits.append(model(batch).logits.float())
        labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)


def run_modality_report(
    model: Model,
    balancing: BalancingMethod,
    train: UtteranceDataset,
    valid: UtteranceDataset,
    *,
    epoch: int | None,
    batch_size: int,
) -> dict[str, Any] | None:
    """The verdict on every modality after training; None where the balancing method made no diagnosis.

    Args:
        model: trained, on the CPU.
        balancing: the method that the run was trained with.
        train: training utterances.
        valid: validation utterances.
        epoch: the one that was selected; the report names its learning rates.
        batch_size: utterances per pass.
    """
    diagnosis = balancing.diagnosis
    if diagnosis is None:
        return None
    history = {row["epoch"]: row for row in getattr(balancing, "history", [])}
    row = history.get(epoch, {"active": False})
    rates = row["phi"] if row["active"] else {}
    return modality_report(model, diagnosis, train, valid, rates=rates, batch_size=batch_size)


def run_facts(folder: RunFolder, results: Mapping[str, Any]) -> RunFacts:
    """What a card says of a run that is trained and not evaluated.

    Args:
        folder: of the run, with its configuration and the description of its data.
        results: of the training, as in `results.json`.
    """
    return RunFacts(folder.path.name, folder.read_config(), folder.read_data(), results, about=folder.read_about())
