"""Shape checks for the whole suite, one thread, and the tables that several files share."""

import gc
import os
from itertools import count

# before NumPy is imported; two workers of two threads each are slower on two cores
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
gc.set_threshold(100_000, 50, 100)  # thousands of tests and the modules of PyTorch are no garbage
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

from jaxtyping import install_import_hook

import tests.checking  # noqa: F401  (the hook finds it by name)

# the shapes in the annotations are checked at every call, so this comes before the modules are imported
install_import_hook(
    [
        "pase_msa.batch",
        "pase_msa.encoders.sequence",
        "pase_msa.fusion",
        "pase_msa.models.concat",
        "pase_msa.models.ef_lstm",
        "pase_msa.models.fused",
        "pase_msa.models.lf_dnn",
        "pase_msa.models.lmf",
        "pase_msa.models.tfn",
        "pase_msa.models.pase",
        "pase_msa.objective",
        "pase_msa.prototypes",
        "pase_msa.weighting",
    ],
    "tests.checking.check",
)

import pytest
import torch

from tests.toys import tiny_spec

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _caches(tmp_path_factory):
    return tmp_path_factory.mktemp("caches"), count()


@pytest.fixture(autouse=True)
def _one_seed_and_a_cache_of_its_own(_caches, monkeypatch):
    torch.manual_seed(0)
    # not `tmp_path`, since making a folder for each of thousands of tests takes longer than many of them
    folder, number = _caches
    monkeypatch.setenv("PASE_CACHE", str(folder / str(next(number))))


@pytest.fixture(scope="session")
def score_table():
    """A tiny table with a real label, vision is absent in some rows."""
    from pase_msa.data.synthetic.generate import synthetic_table

    return synthetic_table(tiny_spec())


@pytest.fixture(scope="session")
def class_table():
    """A tiny table with three classes."""
    from pase_msa.data.synthetic.generate import synthetic_table

    return synthetic_table(tiny_spec("classification"))
