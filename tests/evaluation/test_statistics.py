"""Statistics of repeated runs: against naive versions, exact values, and coverage on simulated data."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.errors import PaSEError
from pase_msa.evaluation.statistics import (
    against_baselines,
    cluster_draws,
    cluster_swaps,
    cohens_d,
    estimate,
    holm,
    paired_differences,
    permutation_p,
    sign_flip_test,
)


def naive_flips(differences):
    """Every sign pattern, counted."""
    gaps = np.array(differences)
    means = [abs(np.mean(gaps * signs)) for signs in itertools.product((1, -1), repeat=len(gaps))]
    return np.mean([mean >= abs(gaps.mean()) - 1e-9 for mean in means])


def naive_holm(p_values):
    """Step down; the corrected value is the level at which a hypothesis would fall."""
    names = sorted(p_values, key=p_values.get)
    return {
        name: max(min(1.0, (len(names) - j) * p_values[names[j]]) for j in range(names.index(name) + 1))
        for name in names
    }


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_the_sign_flip_test_is_exact_on_few_pairs(count):
    gaps = np.random.default_rng(count).normal(0.4, 1, count)
    assert sign_flip_test(gaps) == pytest.approx(naive_flips(gaps))


def test_the_smallest_p_value_is_that_of_pairs_of_one_sign():
    assert sign_flip_test([1.0, 2, 3, 4, 5]) == pytest.approx(2 / 2**5)
    assert sign_flip_test([1.0]) == 1
    assert sign_flip_test([0.0, 0, 0]) == 1


def test_many_pairs_are_sampled_close_to_the_exact_value():
    gaps = np.random.default_rng(0).normal(0.4, 1, 16)
    assert sign_flip_test(gaps, draws=20_000) == pytest.approx(naive_flips(gaps), abs=0.01)


def test_without_a_difference_five_per_cent_are_called_significant():
    random = np.random.default_rng(0)
    result = [sign_flip_test(random.normal(size=8)) <= 0.05 for _ in range(400)]
    assert 0.02 < np.mean(result) < 0.08


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    inside = []
    for _ in range(150):
        result = estimate(random.normal(3.0, 2.0, 25), draws=500)
        inside.append(result.low <= 3 <= result.high)
    assert 0.87 < np.mean(inside) < 0.99


def test_an_estimate_is_mean_and_deviation():
    values = [1.0, 2, 4, 7]
    result = estimate(values)
    assert (result.mean, result.sd, result.count) == (3.5, pytest.approx(np.std(values, ddof=1)), 4)
    assert result.low < 3.5 < result.high
    assert estimate(values) == result


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0]])
def test_without_spread_the_interval_is_the_value(values):
    result = estimate(values)
    assert (result.mean, result.sd, result.low, result.high) == (2, 0, 2, 2)


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), min_size=1, max_size=7))
@settings(max_examples=80, deadline=None)
def test_holm_is_the_step_down_procedure(p_values):
    result = holm(p_values)
    assert result == pytest.approx(naive_holm(p_values))
    assert list(result) == list(p_values)
    assert all(result[name] >= p for name, p in p_values.items())


def test_holm_by_hand():
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})


def test_effect_size():
    assert cohens_d([1.0, 2, 3]) == pytest.approx(2)
    assert cohens_d([-1.0, -2, -3]) == pytest.approx(-2)
    assert cohens_d([0.0, 0]) == 0
    assert cohens_d([1.0, 1]) == np.inf
    assert np.isnan(cohens_d([1.0]))


@pytest.mark.parametrize("values", [[], [np.nan, 1], [[1.0]]])
def test_values_that_are_not_finite_are_refused(values):
    for function in (estimate, sign_flip_test, cohens_d):
        with pytest.raises(PaSEError, match="finite"):
            function(values)


@pytest.fixture
def table():
    rows = [
        {"data": data, "variant": variant, "seed": seed, "mae": 1 + shift + 0.01 * seed + 0.1 * (data == "y")}
        for data in ("x", "y")
        for seed in (3, 1, 2)
        for variant, shift in (("ours", -0.1), ("near", 0.0), ("far", 0.05 * seed))
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_differences_are_paired_by_data_and_seed(table):
    np.testing.assert_allclose(paired_differences(table, "mae", "ours", "near"), [-0.1] * 6)
    np.testing.assert_allclose(paired_differences(table, "mae", "ours", "far"), [-0.15, -0.2, -0.25] * 2)


def test_pairing_by_data_averages_seeds_first(table):
    np.testing.assert_allclose(paired_differences(table, "mae", "ours", "far", by=["data"]), [-0.2, -0.2])


def test_p_values_are_corrected_for_the_number_of_baselines(table):
    result = against_baselines(table, "mae", "ours", ["near", "far"])
    assert result["near"].estimate.mean == pytest.approx(-0.1)
    assert result["far"].p == pytest.approx(2 / 2**6)
    assert result["far"].p_holm == pytest.approx(4 / 2**6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[(t.variant != "far") | (t.seed != 2)], "do not pair"),
        (lambda t: t[t.variant != "far"], "'far'"),
        (lambda t: t.drop(columns="mae"), "no column 'mae'"),
    ],
)
def test_variants_that_do_not_pair_are_refused(change, words, table):
    with pytest.raises(PaSEError, match=words):
        paired_differences(change(table), "mae", "ours", "far")


def test_bootstrap_draws_take_as_many_clusters_as_there_are():
    drawn = cluster_draws(7, 100)
    assert drawn.shape == (100, 7)
    assert (drawn.sum(1) == 7).all()


def test_few_clusters_change_sides_in_every_way():
    swaps, exact = cluster_swaps(4, 1000)
    assert exact
    assert {tuple(row) for row in swaps} == set(itertools.product((0, 1), repeat=4))
    assert not cluster_swaps(11, 1000)[1]


def test_the_permutation_p_value_of_clusters_is_that_of_sign_flips():
    gaps = np.array([0.3, -0.1, 0.5, 0.2])
    swaps, exact = cluster_swaps(4, 1000)
    null = ((1 - 2 * swaps) @ gaps) / 4
    assert permutation_p(gaps.mean(), null, exact) == pytest.approx(naive_flips(gaps))
    # one that is observed counts as a draw, so that no p-value is zero
    assert permutation_p(9.0, np.zeros(99), False) == 0.01
