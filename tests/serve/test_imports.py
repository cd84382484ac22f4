"""Prediction and extraction load no training: whoever predicts needs no Lightning."""

import importlib.util

from tests.loading import run_each
from tests.toys import toy_model

PRELOADED = ("torch", "datasets", "sklearn.linear_model", "scipy.optimize")  # which load no training either


def training_of(modules):
    parts = ("lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics")
    return {name for name in modules if name.split(".")[0] in parts or name.startswith("pase_msa.training")}


def test_an_import_loads_no_training():
    needs = {
        "pase_msa.serve.predictor": None,
        "pase_msa.serve.clips": "av",
        "pase_msa.serve.export": None,
        "pase_msa.serve.api": "fastapi",
        "pase_msa.serve.page": "gradio",
        "pase_msa.media.pipeline": "av",
        "pase_msa.media.table": "av",
    }
    here = [name for name, package in needs.items() if package is None or importlib.util.find_spec(package)]
    for name, (loaded, _) in run_each({name: f"import {name}" for name in here}, PRELOADED).items():
        assert name in loaded
        assert training_of(loaded) == set(), name


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
    ((loaded, _),) = run_each({"prediction": code}).values()
    assert training_of(loaded) == set()
