"""A training run before the run: what a balancing method asks for when it wants to know how modalities learn alone."""

from __future__ import annotations

import dataclasses

from pase_msa.training.config import RunConfig


def unimodal_config(config: RunConfig, modalities: list[str], epochs: int) -> RunConfig:
    """The same run with some of the modalities, without balancing, for some epochs that no early stop cuts short."""
    epochs = min(epochs, config.training.epochs)
    return dataclasses.replace(
        config,
        out=None,
        modalities=modalities,
        balancing={"name": "none"},
        training=dataclasses.replace(config.training, epochs=epochs, patience=epochs),
    )
