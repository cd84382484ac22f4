"""Balancing by held-out evidence: its coalition weights, the batches it shows, and what it makes of validation."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa import plugins
from pase_msa.balancing.base import Preparation
from pase_msa.balancing.held_out import Config, HeldOutBalancing
from pase_msa.errors import PaSEError
from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis
from pase_msa.heldout.presence import presence_patterns
from pase_msa.heldout.validation import CoalitionPredictions
from pase_msa.heldout.weights import MOST_COALITIONS, coalition_weights, draw_likelihoods
from pase_msa.shapley import attribution
from pase_msa.task import Task
from tests.toys import NAMES, toy_batch

steady = settings(derandomize=True, deadline=None, max_examples=25)
TEXT, AUDIO, VISION = (frozenset({name}) for name in NAMES)
EVERYONE = frozenset(NAMES)
VIDEOS = np.repeat(np.arange(10), 4)
#: log-likelihood of a coalition that has nothing for it
HOPELESS = -5.0


def diagnosis(gains, names=NAMES, excluded=()):
    """Made by hand: the gain of each coalition on every utterance, or an array [c, n]."""
    coalitions = attribution(tuple(names))[0]
    if isinstance(gains, dict):
        gains = np.array([[gains.get(coalition, HOPELESS)] * len(VIDEOS) for coalition in coalitions])
    allowed = np.array([not coalition & set(excluded) for coalition in coalitions])
    verdicts = {name: "deceptive" if name in excluded else "useful" for name in names}
    return Diagnosis(
        {name: ModalityDiagnosis(None, verdict, "", None, 0.0) for name, verdict in verdicts.items()},
        coalitions,
        coalition_weights(draw_likelihoods([(gains, VIDEOS)]), allowed),
        gains,
        VIDEOS,
    )


def prepared(diagnosis, names=NAMES, task=None, **options):
    """The method before training."""
    method = HeldOutBalancing(Config(**options))
    method.prepare(Preparation(task or Task.regression(names, -3, 3), None, lambda: diagnosis, None, None))
    return method


def predictions_of(truths, reference=None, n=40, seed=0):
    """Predictions of validation by coalition: each puts a part on the truth and spreads the rest over all classes."""
    generator = torch.Generator().manual_seed(seed)
    membership = torch.eye(7)[torch.randint(7, (n,), generator=generator)]

    def probabilities_of(part):
        return part * membership + (1 - part) / 7

    videos = torch.arange(n) // 4
    probabilities = torch.stack([probabilities_of(part) for part in truths])
    closed_form = (
        None if reference is None else probabilities_of(reference).expand(1 + len(presence_patterns(NAMES)), -1, -1)
    )
    return CoalitionPredictions(probabilities, closed_form, membership, videos, videos % 2)


def best_is(method, best, high=0.9, low=0.0):
    return [high if coalition == best else low for coalition in method.coalitions]


def random_diagnosis(seed, excluded=()):
    """A diagnosis of random gains that decide little."""
    return diagnosis(np.random.default_rng(seed).normal(scale=0.1, size=(8, len(VIDEOS))), excluded=excluded)


exclusions = st.sets(st.sampled_from(NAMES))


@steady
@given(st.integers(0, 99), exclusions)
def test_weights_add_up_to_one_and_no_coalition_of_an_excluded_modality_has_any(seed, excluded):
    method = prepared(random_diagnosis(seed, excluded))
    for _ in range(2):
        assert method.coalition_weights.sum() == pytest.approx(1)
        assert (method.coalition_weights >= 0).all()
        assert all(
            weight == 0
            for coalition, weight in zip(method.coalitions, method.coalition_weights, strict=True)
            if coalition & excluded
        )
        method.update_mixture(predictions_of(np.random.default_rng(seed).uniform(0, 0.3, len(method.coalitions))))


def test_an_excluded_modality_stays_excluded_however_well_it_predicts():
    method = prepared(diagnosis({TEXT: 0.1, EVERYONE: 2.0}, excluded=("vision",)))
    weights = method.update_mixture(predictions_of(best_is(method, EVERYONE))).coalition_weights
    assert weights[EVERYONE] == 0
    assert method.factors["vision"] == 0
    assert method.factors["text"] == 1


def test_the_folds_decide_before_the_first_epoch():
    method = prepared(diagnosis({frozenset({"text", "audio"}): 1.0}))
    assert dict(zip(method.coalitions, method.coalition_weights, strict=True))[TEXT | AUDIO] > 0.99


@steady
@given(st.integers(0, 99), st.floats(0, 1))
def test_a_modality_learns_at_a_rate_that_follows_its_prediction_weight(seed, least):
    method = prepared(random_diagnosis(seed), least_rate=least)
    for name, factor in method.factors.items():
        used = sum(
            weight
            for coalition, weight in zip(method.coalitions, method.coalition_weights, strict=True)
            if name in coalition
        )
        assert factor == pytest.approx(least + (1 - least) * used)
        assert least <= factor <= 1


def test_a_modality_that_no_prediction_uses_learns_at_the_usual_rate_unless_it_is_excluded():
    """What it predicts only together with another is learned late."""
    method = prepared(diagnosis({TEXT: 1.0}))
    assert method.log_values()["prediction_weight/vision"] == pytest.approx(0, abs=1e-3)
    assert method.factors == dict.fromkeys(("text", "audio", "vision"), 1.0)


def test_progress_is_that_of_all_modalities_that_are_not_excluded():
    method = prepared(diagnosis({TEXT: 1.0}, excluded=("vision",)))
    poor, good = (
        method.update_mixture(predictions_of(best_is(method, coalition))).progress
        for coalition in (EVERYONE, TEXT | AUDIO)
    )
    assert good > poor


def test_prediction_weights_and_factors_are_logged():
    method = prepared(diagnosis({TEXT: 1.0}), least_rate=0.1)
    values = method.log_values()
    assert values["prediction_weight/text"] == pytest.approx(1, abs=1e-3)
    assert values["prediction_weight/vision"] == pytest.approx(0, abs=1e-3)
    assert values["phi/vision"] == pytest.approx(0.1, abs=1e-3)
    method.active = False
    assert method.log_values()["phi/vision"] == 1.0


def with_gaps(seed, n=40):
    """Utterances that lack one modality or two, and none that lacks all."""
    batch, rng = toy_batch(n=n, missing=False), np.random.default_rng(seed)
    flags = rng.random((3, n)) < 0.5
    flags[rng.integers(0, 3, n), np.arange(n)] = True
    return dataclasses.replace(batch, present=dict(zip(NAMES, torch.from_numpy(flags), strict=True)))


def flags_of(batch):
    return torch.stack([batch.present[name] for name in batch.present])


@steady
@given(st.integers(0, 99), exclusions, st.floats(0.01, 1), st.floats(0, 0.99))
def test_only_present_modalities_are_shown_and_at_least_one_of_each_utterance(seed, excluded, exploration, probability):
    torch.manual_seed(seed)
    method, batch = prepared(random_diagnosis(seed, excluded), exploration=exploration), with_gaps(seed)
    shown = method.mask_modalities(batch, probability)
    assert not (flags_of(shown) & ~flags_of(batch)).any()
    assert flags_of(shown).any(0).all()
    assert shown.labels is batch.labels


def rates(method, batch, probability=0.3):
    """How often each set of modalities is shown."""
    flags = flags_of(method.mask_modalities(batch, probability)).T.tolist()
    result = [frozenset(name for name, flag in zip(NAMES, row, strict=True) if flag) for row in flags]
    return {coalition: result.count(coalition) / len(result) for coalition in set(result)}


def test_coalitions_are_shown_as_often_as_they_weigh():
    torch.manual_seed(3)
    # likelihoods of 40 utterances, so that weights are 4 : 2 : 1
    gains = {TEXT: np.log(4) / 40, EVERYONE: np.log(2) / 40, AUDIO | VISION: 0.0}
    method = prepared(diagnosis(gains), exploration=1e-9)
    result = rates(method, toy_batch(n=7000, missing=False))
    assert result == pytest.approx({TEXT: 4 / 7, EVERYONE: 2 / 7, AUDIO | VISION: 1 / 7}, abs=0.025)


def test_explored_utterances_are_under_plain_modality_dropout():
    torch.manual_seed(3)
    method = prepared(diagnosis({TEXT: 1.0}), exploration=1.0)
    result = rates(method, toy_batch(n=7000, missing=False), probability=0.5)
    # an eighth would lose everything and is shown whole
    assert result.pop(EVERYONE) == pytest.approx(2 / 8, abs=0.025)
    assert list(result.values()) == pytest.approx([1 / 8] * 6, abs=0.025)


def test_some_utterances_are_explored_so_that_every_modality_is_trained():
    torch.manual_seed(3)
    method = prepared(diagnosis({TEXT: 1.0}), exploration=0.4)
    result = rates(method, toy_batch(n=7000, missing=False), probability=0.0)
    assert result == pytest.approx({TEXT: 0.6, EVERYONE: 0.4}, abs=0.025)


def test_an_utterance_without_any_of_its_coalition_is_shown_as_it_is():
    method, batch = prepared(diagnosis({TEXT: 1.0}), exploration=1e-9), toy_batch(n=20, missing=False)
    batch.present["text"][:10] = False
    shown = method.mask_modalities(batch, 0.3)
    assert torch.equal(flags_of(shown)[:, :10], flags_of(batch)[:, :10])
    assert not flags_of(shown)[1:, 10:].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_single_modality_is_never_masked(seed):
    torch.manual_seed(seed)
    method = prepared(diagnosis({frozenset(): 0.0, TEXT: 0.0}, names=("text",)), names=("text",))
    batch = toy_batch(modalities=("text",), n=50)
    assert method.mask_modalities(batch, 0.5).present["text"].all()


def test_a_coalition_that_is_far_better_on_every_video_has_all_the_weight():
    method = prepared(random_diagnosis(0))
    for coalition in (AUDIO, TEXT | VISION):
        fresh = prepared(random_diagnosis(0))
        result = fresh.update_mixture(predictions_of(best_is(fresh, coalition)))
        assert set(result.coalition_weights) == set(method.coalitions)
        assert result.coalition_weights[coalition] > 0.99
        assert sum(result.coalition_weights.values()) == pytest.approx(1)
        assert dict(zip(fresh.coalitions, fresh.coalition_weights, strict=True)) == result.coalition_weights


def test_validation_overrides_what_the_folds_promise():
    method = prepared(diagnosis({VISION: 0.3, TEXT: 0.0}))
    assert method.log_values()["prediction_weight/vision"] > 0.9
    method.update_mixture(predictions_of(best_is(method, TEXT)))
    assert method.log_values()["prediction_weight/vision"] < 0.1


def test_without_the_folds_validation_decides_alone():
    one, two = (prepared(random_diagnosis(seed), folds=0.0) for seed in (1, 2))
    assert set(one.coalitions) == set(two.coalitions) == set(attribution(NAMES)[0])
    truths = np.random.default_rng(0).uniform(0, 0.3, len(one.coalitions))
    assert (
        one.update_mixture(predictions_of(truths)).coalition_weights
        == two.update_mixture(predictions_of(truths)).coalition_weights
    )


def test_without_memory_the_newest_epoch_decides_alone():
    first, second = (
        predictions_of(best_is(prepared(random_diagnosis(0)), coalition, 0.3)) for coalition in (TEXT, AUDIO)
    )
    fresh, forgetful, slow = (prepared(random_diagnosis(0), memory=memory) for memory in (0.0, 0.0, 0.9))
    for method in (forgetful, slow):
        method.update_mixture(first)
    wanted = fresh.update_mixture(second).coalition_weights
    assert forgetful.update_mixture(second).coalition_weights == wanted
    assert slow.update_mixture(second).coalition_weights[TEXT] > wanted[TEXT] + 0.5


@pytest.mark.parametrize("reference", [None, 0.5])
def test_cross_fitted_probabilities_are_probabilities(reference):
    method = prepared(random_diagnosis(0))
    cross_fitted = method.update_mixture(predictions_of(np.linspace(0, 0.5, 8), reference)).cross_fitted
    assert cross_fitted.shape == (40, 7)
    assert (cross_fitted >= 0).all()
    assert torch.allclose(cross_fitted.sum(1), torch.ones(40), atol=1e-5)


def test_cross_fitted_probabilities_are_those_of_the_coalition_that_is_far_better():
    method = prepared(random_diagnosis(0))
    predictions = predictions_of(best_is(method, AUDIO))
    assert torch.allclose(
        method.update_mixture(predictions).cross_fitted,
        predictions.probabilities[method.coalitions.index(AUDIO)],
        atol=1e-3,
    )


@steady
@given(st.integers(0, 99), st.sampled_from([0, 1]), st.sampled_from([None, 0.3]), st.integers(1, 3))
def test_the_prediction_of_a_half_does_not_depend_on_the_labels_of_that_half(seed, half, reference, epochs):
    """So the epoch is selected by predictions that were not fitted on their own labels."""
    one, two, rng = prepared(random_diagnosis(seed)), prepared(random_diagnosis(seed)), np.random.default_rng(seed)
    for epoch in range(epochs):
        predictions = predictions_of(rng.uniform(0, 0.3, len(one.coalitions)), reference, seed=epoch)
        mine = predictions.halves == half
        other = predictions.membership.clone()
        other[mine] = other[mine].roll(3, dims=1)
        cross_fitted = (
            one.update_mixture(predictions).cross_fitted,
            two.update_mixture(dataclasses.replace(predictions, membership=other)).cross_fitted,
        )
        assert torch.equal(cross_fitted[0][mine], cross_fitted[1][mine])
    assert not torch.equal(cross_fitted[0][~mine], cross_fitted[1][~mine])


@pytest.mark.parametrize(("network", "reference", "low", "high"), [(0.8, 0.0, 0.0, 0.05), (0.0, 0.8, 0.9, 1.0)])
def test_the_weight_of_the_reference_follows_validation(network, reference, low, high):
    method = prepared(random_diagnosis(0))
    result = method.update_mixture(predictions_of([network] * len(method.coalitions), reference))
    assert low <= result.reference <= high
    assert method.log_values()["prediction_weight/reference"] == result.reference


@pytest.mark.parametrize(("kind", "low", "high"), [("regression", 0.9, 1.0), ("classification", 0.0, 0.1)])
def test_between_two_equal_likelihoods_the_error_of_the_score_decides(kind, low, high):
    task = Task.regression(NAMES, -3, 3) if kind == "regression" else Task.classification(NAMES, list("abcdefg"))
    method = prepared(random_diagnosis(0), task=task)
    predictions = predictions_of([0.0] * len(method.coalitions))
    # both give the truth one half; the network puts the rest far from it, the reference next to it
    membership = torch.eye(7)[torch.zeros(len(predictions.membership), dtype=torch.long)]
    far, near = torch.eye(7)[0] + torch.eye(7)[6], torch.eye(7)[0] + torch.eye(7)[1]
    network = (far / 2).expand_as(predictions.probabilities)
    result = method.update_mixture(
        dataclasses.replace(
            predictions, probabilities=network, reference=(near / 2).expand(40, 7), membership=membership
        )
    )
    assert low <= result.reference <= high


@pytest.mark.parametrize(("reference", "options"), [(None, {}), (0.8, {"reference": False})])
def test_without_a_reference_or_with_the_option_off_it_has_no_weight(reference, options):
    method = prepared(random_diagnosis(0), **options)
    assert method.update_mixture(predictions_of([0.0] * len(method.coalitions), reference)).reference == 0


def test_a_single_validation_video_gives_weights_too():
    method = prepared(random_diagnosis(0))
    predictions = predictions_of(best_is(method, TEXT))
    same = torch.zeros_like(predictions.videos)
    result = method.update_mixture(dataclasses.replace(predictions, videos=same, halves=same))
    assert result.coalition_weights[TEXT] > 0.99
    assert result.cross_fitted.isfinite().all()


def test_a_method_with_the_state_of_another_does_the_same():
    one, two = prepared(random_diagnosis(0)), prepared(random_diagnosis(0))
    one.update_mixture(predictions_of(np.linspace(0, 0.3, 8), 0.2))
    two.load_state_dict(one.state_dict())
    assert two.log_values() == one.log_values()
    batch = toy_batch(n=100)
    for method in (one, two):
        torch.manual_seed(4)
        method.batch_flags = flags_of(method.mask_modalities(batch, 0.3))
    assert torch.equal(one.batch_flags, two.batch_flags)
    later = [method.update_mixture(predictions_of(np.linspace(0.3, 0, 8), 0.1, seed=1)) for method in (one, two)]
    assert later[0].coalition_weights == later[1].coalition_weights
    assert later[0].reference == later[1].reference
    assert torch.equal(later[0].cross_fitted, later[1].cross_fitted)


@pytest.mark.parametrize("count", [9, 12, 20])
def test_of_many_modalities_the_coalitions_of_the_largest_weights_are_used(count):
    names = tuple(f"m{i}" for i in range(count))
    coalitions = attribution(names)[0]
    gains = np.random.default_rng(0).normal(scale=0.1, size=(len(coalitions), len(VIDEOS)))
    best = 40
    gains[best] += 1.0
    method = prepared(diagnosis(gains, names), names)
    assert 2 <= len(method.coalitions) <= MOST_COALITIONS
    assert {frozenset(names), coalitions[best]} <= set(method.coalitions)
    assert method.coalition_weights.sum() == pytest.approx(1)
    assert dict(zip(method.coalitions, method.coalition_weights, strict=True))[coalitions[best]] > 0.99
    result = method.update_mixture(predictions_of(best_is(method, frozenset(names))))
    assert result.coalition_weights[frozenset(names)] > 0.99


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exploration": 0.0}, "balancing.exploration is"),
        ({"exploration": 1.5}, "balancing.exploration is"),
        ({"memory": 1.0}, "balancing.memory is"),
        ({"memory": -0.1}, "balancing.memory is"),
        ({"folds": -1.0}, "balancing.folds is a number 0 or more"),
        ({"least_rate": 1.1}, "balancing.least_rate is a number in [0, 1]"),
        ({"least_rate": -0.1}, "balancing.least_rate is a number in [0, 1]"),
        ({"explorations": 0.2}, "did you mean 'exploration'?"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_in_a_sentence(options, words):
    with pytest.raises(PaSEError) as caught:
        plugins.configure(Config, options, "The balancing method held_out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_who_lacks_a_modality_gets_weights_of_what_is_left():
    method = prepared(diagnosis({TEXT: 0.0, AUDIO: -0.5, TEXT | AUDIO: 0.0}))
    mixture = method.update_mixture(predictions_of(best_is(method, TEXT, low=0.1), reference=0.5))
    assert set(mixture.given) == set(presence_patterns(NAMES))
    for pattern, (weights, share) in mixture.given.items():
        assert sum(weights.values()) == pytest.approx(1)
        assert all(coalition <= pattern for coalition in weights)
        assert 0 <= share <= 1
    assert mixture.given[TEXT | VISION][0][TEXT] > 0.99
    assert mixture.given[AUDIO | VISION][0][AUDIO] > 0.99


def test_a_network_that_is_too_sure_without_a_modality_leaves_the_prediction_to_the_reference():
    method = prepared(diagnosis(dict.fromkeys(attribution(NAMES)[0], 0.0)), task=Task.classification(NAMES, "abcdefg"))
    plain = predictions_of([0.0] * len(method.coalitions), reference=0.0)
    # right about six of ten utterances: the network with certainty, the reference with a probability of .6
    guess = torch.where(torch.arange(40) % 10 < 6, plain.membership.argmax(1), (plain.membership.argmax(1) + 1) % 7)
    peak = torch.eye(7)[guess]
    sure, careful = 0.999 * peak + 0.001 / 7, 0.53 * peak + 0.47 / 7
    mixture = method.update_mixture(
        dataclasses.replace(
            plain,
            probabilities=sure.expand(len(method.coalitions), -1, -1),
            reference=careful.expand(1 + len(presence_patterns(NAMES)), -1, -1),
        )
    )
    assert mixture.given[AUDIO][1] > 0.8
    assert mixture.reference < 0.8  # with all modalities the model has a temperature


def test_an_excluded_modality_has_no_weight_where_it_is_all_there_is():
    method = prepared(diagnosis({AUDIO: 1.0, TEXT: 0.5}, excluded=["audio"]))
    mixture = method.update_mixture(predictions_of(best_is(method, AUDIO)))
    assert mixture.given[AUDIO] == ({frozenset(): 1.0}, 0.0)


def test_the_cross_fitted_prediction_of_who_lacks_a_modality_is_made_of_what_is_left():
    method = prepared(diagnosis({TEXT: 0.0, AUDIO: -0.5}))
    truths = [0.9 if c == TEXT else 0.5 if c == AUDIO else 0.0 for c in method.coalitions]
    complete = predictions_of(truths)
    present = torch.ones(40, 3, dtype=torch.bool)
    present[::4, 0] = False
    lacking = dataclasses.replace(complete, present=present)
    result = method.update_mixture(lacking).cross_fitted
    audio = complete.probabilities[method.coalitions.index(AUDIO)]
    text = complete.probabilities[method.coalitions.index(TEXT)]
    assert torch.allclose(result[::4], audio[::4], atol=0.02)
    assert torch.allclose(result[1::4], text[1::4], atol=0.02)
