"""Prediction and extraction load no training: whoever predicts needs no Lightning."""

import subprocess
import sys

import pytest

from tests.toys import toy_model


def loaded(code):
    """Modules that a fresh process has after some code."""
    code += "\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout.split())


def training_of(modules):
    parts = ("lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics")
    return {name for name in modules if name.split(".")[0] in parts or name.startswith("pase_msa.training")}


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("pase_msa.serve.predictor", None),
        ("pase_msa.serve.clips", "av"),
        ("pase_msa.serve.export", None),
        ("pase_msa.serve.api", "fastapi"),
        ("pase_msa.serve.page", "gradio"),
        ("pase_msa.media.pipeline", "av"),
        ("pase_msa.media.table", "av"),
    ],
)
def test_an_import_loads_no_training(module, package):
    if package is not None:
        pytest.importorskip(package)
    assert training_of(loaded(f"import {module}")) == set()


def test_a_prediction_loads_no_training(tmp_path):
    toy_model().save_pretrained(tmp_path)
    code = f"""
import numpy as np
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.serve.predictor import Predictor

predictor = Predictor({str(tmp_path)!r})
table = FeatureTable.build([Utterance("a", "v", "", features={{"text": np.ones((2, 5))}})], Schema({{"text": 5}}, {{}}))
(prediction,) = predictor.predict(table)
"""
    assert training_of(loaded(code)) == set()
