"""A diagnosis that was kept is the one that was made, and is made again where anything that it follows from differs."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pase_msa.data.problem import Problem, ProblemOptions
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.heldout import diagnose as diagnosing
from pase_msa.heldout.diagnose import diagnose_problem
from tests.toys import tiny_spec

ONE = ProblemOptions(modalities=["text"])  # which is diagnosed in less time


@pytest.fixture
def made(monkeypatch):
    """Every diagnosis that is made."""
    real, results = diagnosing.diagnose_features, []

    def counted(*args, **options):
        results.append(real(*args, **options))
        return results[-1]

    monkeypatch.setattr(diagnosing, "diagnose_features", counted)
    return results


@pytest.fixture(scope="module")
def table():
    return synthetic_table(tiny_spec())


@pytest.fixture
def kept_files():
    return lambda: list((Path(os.environ["PASE_CACHE"]) / "diagnoses").glob("*.safetensors"))


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_what_is_kept_is_what_was_made(made, kind):
    table = synthetic_table(tiny_spec(kind))
    first, again = (diagnose_problem(Problem.from_table(table), keep=True) for _ in range(2))
    assert len(made) == 1
    assert again.to_dict() == first.to_dict()
    assert again.coalitions == first.coalitions
    for name in ("coalition_weights", "gains", "videos"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    for name, values in first.valid_contributions.items():
        np.testing.assert_array_equal(again.valid_contributions[name], values)
    assert again.reference.shapes == first.reference.shapes
    torch.testing.assert_close(again.reference.state_dict(), first.reference.state_dict(), rtol=0, atol=0)


def test_other_data_and_another_seed_are_diagnosed_anew(made, table):
    diagnose_problem(Problem.from_table(table, ONE), keep=True)
    diagnose_problem(Problem.from_table(table, ONE), seed=1, keep=True)
    diagnose_problem(Problem.from_table(table, ProblemOptions(modalities=["audio"])), keep=True)
    other = synthetic_table(tiny_spec(seed=7))
    diagnose_problem(Problem.from_table(other, ONE), keep=True)
    assert len(made) == 4


def test_other_code_makes_it_anew(made, table, monkeypatch):
    diagnose_problem(Problem.from_table(table, ONE), keep=True)
    monkeypatch.setattr("pase_msa.heldout.stored._code", lambda: "changed")
    diagnose_problem(Problem.from_table(table, ONE), keep=True)
    assert len(made) == 2


def test_a_damaged_one_is_made_anew(made, table, kept_files):
    diagnose_problem(Problem.from_table(table, ONE), keep=True)
    (file,) = kept_files()
    file.write_bytes(file.read_bytes()[:-100])
    diagnose_problem(Problem.from_table(table, ONE), keep=True)
    diagnose_problem(Problem.from_table(table, ONE), keep=True)
    assert len(made) == 2


def test_nothing_is_kept_unless_it_is_asked_for(made, table, kept_files):
    diagnose_problem(Problem.from_table(table, ONE))
    assert len(made) == 1
    assert not kept_files()
