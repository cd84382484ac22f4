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
    loaded = loaded_by_all(names)
    assert not {"lightning", "lightning.pytorch", "pytorch_lightning", "torchmetrics"} & loaded
    assert not [m for m in loaded if m.startswith(("pase_msa.report", "pase_msa.balancing"))]


def test_what_others_use_of_training_loads_no_lightning():
    names = ["run_folder", "config", "environment", "naming", "selection"]
    assert not {"lightning", "torchmetrics"} & loaded_by_all([f"training.{name}" for name in names])


def loaded_by_all(names):
    """What is loaded by some modules of ours; what all together do not load, none of them loads."""
    ((loaded, _),) = run_each({"all": "\n".join(f"import pase_msa.{name}" for name in names)}, PRELOADED).values()
    assert {f"pase_msa.{name}" for name in names} <= loaded
    return loaded
