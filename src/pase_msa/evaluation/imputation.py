"""Predictions with the imputation of absent modalities switched on and off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

from pase_msa.models.base import Model

Imputation = Literal["on", "off", "none"]
"""The setting of a measurement; "none" is that of a model without imputation."""


@contextlib.contextmanager
def imputation_switched(model: Model, imputation: Imputation) -> Iterator[None]:
    """Switch the imputation of a model on or off inside the block; "none" leaves it as it is."""
    before = model.imputation
    if before is not None and imputation != "none":
        model.imputation = imputation == "on"
    try:
        yield
    finally:
        if before is not None:
            model.imputation = before


def settings(model: Model, wanted: Sequence[Imputation]) -> tuple[Imputation, ...]:
    """The wanted settings that make a difference to a model: "none" alone where it has no imputation."""
    return ("none",) if model.imputation is None else tuple(setting for setting in wanted if setting != "none")
