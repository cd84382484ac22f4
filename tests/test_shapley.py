import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.errors import PaSEError
from pase_msa.shapley import coalitions, shapley_from_coalitions, shapley_values
from tests.reference.shapley import shapley

PLAYERS = ("text", "audio", "vision", "pose", "gaze")
steady = settings(derandomize=True, deadline=None, max_examples=50)


@st.composite
def utilities(draw, most=5):
    """Utilities of the coalitions of one to five players, the empty one 0."""
    players = PLAYERS[: draw(st.integers(1, most))]
    values = draw(st.lists(st.floats(-10, 10), min_size=2 ** len(players), max_size=2 ** len(players)))
    subsets = [frozenset(p for i, p in enumerate(players) if n >> i & 1) for n in range(len(values))]
    return players, dict(zip(subsets, [0.0, *values[1:]], strict=True))


@steady
@given(utilities(most=4))
def test_agrees_with_the_definition(case):
    players, utility = case
    found = shapley_values(utility.__getitem__, players)
    assert found == pytest.approx(shapley(utility.__getitem__, players), abs=1e-9)
    assert found.exact
    assert found.standard_errors == dict.fromkeys(players, 0.0)


@steady
@given(utilities())
def test_efficiency(case):
    players, utility = case
    found = shapley_values(utility.__getitem__, players)
    assert sum(found.values()) == pytest.approx(utility[frozenset(players)], abs=1e-9)


@steady
@given(utilities())
def test_symmetry(case):
    """Renaming the players renames the values."""
    players, utility = case
    rename = dict(zip(players, reversed(players), strict=True))
    turned = shapley_values(lambda s: utility[frozenset(rename[p] for p in s)], players)
    found = shapley_values(utility.__getitem__, players)
    assert {rename[p]: v for p, v in turned.items()} == pytest.approx(dict(found), abs=1e-9)


@steady
@given(utilities(), st.floats(-5, 5))
def test_dummy(case, worth):
    """A player that adds its own worth and nothing else gets just that; the others do not notice."""
    players, utility = case
    found = shapley_values(lambda s: utility[s - {"idle"}] + worth * ("idle" in s), [*players, "idle"])
    assert found["idle"] == pytest.approx(worth, abs=1e-9)
    del found["idle"]
    assert found == pytest.approx(dict(shapley_values(utility.__getitem__, players)), abs=1e-9)


@steady
@given(utilities(), st.floats(-3, 3))
def test_additivity(case, factor):
    players, utility = case
    other = {s: math.sin(hash_free(s)) for s in utility}
    joint = shapley_values(lambda s: utility[s] + factor * other[s], players)
    one = shapley_values(utility.__getitem__, players)
    two = shapley_values(other.__getitem__, players)
    assert joint == pytest.approx({p: one[p] + factor * two[p] for p in players}, abs=1e-9)


def hash_free(coalition):
    return sum(3.7 ** (PLAYERS.index(player) + 1) for player in coalition)


def test_glove_game():
    """Two left gloves, one right: the right one is worth 2/3."""
    found = shapley_values(lambda s: float("r" in s and len(s) > 1), ["l1", "l2", "r"])
    assert found == pytest.approx({"l1": 1 / 6, "l2": 1 / 6, "r": 2 / 3})


@pytest.mark.parametrize("count", [1, 3, 10])
def test_each_coalition_is_computed_once(count):
    asked = []
    shapley_values(lambda s: asked.append(s) or float(len(s)), [str(i) for i in range(count)])
    assert len(asked) == len(set(asked)) == 2**count - 1
    assert frozenset() not in asked


def test_coalitions_are_in_bitmask_order():
    assert coalitions(["a", "b"]) == [frozenset(), {"a"}, {"b"}, {"a", "b"}]


def test_many_utilities_at_once():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(8, 5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    found = shapley_from_coalitions(values, 3)
    assert found.shape == (3, 5, 2)
    assert torch.allclose(found.sum(0), values[-1] - values[0])
    for row in range(5):
        utility = dict(zip(coalitions("abc"), (values[:, row, 1] - values[0, row, 1]).tolist(), strict=True))
        single = shapley_values(utility.__getitem__, "abc")
        assert found[:, row, 1].tolist() == pytest.approx(list(single.values()))
    np.testing.assert_allclose(shapley_from_coalitions(values.detach().numpy(), 3), found.detach().numpy())
    found[0].sum().backward()
    assert torch.allclose(values.grad[1], torch.full((5, 2), 1 / 3, dtype=torch.float64))
    assert shapley_from_coalitions(values.detach().float(), 3).dtype == torch.float32
    assert shapley_from_coalitions(torch.tensor([0, 3]), 1).tolist() == [3.0]


def test_sampling_is_right_within_its_error():
    players = [f"p{i}" for i in range(12)]
    worth = dict(zip(players, range(12), strict=True))
    pairs = {("p0", "p1"): 6.0, ("p2", "p11"): -3.0}  # a joint bonus is shared equally

    def utility(s):
        assert s
        return sum(worth[p] for p in s) + sum(v for pair, v in pairs.items() if s.issuperset(pair)) + (len(s) > 6)

    exact = {p: worth[p] + 1 / 12 + sum(v / 2 for pair, v in pairs.items() if p in pair) for p in players}
    found = shapley_values(utility, players, permutations=600, seed=1)
    assert not found.exact
    assert sum(found.values()) == pytest.approx(utility(frozenset(players)))
    assert any(error > 0 for error in found.standard_errors.values())
    for player in players:
        assert abs(found[player] - exact[player]) <= 4 * found.standard_errors[player] + 1e-9
    again = shapley_values(utility, players, permutations=600, seed=1)
    other = shapley_values(utility, players, permutations=600, seed=2)
    assert found == again
    assert found != other


def test_sampling_computes_no_coalition_twice():
    asked = []
    players = [str(i) for i in range(11)]
    shapley_values(lambda s: asked.append(s) or float(len(s)), players, permutations=100)
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize(
    ("players", "utility", "arguments", "words"),
    [
        ([], len, {}, "distinct"),
        (["a", "b", "a"], len, {}, "distinct"),
        (["a", "b"], lambda s: math.nan if len(s) == 2 else 1.0, {}, r"\{a, b\} is nan"),
        (["a", "b"], lambda s: math.inf if "b" in s else 1.0, {}, r"\{b\} is inf"),
        ([str(i) for i in range(11)], len, {"permutations": 3}, "at least 4"),
    ],
)
def test_mistakes_are_named(players, utility, arguments, words):
    with pytest.raises(PaSEError, match=words):
        shapley_values(utility, players, **arguments)


@pytest.mark.parametrize(
    ("values", "players", "words"),
    [
        (torch.zeros(7, 2), 3, r"2\^3"),
        (torch.zeros(1), 0, r"2\^0"),
        (torch.tensor([0.0, math.nan]), 1, "finite"),
        (np.array([0.0, np.inf]), 1, "finite"),
    ],
)
def test_mistakes_in_coalition_values_are_named(values, players, words):
    with pytest.raises(PaSEError, match=words):
        shapley_from_coalitions(values, players)
