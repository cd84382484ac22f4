"""A piece can be had without the rest: what its import loads, in a fresh process."""

import subprocess
import sys

import pytest

#: what nobody needs who takes a callback for an own LightningModule
HEAVY = {"jinja2", "matplotlib", "pandas", "pyarrow", "rich", "safetensors", "scipy", "sklearn", "transformers"}


def loaded_by(statement):
    """Modules of ours, and top-level names of others, after a statement; those of torch and Lightning are left out."""
    code = f"""
import sys
import torch, lightning, jaxtyping, numpy
before = set(sys.modules)
{statement}
print(*sorted(set(sys.modules) - before))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name.removeprefix("pase_msa.") for name in output if name.startswith("pase_msa.")}
    return ours, {name.split(".")[0] for name in output} - {"pase_msa"}


def test_shapley_modulation_loads_only_what_it_needs():
    ours, others = loaded_by("from pase_msa import ShapleyModulation")
    pieces = {"base", "factors", "rates", "sgm"}
    assert ours == {"errors", "shapley", "batch", "task", "balancing", *(f"balancing.{piece}" for piece in pieces)}
    assert not others & HEAVY


def test_modulation_factors_load_no_more():
    ours, others = loaded_by("from pase_msa import modulation_factors")
    assert ours == {"errors", "balancing", "balancing.factors"}
    assert not others & HEAVY


def test_a_module_that_is_imported_without_lightning_does_not_load_it():
    code = (
        "import sys; from pase_msa import modulation_factors; print('torch' in sys.modules, 'lightning' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    "module",
    [
        "contributions",
        "diagnose",
        "diagnosis",
        "mixture",
        "modality_report",
        "reference",
        "table",
        "validation",
        "weights",
    ],
)
def test_held_out_evidence_loads_neither_training_nor_reports(module):
    ours, others = loaded_by(f"import pase_msa.heldout.{module}")
    folders = {name.split(".")[0] for name in ours}
    assert not folders & {"balancing", "models", "training", "evaluation", "report", "cli"}
    assert not others & {"jinja2", "matplotlib", "rich", "transformers"}
