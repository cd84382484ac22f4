"""Training runs before the run: for a balancing method that measures how each modality learns without the others."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from lightning import Callback

from pase_msa.balancing.base import LossMeasurement
from pase_msa.data.context import without_context
from pase_msa.models.base import Model
from pase_msa.training.callbacks import LossBeforeAfter
from pase_msa.training.config import RunConfig

_log = logging.getLogger(__name__)


def measure_unimodal(
    config: RunConfig, modalities: list[str], epochs: int, train_in_memory: Callable[[RunConfig, Callback], Model]
) -> tuple[LossMeasurement, LossMeasurement]:
    """Train the same model on some of the modalities, and measure its losses before and after.

    Args:
        config: of the run that asks.
        modalities: those that the model is given.
        epochs: of training; never more than the run itself has.
        train_in_memory: trains a run with one further callback and writes nothing.
    """
    short = unimodal_config(config, modalities, epochs)
    _log.info("training %s alone beforehand", "+".join(modalities))
    losses = LossBeforeAfter(config.training.batch_size)
    train_in_memory(short, losses)
    before, after = losses.measured
    return before, after


def train_unimodal(
    config: RunConfig, modalities: list[str], epochs: int, train_in_memory: Callable[[RunConfig], Model]
) -> Model:
    """The same model, trained on some of the modalities, in evaluation mode with the weights of its best epoch.

    The arguments are those of `measure_unimodal`; `train_in_memory` needs no callback.
    """
    _log.info("training %s alone beforehand", "+".join(modalities))
    return train_in_memory(unimodal_config(config, modalities, epochs)).eval()


def unimodal_config(config: RunConfig, modalities: list[str], epochs: int) -> RunConfig:
    """The same run with some of the modalities and without balancing; no early stop cuts its epochs short."""
    epochs = min(epochs, config.training.epochs)
    return dataclasses.replace(
        config,
        out=None,
        modalities=modalities,
        **without_context(modalities),
        balancing={"name": "none"},
        training=dataclasses.replace(config.training, epochs=epochs, patience=epochs),
    )
