"""A piece can be had without the rest: what its import loads, in a fresh process."""

import pytest

from tests.loading import layers, run_each

#: what nobody needs who takes a callback for an own LightningModule
HEAVY = {"jinja2", "matplotlib", "pandas", "pyarrow", "rich", "safetensors", "scipy", "sklearn", "transformers"}
PIECES = ("ShapleyModulation", "modulation_factors")


@pytest.fixture(scope="module")
def loaded():
    """By name, modules of ours and top-level names of others; those of torch and Lightning are left out."""
    codes = {name: f"from pase_msa import {name}" for name in PIECES}
    result = {}
    for name, (modules, _) in run_each(codes, ("torch", "lightning", "jaxtyping", "numpy")).items():
        ours = {module.removeprefix("pase_msa.") for module in modules if module.startswith("pase_msa.")}
        result[name] = ours, {module.split(".")[0] for module in modules} - {"pase_msa"}
    return result


def test_shapley_modulation_loads_only_what_it_needs(loaded):
    ours, others = loaded["ShapleyModulation"]
    pieces = {"base", "factors", "rates", "sgm"}
    assert ours == {
        "errors",
        "ranges",
        "shapley",
        "batch",
        "task",
        "balancing",
        *(f"balancing.{piece}" for piece in pieces),
    }
    assert not others & HEAVY


def test_modulation_factors_load_no_more(loaded):
    ours, others = loaded["modulation_factors"]
    assert ours == {"errors", "balancing", "balancing.factors"}
    assert not others & HEAVY


def test_a_module_that_is_imported_without_lightning_does_not_load_it():
    ((modules, _),) = run_each({"factors": "from pase_msa import modulation_factors"}).values()
    assert not {"torch", "lightning"} & modules


def test_held_out_evidence_loads_neither_training_nor_reports():
    names = ["contributions", "diagnose", "diagnosis", "mixture", "modality_report", "reference", "table"]
    names += ["validation", "weights"]
    preloaded = ("torch", "lightning", "datasets", "sklearn.linear_model", "scipy.optimize")
    # what none of them loads, all together do not load
    ((modules, _),) = run_each(
        {"all": "\n".join(f"import pase_msa.heldout.{name}" for name in names)}, preloaded
    ).values()
    assert {f"pase_msa.heldout.{name}" for name in names} <= modules
    assert not layers(modules) & {"balancing", "models", "training", "evaluation", "report", "cli"}
    assert not {m.split(".")[0] for m in modules} & {"jinja2", "matplotlib", "rich", "transformers"}
