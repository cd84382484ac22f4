"""Evaluation and serving read run folders and models; they load neither Lightning nor what draws pages."""

import subprocess
import sys

import pytest

MODULES = ["evaluation.evaluate", "evaluation.inference", "evaluation.compare", "evaluation.loaded", "serve.predictor"]


@pytest.mark.parametrize("module", MODULES)
def test_importing_it_loads_neither_lightning_nor_templates_of_pages(module):
    code = f"import sys, pase_msa.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    loaded = set(done.stdout.split())
    assert not {"lightning", "lightning.pytorch", "pytorch_lightning"} & loaded
    assert not [name for name in loaded if name.startswith(("pase_msa.report", "pase_msa.balancing"))]


@pytest.mark.parametrize("module", ["run_folder", "config", "environment", "naming", "selection"])
def test_what_others_use_of_training_loads_no_lightning(module):
    code = f"import sys, pase_msa.training.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "lightning" not in done.stdout.split()
