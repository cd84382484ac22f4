"""Laws of the weights of coalitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.heldout.weights import coalition_weights, draw_likelihoods, prediction_weights

steady = settings(derandomize=True, deadline=None, max_examples=30)


def sample(coalitions, videos, *, each=4, seed=0, scale=0.2):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=scale, size=(coalitions, videos * each)), np.repeat(np.arange(videos), each)


def weights_of(samples, allowed=None, **how):
    return coalition_weights(draw_likelihoods(samples, **how), allowed)


sizes = st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))


@steady
@given(sizes)
def test_weights_add_up_to_one(size):
    coalitions, videos, seed = size
    weights = weights_of([sample(coalitions, videos, seed=seed), sample(coalitions, 3, seed=seed + 1)])
    assert weights.shape == (coalitions,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)


@steady
@given(sizes, st.data())
def test_the_order_of_the_coalitions_does_not_matter(size, data):
    coalitions, videos, seed = size
    values, clusters = sample(coalitions, videos, seed=seed)
    order = data.draw(st.permutations(range(coalitions)))
    np.testing.assert_allclose(
        weights_of([(values[order], clusters)]), weights_of([(values, clusters)])[order], atol=1e-12
    )


def test_a_coalition_that_is_better_on_every_video_has_all_the_weight():
    values, videos = sample(4, 10)
    values[2] += 10
    assert weights_of([(values, videos)])[2] == pytest.approx(1, abs=1e-9)


@steady
@given(sizes)
def test_coalitions_with_the_same_predictions_have_the_same_weight(size):
    coalitions, videos, seed = size
    values, clusters = sample(coalitions, videos, seed=seed)
    weights = weights_of([(np.concatenate([values, values[:1]]), clusters)])
    assert weights[-1] == pytest.approx(weights[0], rel=1e-9)


@steady
@given(sizes, st.data())
def test_a_coalition_that_is_not_allowed_has_no_weight(size, data):
    coalitions, videos, seed = size
    values, clusters = sample(coalitions + 1, videos, seed=seed)
    allowed = np.array([True, *data.draw(st.lists(st.booleans(), min_size=coalitions, max_size=coalitions))])
    values[~allowed] += 100  # however good
    weights = weights_of([(values, clusters)], allowed)
    assert (weights[~allowed] == 0).all()
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights[allowed], weights_of([(values[allowed], clusters)]), atol=1e-12)


def test_the_numbers_of_the_videos_do_not_matter():
    """Numbers in the same order draw the same weights; in another order, others from the same distribution."""
    values, videos = sample(3, 12, scale=0.5)
    one = weights_of([(values, videos)], draws=4000)
    np.testing.assert_array_equal(weights_of([(values, 5 * videos + 3)], draws=4000), one)
    np.testing.assert_allclose(weights_of([(values, 11 - videos)], draws=4000), one, atol=0.03)


def test_the_same_seed_gives_the_same_weights():
    values = sample(3, 6)
    np.testing.assert_array_equal(weights_of([values], seed=3), weights_of([values], seed=3))
    assert (weights_of([values], seed=3) != weights_of([values], seed=4)).any()


def test_weights_are_shared_under_little_evidence_and_not_under_much():
    """One coalition is a little better on average, by less than the videos differ."""
    rng = np.random.default_rng(0)
    worth = {}
    for videos in (4, 400):
        difference = 0.3 + rng.normal(scale=1.0, size=videos)
        difference += 0.3 - difference.mean()
        worth[videos] = weights_of([(np.stack([np.zeros(videos), difference]), np.arange(videos))])[1]
    assert 0.5 < worth[4] < 0.9
    assert worth[400] > 0.99


def test_a_sample_without_a_video_changes_nothing():
    values = sample(3, 6)
    empty = (np.zeros((3, 0)), np.zeros(0, dtype=np.int64))
    np.testing.assert_array_equal(weights_of([values, empty]), weights_of([values]))


def test_a_prediction_weight_is_the_weight_of_all_coalitions_that_hold_the_modality():
    coalitions = [frozenset(), frozenset("a"), frozenset("b"), frozenset("ab")]
    result = prediction_weights(np.array([0.1, 0.2, 0.3, 0.4]), coalitions, ["a", "b"])
    assert result == pytest.approx({"a": 0.6, "b": 0.7})
