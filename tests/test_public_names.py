"""The exported names: their signatures, and which packages each of them loads."""

import inspect
from pathlib import Path

import pytest
import torch

import pase_msa
from tests.loading import layers, packages, run_each

NAMES = {
    "shapley_values",
    "modulation_factors",
    "entropic_plan",
    "PrototypeBank",
    "calibration_loss",
    "alignment_loss",
    "ShapleyModulation",
    "diagnose",
    "PaSEClassifier",
    "PaSERegressor",
    "PaSE",
    "Task",
    "Batch",
    "Outputs",
    "FeatureTable",
    "Modalities",
    "open_table",
    "PaSEError",
    "__version__",
}
SIGNATURES = {
    "shapley_values": {"utility": ..., "players": ...},
    "modulation_factors": {"values": ...},
    "entropic_plan": {"cost": ..., "regularization": ..., "marginals": "balanced"},
    "PrototypeBank": {"num_classes": ..., "dim": ..., "momentum": 0.98, "modalities": None},
    "calibration_loss": {"features": ..., "prototypes": ..., "target": ..., "temperature": ...},
    "alignment_loss": {"prototypes": ..., "regularization": 0.01, "consistency": 0.1, "structure": 0.05},
    "diagnose": {"data": None},
}


def positional(function):
    """Name -> default of the parameters that may be given by position; what else there is has a default."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            found[name] = ... if required else parameter.default
        else:
            assert not required
    return found


def test_exactly_these_names_are_exported():
    assert set(pase_msa.__all__) == NAMES
    assert set(dir(pase_msa)) >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_type_checker_sees_what_is_imported(name):
    value = getattr(pase_msa, name)
    if name != "__version__":
        assert f"from {value.__module__} import" in Path(pase_msa.__file__).read_text()


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_signature(name):
    assert positional(getattr(pase_msa, name)) == SIGNATURES[name]


def test_results_are_what_was_promised():
    values = pase_msa.shapley_values(lambda coalition: float(len(coalition)), ["a", "b"])
    assert isinstance(values, dict)
    assert values == {"a": 1.0, "b": 1.0}
    assert pase_msa.modulation_factors({"a": 1.0, "b": 1.0}) == {"a": 1.0, "b": 1.0}
    cost = torch.rand(2, 3, 3, requires_grad=True)
    result = pase_msa.entropic_plan(cost, 0.1)
    assert result.converged
    assert isinstance(result.iterations, int)
    torch.testing.assert_close(result.plan.sum(-1), torch.ones(2, 3))
    result.plan.square().sum().backward()
    assert cost.grad.abs().sum() > 0
    bank = pase_msa.PrototypeBank(3, 4)
    bank.update(torch.randn(6, 4), torch.arange(6) % 3)
    bank.update(torch.randn(6, 4), torch.full((6, 3), 1 / 3))
    assert bank.prototypes.shape == (3, 4)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'PASE'"):
        _ = pase_msa.PASE


_TABLE = {"torch", "datasets", "pandas", "pyarrow"}
_WHOLE = _TABLE | {"lightning", "safetensors", "scipy", "sklearn", "joblib"}
#: name -> packages that it may load; what torch and lightning load themselves does not count
LOADS = {
    "Batch": {"torch"},
    "FeatureTable": _TABLE,
    "Modalities": _WHOLE,
    "Outputs": {"torch"},
    "PaSE": _WHOLE,
    "PaSEClassifier": _WHOLE,
    "PaSEError": set(),
    "PaSERegressor": _WHOLE,
    "PrototypeBank": {"torch"},
    "ShapleyModulation": {"torch", "lightning"},
    "Task": {"torch"},
    "__version__": set(),
    "alignment_loss": {"torch"},
    "calibration_loss": {"torch"},
    "diagnose": _WHOLE,
    "entropic_plan": {"torch"},
    "modulation_factors": {"torch"},
    "open_table": _TABLE,
    "shapley_values": {"torch"},
}
#: layers that a single piece must not load
WHOLE = {"data", "encoders", "heldout", "models", "training", "evaluation", "estimator", "report", "cli"}


@pytest.mark.parametrize(
    "preload", [(), ("torch",), ("torch", "lightning")], ids=lambda names: "+".join(names) or "none"
)
def test_a_name_loads_only_what_it_needs(preload):
    names = [name for name, may in LOADS.items() if tuple(p for p in ("torch", "lightning") if p in may) == preload]
    codes = {name: f"from pase_msa import {name}" for name in names}
    for name, (modules, _) in run_each(codes, preload).items():
        assert packages(modules) <= LOADS[name], name
        if LOADS[name] <= {"torch", "lightning"}:
            assert not layers(modules) & WHOLE, name


def test_the_list_of_what_is_loaded_is_complete():
    assert set(LOADS) == NAMES
