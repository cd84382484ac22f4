"""Predictions with the imputation of absent modalities switched on and off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

from pase_msa.models.base import Model

Imputation = Literal["on", "off", "none"]
"""Of a measurement; "none": the model knows no imputation."""


@contextlib.contextmanager
def imputation_switched(model: Model, imputation: Imputation) -> Iterator[None]:
    """A model with its imputation on or off for a while; "none" leaves it as it is."""
    before = model.imputation
    if before is not None and imputation != "none":
        model.imputation = imputation == "on"
    try:
        yield
    finally:
        if before is not None:
            model.imputation = before


def settings(model: Model, wanted: Sequence[Imputation]) -> tuple[Imputation, ...]:
    """Those of the wanted settings that make a difference to a model."""
    return ("none",) if model.imputation is None else tuple(part for part in wanted if part != "none")
