"""Planted data for experiments on what papers report of their systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pase_msa.data import FeatureTable
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec


def planted_table(seed: int, modalities: Mapping[str, Mapping[str, Any]], **sizes: Any) -> FeatureTable:
    """Four classes, and one frame per utterance unless a modality says otherwise."""
    specs = {name: ModalitySpec(**{"length": (1, 1), **options}) for name, options in modalities.items()}
    defaults: dict[str, Any] = {"kind": "classification", "classes": 4, "valid": 200, "test": 2000}
    return synthetic_table(SyntheticSpec(specs, seed=seed, **{**defaults, **sizes}))
