"""Evaluation and serving read run folders and models; they load neither Lightning nor what draws pages."""

from tests.loading import run_each

PRELOADED = ("torch", "datasets", "sklearn.linear_model", "scipy.optimize")  # which load no Lightning either


def test_importing_it_loads_neither_lightning_nor_templates_of_pages():
    names = [
        "evaluation.evaluate",
        "evaluation.inference",
        "evaluation.compare",
        "evaluation.loaded",
        "serve.predictor",
    ]
    for name, (loaded, _) in run_each({n: f"import pase_msa.{n}" for n in names}, PRELOADED).items():
        assert f"pase_msa.{name}" in loaded
        assert not {"lightning", "lightning.pytorch", "pytorch_lightning", "torchmetrics"} & loaded, name
        assert not [m for m in loaded if m.startswith(("pase_msa.report", "pase_msa.balancing"))], name


def test_what_others_use_of_training_loads_no_lightning():
    names = ["run_folder", "config", "environment", "naming", "selection"]
    for name, (loaded, _) in run_each({n: f"import pase_msa.training.{n}" for n in names}, PRELOADED).items():
        assert f"pase_msa.training.{name}" in loaded
        assert not {"lightning", "torchmetrics"} & loaded, name
