"""Laws of the contributions and of their intervals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.heldout.contributions import SOURCES, estimate, gains
from pase_msa.heldout.diagnosis import diagnose_features
from pase_msa.heldout.ridge import CoalitionFit, RidgeSolver
from pase_msa.shapley import attribution
from pase_msa.task import Task

steady = settings(derandomize=True, deadline=None, max_examples=40)
few = settings(derandomize=True, deadline=None, max_examples=8)


def contributions(features, targets, training, *, classes=0, seed=0):
    """Shapley values [k, n] and gains [c, n] by source, from random folds of both kinds."""
    rng = np.random.default_rng(seed)
    names = tuple(features)
    task = Task.classification(names, [str(c) for c in range(classes)]) if classes else Task.regression(names, -3, 3)
    random, grouped = rng.integers(0, 4, (2, training))
    solver = RidgeSolver(features, targets[:training], random, grouped, seed)
    coalitions, matrix = attribution(names)
    fits = [solver.solve([name for name in names if name in coalition]) for coalition in coalitions]
    each = [gains(task, fit, targets[:training], targets[training:]) for fit in fits]
    stacked = {source: np.stack([one[source] for one in each]) for source in SOURCES}
    return {source: (matrix @ values, values) for source, values in stacked.items()}


def fit_of(sample, random, grouped, valid):
    """Predictions made by hand, without weights."""
    return CoalitionFit(sample, random, grouped, valid, np.zeros((0, sample.shape[1])), np.zeros(0))


def drawn(count, training, *, seed=0, classes=0):
    """Modalities of one signal each, and targets [n, o] that are their sum."""
    rng = np.random.default_rng(seed)
    total = training + 20
    features = {f"m{i}": rng.normal(size=(total, 3)) for i in range(count)}
    signal = sum(values[:, 0] for values in features.values()) + 0.5 * rng.normal(size=total)
    if classes:
        ranks = np.argsort(np.argsort(signal)) * classes // total
        return features, np.eye(classes)[ranks]
    return features, signal[:, None]


@few
@given(st.integers(1, 4), st.sampled_from([0, 3]), st.integers(0, 50))
def test_contributions_add_up_to_the_gain_of_all_together(count, classes, seed):
    features, targets = drawn(count, 40, seed=seed, classes=classes)
    result = contributions(features, targets, 40, classes=classes, seed=seed)
    assert set(result) == set(SOURCES)
    for shares, values in result.values():
        np.testing.assert_allclose(shares.sum(0), values[-1] - values[0], atol=1e-9)
    np.testing.assert_allclose(result["sample"][1][0], 0, atol=1e-12)


@pytest.mark.parametrize("classes", [0, 3])
def test_what_suits_validation_does_not_change_where_predictions_are_louder(classes):
    """Three times as sure, or as far from the mean, is of no account once predictions are as sure as suits."""
    names = ("a",)
    task = Task.classification(names, [str(c) for c in range(classes)]) if classes else Task.regression(names, -3, 3)
    targets = drawn(1, 200, classes=classes)[1]
    nothing = np.zeros((200, targets.shape[1]))
    said = targets[200:] - targets[:200].mean(0) + np.random.default_rng(1).normal(size=targets[200:].shape)
    plain, loud = (
        gains(task, fit_of(nothing, nothing, nothing, k * said), targets[:200], targets[200:]) for k in (1, 1 / 3)
    )
    np.testing.assert_allclose(plain["suited"], loud["suited"], atol=1e-3)
    assert plain["suited"].mean() > max(0.0, plain["valid"].mean())
    against = gains(task, fit_of(nothing, nothing, nothing, -said), targets[:200], targets[200:])
    assert against["suited"].mean() < 0.02  # what is wrong is not made right by being unsure


def test_exchangeable_modalities_contribute_nearly_alike():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=600)
    features = {name: signal[:, None] + rng.normal(size=(600, 2)) for name in "abc"}
    result = contributions(features, signal[:, None], 450)
    for source, (shares, values) in result.items():
        each = shares.mean(1)
        assert each.min() > 0.8 * values[-1].mean() / 3, source
        assert each.max() < 1.2 * values[-1].mean() / 3, source


@pytest.mark.parametrize("classes", [0, 3])
def test_a_constant_modality_contributes_nothing(classes):
    features, targets = drawn(2, 60, classes=classes)
    result = contributions({**features, "still": np.zeros((80, 5))}, targets, 60, classes=classes)
    for shares, _ in result.values():
        np.testing.assert_allclose(shares[2], 0, atol=1e-9)


def test_gains_of_a_regression_are_differences_of_normal_densities():
    rng = np.random.default_rng(0)
    targets, held = rng.normal(1, 2, (30, 1)), rng.normal(1, 2, (10, 1))
    fit = fit_of(*(0.5 * rng.normal(size=(n, 1)) for n in (30, 30, 30, 10)))
    result = gains(Task.regression(("a",), -3, 3), fit, targets, held)

    def density(value, mean, width):
        return math.log(math.exp(-((value - mean) ** 2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi)))

    mean, wide = targets.mean(), targets.std()
    for source, fitted, truth in (
        ("sample", "sample", targets),
        ("random", "random", targets),
        ("grouped", "grouped", targets),
        ("valid", "grouped", held),
    ):
        width = np.sqrt(((targets - mean - getattr(fit, fitted)) ** 2).mean())
        for i, value in enumerate(truth[:, 0]):
            ours = density(value, mean + getattr(fit, source)[i, 0], width)
            assert result[source][i] == pytest.approx(ours - density(value, mean, wide), abs=1e-9)


def test_gains_of_a_classification_are_never_below_zero_where_the_temperature_is_fitted():
    """Sharpness 0 is the prior, so the fitted one does no worse."""
    rng = np.random.default_rng(0)
    targets, held = np.eye(3)[rng.integers(0, 3, 60)], np.eye(3)[rng.integers(0, 3, 20)]
    useless = fit_of(*(rng.normal(size=(n, 3)) for n in (60, 60, 60, 20)))
    right = fit_of(*(values - values.mean(0) for values in (targets, targets, targets, held)))
    task = Task.classification(("a",), ["x", "y", "z"])
    useless, right = (gains(task, fit, targets, held) for fit in (useless, right))
    for source in ("sample", "random", "grouped"):
        assert useless[source].mean() > -1e-6
        assert right[source].mean() == pytest.approx(-(targets.mean(0) * np.log(targets.mean(0))).sum(), abs=1e-3)
    assert right["valid"].mean() > 0.9


values_and_videos = st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 6)), min_size=2, max_size=30)


@steady
@given(values_and_videos)
def test_the_clustered_error_is_that_of_a_loop_over_videos(rows):
    values, videos = np.array([v for v, _ in rows]), np.array([c for _, c in rows])
    result = estimate(values, videos)
    sums = [sum(v - values.mean() for v, c in rows if c == video) for video in set(videos.tolist())]
    assert result.videos == len(sums)
    assert result.value == pytest.approx(values.mean())
    if len(sums) == 1:
        assert math.isinf(result.error)
        assert (result.low, result.high) == (-math.inf, math.inf)
        return
    wanted = math.sqrt(sum(s**2 for s in sums) * len(sums) / (len(sums) - 1)) / len(values)
    assert result.error == pytest.approx(wanted, abs=1e-12)
    assert result.low <= result.value <= result.high
    assert result.value - result.low == pytest.approx(result.high - result.value, abs=1e-12)


@steady
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_with_one_utterance_per_video_it_is_the_standard_error_of_the_mean(values):
    result = estimate(np.array(values), np.arange(len(values)))
    assert result.error == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-12)


@steady
@given(values_and_videos, st.permutations(range(7)))
def test_the_numbers_of_the_videos_do_not_matter(rows, other):
    values, videos = np.array([v for v, _ in rows]), np.array([c for _, c in rows])
    one, two = estimate(values, videos), estimate(values, np.array(other)[videos] * 11 - 5)
    assert two.value == one.value
    assert two.videos == one.videos
    assert two.error == pytest.approx(one.error, rel=1e-9, abs=1e-12)


def test_bounds_are_the_students_quantile_away():
    result = estimate(np.arange(5.0), np.arange(5))
    assert result.bound(0.975) == pytest.approx(result.low)
    assert result.upper(0.975) == pytest.approx(result.high)
    assert (result.high - result.value) / result.error == pytest.approx(2.7764, abs=1e-3)  # 4 degrees of freedom


def test_a_diagnosis_does_not_depend_on_the_numbers_of_videos():
    """Numbers in the same order give the same folds, hence the same everything."""
    features, targets = drawn(2, 60)
    task, videos = Task.regression(tuple(features), -3, 3), np.arange(80) // 4
    one = diagnose_features(task, features, targets[:, 0], videos, 60)
    two = diagnose_features(task, features, targets[:, 0], videos * 13 + 7, 60)
    assert two.to_dict() == one.to_dict()
    np.testing.assert_array_equal(two.coalition_weights, one.coalition_weights)
    total = sum(result.evidence.grouped.value for result in one.modalities.values())
    assert total == pytest.approx((one.gains[-1] - one.gains[0]).mean())
