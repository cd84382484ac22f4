import logging
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.balancing.factors import modulation_factors
from pase_msa.errors import PaSEError

steady = settings(derandomize=True, deadline=None, max_examples=100)
values = st.dictionaries(st.sampled_from("abcde"), st.floats(-10, 10), min_size=1)


def test_equation_20():
    found = modulation_factors({"text": 0.6, "audio": 0.3, "vision": 0.1})
    assert found == pytest.approx({"text": math.exp(1 / 6 - 1), "audio": math.exp(1 / 3 - 1), "vision": 1.0})
    assert found.floored == ()


@steady
@given(values)
def test_laws(psi):
    found = modulation_factors(psi)
    assert found.keys() == psi.keys()
    assert all(0 < phi <= 1 for phi in found.values())
    assert found[min(psi, key=psi.get)] == 1.0
    assert found.floored == tuple(name for name, value in psi.items() if value <= 0)
    for one in psi:
        for two in psi:
            assert psi[one] < psi[two] or found[one] <= found[two]


@steady
@given(st.dictionaries(st.sampled_from("abcde"), st.sampled_from([-1.0, 0.0, 0.25, 1.0, 3.0]), min_size=1))
def test_scale_does_not_matter(psi):
    scaled = modulation_factors({name: 1024.0 * value for name, value in psi.items()})
    assert scaled == modulation_factors(psi)


def test_values_that_are_not_positive_are_floored_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        found = modulation_factors({"text": 1.0, "audio": -0.5, "vision": 0.0}, floor=0.1)
    assert found == pytest.approx({"text": math.exp(0.1 - 1), "audio": 1.0, "vision": 1.0})
    assert found.floored == ("audio", "vision")
    assert len(caplog.records) == 1
    assert "audio, vision" in caplog.text


def test_nothing_positive_changes_nothing():
    found = modulation_factors({"text": -1.0, "audio": 0.0})
    assert found == {"text": 1.0, "audio": 1.0}
    assert found.floored == ("text", "audio")


def test_nothing_floored_says_nothing(caplog):
    modulation_factors({"text": 1.0, "audio": 2.0})
    assert not caplog.records


def test_extremes_stay_finite():
    assert modulation_factors({"a": 5e-324, "b": -1.0}) == {"a": 1.0, "b": 1.0}
    assert modulation_factors({"a": 1e308, "b": 1e-308})["a"] == pytest.approx(math.exp(-1))
    assert modulation_factors({"a": 3.0}) == {"a": 1.0}


def test_survives_pickling():
    found = pickle.loads(pickle.dumps(modulation_factors({"a": 1.0, "b": -1.0})))
    assert found.floored == ("b",)


@pytest.mark.parametrize(
    ("psi", "floor", "words"),
    [
        ({}, 0.01, "none was found"),
        ({"a": math.nan}, 0.01, "'a' has nan"),
        ({"a": 1.0, "b": math.inf}, 0.01, "'b' has inf"),
        ({"a": 1.0}, 0.0, "floor"),
        ({"a": 1.0}, 2.0, "floor"),
    ],
)
def test_mistakes_are_named(psi, floor, words):
    with pytest.raises(PaSEError, match=words):
        modulation_factors(psi, floor=floor)
