"""The equilibrium on held-out evidence: its strategy, the batches it shows, and what it makes of validation."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa import plugins
from pase_msa.balancing.base import CoalitionPredictions
from pase_msa.balancing.held_out import Config, HeldOutEquilibrium
from pase_msa.errors import PaSEError
from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis
from pase_msa.heldout.weights import MOST_COALITIONS, coalition_weights
from pase_msa.shapley import attribution
from pase_msa.task import Task
from tests.toys import NAMES, toy_batch

steady = settings(derandomize=True, deadline=None, max_examples=25)
TEXT, AUDIO, VISION = (frozenset({name}) for name in NAMES)
EVERYONE = frozenset(NAMES)
VIDEOS = np.repeat(np.arange(10), 4)
#: log-likelihood of a coalition that has nothing for it
HOPELESS = -5.0


def diagnosis(gains, names=NAMES, closed=()):
    """Made by hand: the gain of each coalition on every utterance, or an array [c, n]."""
    coalitions = attribution(tuple(names))[0]
    if isinstance(gains, dict):
        gains = np.array([[gains.get(coalition, HOPELESS)] * len(VIDEOS) for coalition in coalitions])
    allowed = np.array([not coalition & set(closed) for coalition in coalitions])
    verdicts = {name: "deceptive" if name in closed else "useful" for name in names}
    return Diagnosis(
        {name: ModalityDiagnosis(None, verdict, "", None, 0.0) for name, verdict in verdicts.items()},
        coalitions,
        coalition_weights([(gains, VIDEOS)], allowed),
        gains,
        VIDEOS,
    )


def briefed(found, names=NAMES, **options):
    method = HeldOutEquilibrium(Config(**options))
    method.prepare(Task.regression(names, -3, 3), lambda: found)
    return method


def told(shares, reference=None, n=40, seed=0):
    """What games say of validation: each puts its share on the truth and spreads the rest over all classes."""
    generator = torch.Generator().manual_seed(seed)
    membership = torch.eye(7)[torch.randint(7, (n,), generator=generator)]

    def said(share):
        return share * membership + (1 - share) / 7

    videos = torch.arange(n) // 4
    probabilities = torch.stack([said(share) for share in shares])
    return CoalitionPredictions(
        probabilities, None if reference is None else said(reference), membership, videos, videos % 2
    )


def shares_of(method, best, high=0.9, low=0.0):
    return [high if game == best else low for game in method.games]


def drawn(seed, closed=()):
    """A diagnosis of random gains that decide little."""
    return diagnosis(np.random.default_rng(seed).normal(scale=0.1, size=(8, len(VIDEOS))), closed=closed)


closings = st.sets(st.sampled_from(NAMES))


@steady
@given(st.integers(0, 99), closings)
def test_the_strategy_is_shares_of_one_and_no_closed_modality_has_any(seed, closed):
    method = briefed(drawn(seed, closed))
    for _ in range(2):
        assert method.strategy.sum() == pytest.approx(1)
        assert (method.strategy >= 0).all()
        assert all(weight == 0 for game, weight in zip(method.games, method.strategy, strict=True) if game & closed)
        method.settle(told(np.random.default_rng(seed).uniform(0, 0.3, len(method.games))))


def test_a_closed_modality_stays_closed_however_well_it_does():
    method = briefed(diagnosis({TEXT: 0.1, EVERYONE: 2.0}, closed=("vision",)))
    weights = method.settle(told(shares_of(method, EVERYONE))).weights
    assert weights[EVERYONE] == 0
    assert method.factors["vision"] == 0
    assert method.factors["text"] == 1


def test_the_folds_decide_before_the_first_epoch():
    method = briefed(diagnosis({frozenset({"text", "audio"}): 1.0}))
    assert dict(zip(method.games, method.strategy, strict=True))[TEXT | AUDIO] > 0.99


@steady
@given(st.integers(0, 99), st.floats(0, 1))
def test_a_modality_learns_at_the_rate_at_which_it_is_read(seed, least):
    method = briefed(drawn(seed), least_rate=least)
    for name, factor in method.factors.items():
        read = sum(weight for game, weight in zip(method.games, method.strategy, strict=True) if name in game)
        assert factor == pytest.approx(least + (1 - least) * read)
        assert least <= factor <= 1


def test_an_open_modality_learns_at_the_usual_rate_even_if_it_is_not_read():
    """What it tells together with another is found late."""
    method = briefed(diagnosis({TEXT: 1.0}))
    assert method.log_values()["prediction_weight/vision"] == pytest.approx(0, abs=1e-3)
    assert method.factors == dict.fromkeys(("text", "audio", "vision"), 1.0)


def test_progress_is_that_of_every_open_modality_together():
    method = briefed(diagnosis({TEXT: 1.0}, closed=("vision",)))
    poor, good = (method.settle(told(shares_of(method, game))).progress for game in (EVERYONE, TEXT | AUDIO))
    assert good > poor


def test_what_is_logged_are_shares_and_factors():
    method = briefed(diagnosis({TEXT: 1.0}), least_rate=0.1)
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
@given(st.integers(0, 99), closings, st.floats(0.01, 1), st.floats(0, 0.99))
def test_nothing_is_shown_that_is_not_there_and_no_utterance_without_anything(seed, closed, exploration, probability):
    torch.manual_seed(seed)
    method, batch = briefed(drawn(seed, closed), exploration=exploration), with_gaps(seed)
    shown = method.mask_modalities(batch, probability)
    assert not (flags_of(shown) & ~flags_of(batch)).any()
    assert flags_of(shown).any(0).all()
    assert shown.labels is batch.labels


def rates(method, batch, probability=0.3):
    """How often each set of modalities is shown."""
    flags = flags_of(method.mask_modalities(batch, probability)).T.tolist()
    found = [frozenset(name for name, flag in zip(NAMES, row, strict=True) if flag) for row in flags]
    return {game: found.count(game) / len(found) for game in set(found)}


def test_coalitions_are_shown_as_often_as_they_are_trusted():
    torch.manual_seed(3)
    # likelihoods of 40 utterances, so shares of 4 : 2 : 1
    gains = {TEXT: np.log(4) / 40, EVERYONE: np.log(2) / 40, AUDIO | VISION: 0.0}
    method = briefed(diagnosis(gains), exploration=1e-9)
    found = rates(method, toy_batch(n=7000, missing=False))
    assert found == pytest.approx({TEXT: 4 / 7, EVERYONE: 2 / 7, AUDIO | VISION: 1 / 7}, abs=0.025)


def test_what_is_explored_is_shown_under_plain_modality_dropout():
    torch.manual_seed(3)
    method = briefed(diagnosis({TEXT: 1.0}), exploration=1.0)
    found = rates(method, toy_batch(n=7000, missing=False), probability=0.5)
    # an eighth would lose everything and is shown whole
    assert found.pop(EVERYONE) == pytest.approx(2 / 8, abs=0.025)
    assert list(found.values()) == pytest.approx([1 / 8] * 6, abs=0.025)


def test_a_share_is_explored_so_that_every_modality_stays_in_play():
    torch.manual_seed(3)
    method = briefed(diagnosis({TEXT: 1.0}), exploration=0.4)
    found = rates(method, toy_batch(n=7000, missing=False), probability=0.0)
    assert found == pytest.approx({TEXT: 0.6, EVERYONE: 0.4}, abs=0.025)


def test_who_lacks_the_whole_coalition_is_shown_as_it_is():
    method, batch = briefed(diagnosis({TEXT: 1.0}), exploration=1e-9), toy_batch(n=20, missing=False)
    batch.present["text"][:10] = False
    shown = method.mask_modalities(batch, 0.3)
    assert torch.equal(flags_of(shown)[:, :10], flags_of(batch)[:, :10])
    assert not flags_of(shown)[1:, 10:].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_single_modality_is_never_withheld(seed):
    torch.manual_seed(seed)
    method = briefed(diagnosis({frozenset(): 0.0, TEXT: 0.0}, names=("text",)), names=("text",))
    batch = toy_batch(modalities=("text",), n=50)
    assert method.mask_modalities(batch, 0.5).present["text"].all()


def test_a_coalition_that_is_far_better_on_every_video_takes_all():
    method = briefed(drawn(0))
    for game in (AUDIO, TEXT | VISION):
        fresh = briefed(drawn(0))
        found = fresh.settle(told(shares_of(fresh, game)))
        assert set(found.weights) == set(method.games)
        assert found.weights[game] > 0.99
        assert sum(found.weights.values()) == pytest.approx(1)
        assert dict(zip(fresh.games, fresh.strategy, strict=True)) == found.weights


def test_what_the_folds_promise_is_not_believed_where_validation_says_otherwise():
    method = briefed(diagnosis({VISION: 0.3, TEXT: 0.0}))
    assert method.log_values()["prediction_weight/vision"] > 0.9
    method.settle(told(shares_of(method, TEXT)))
    assert method.log_values()["prediction_weight/vision"] < 0.1


def test_without_the_folds_validation_decides_alone():
    one, two = (briefed(drawn(seed), folds=0.0) for seed in (1, 2))
    assert set(one.games) == set(two.games) == set(attribution(NAMES)[0])
    shares = np.random.default_rng(0).uniform(0, 0.3, len(one.games))
    assert one.settle(told(shares)).weights == two.settle(told(shares)).weights


def test_without_memory_the_newest_epoch_decides_alone():
    first, second = (told(shares_of(briefed(drawn(0)), game, 0.3)) for game in (TEXT, AUDIO))
    fresh, forgetful, slow = (briefed(drawn(0), memory=memory) for memory in (0.0, 0.0, 0.9))
    for method in (forgetful, slow):
        method.settle(first)
    wanted = fresh.settle(second).weights
    assert forgetful.settle(second).weights == wanted
    assert slow.settle(second).weights[TEXT] > wanted[TEXT] + 0.5


@pytest.mark.parametrize("reference", [None, 0.5])
def test_honest_probabilities_are_probabilities(reference):
    method = briefed(drawn(0))
    cross_fitted = method.settle(told(np.linspace(0, 0.5, 8), reference)).cross_fitted
    assert cross_fitted.shape == (40, 7)
    assert (cross_fitted >= 0).all()
    assert torch.allclose(cross_fitted.sum(1), torch.ones(40), atol=1e-5)


def test_honest_probabilities_follow_the_coalition_that_is_far_better():
    method = briefed(drawn(0))
    played = told(shares_of(method, AUDIO))
    assert torch.allclose(
        method.settle(played).cross_fitted, played.probabilities[method.games.index(AUDIO)], atol=1e-3
    )


@steady
@given(st.integers(0, 99), st.sampled_from([0, 1]), st.sampled_from([None, 0.3]), st.integers(1, 3))
def test_what_is_said_of_a_half_does_not_know_the_labels_of_that_half(seed, half, reference, epochs):
    """So the epoch is selected by predictions that no label of their own had a part in."""
    one, two, rng = briefed(drawn(seed)), briefed(drawn(seed)), np.random.default_rng(seed)
    for epoch in range(epochs):
        played = told(rng.uniform(0, 0.3, len(one.games)), reference, seed=epoch)
        mine = played.halves == half
        other = played.membership.clone()
        other[mine] = other[mine].roll(3, dims=1)
        cross_fitted = (
            one.settle(played).cross_fitted,
            two.settle(dataclasses.replace(played, membership=other)).cross_fitted,
        )
        assert torch.equal(cross_fitted[0][mine], cross_fitted[1][mine])
    assert not torch.equal(cross_fitted[0][~mine], cross_fitted[1][~mine])


@pytest.mark.parametrize(("network", "reference", "low", "high"), [(0.8, 0.0, 0.0, 0.05), (0.0, 0.8, 0.9, 1.0)])
def test_the_reference_takes_part_as_far_as_validation_says(network, reference, low, high):
    method = briefed(drawn(0))
    found = method.settle(told([network] * len(method.games), reference))
    assert low <= found.reference <= high
    assert method.log_values()["prediction_weight/reference"] == found.reference


@pytest.mark.parametrize(("kind", "low", "high"), [("regression", 0.9, 1.0), ("classification", 0.0, 0.1)])
def test_between_two_that_are_as_likely_the_error_of_their_scores_decides(kind, low, high):
    task = Task.regression(NAMES, -3, 3) if kind == "regression" else Task.classification(NAMES, list("abcdefg"))
    method = HeldOutEquilibrium()
    method.prepare(task, lambda: drawn(0))
    played = told([0.0] * len(method.games))
    # both give the truth one half; the rest is far off in what the network says, and next to it in the reference's
    membership = torch.eye(7)[torch.zeros(len(played.membership), dtype=torch.long)]
    said, other = torch.eye(7)[0] + torch.eye(7)[6], torch.eye(7)[0] + torch.eye(7)[1]
    network = (said / 2).expand_as(played.probabilities)
    found = method.settle(
        dataclasses.replace(played, probabilities=network, reference=(other / 2).expand(40, 7), membership=membership)
    )
    assert low <= found.reference <= high


@pytest.mark.parametrize(("reference", "options"), [(None, {}), (0.8, {"reference": False})])
def test_where_there_is_no_reference_or_none_is_wanted_it_has_no_share(reference, options):
    method = briefed(drawn(0), **options)
    assert method.settle(told([0.0] * len(method.games), reference)).reference == 0


def test_a_single_validation_video_settles_something_too():
    method = briefed(drawn(0))
    played = told(shares_of(method, TEXT))
    same = torch.zeros_like(played.videos)
    found = method.settle(dataclasses.replace(played, videos=same, halves=same))
    assert found.weights[TEXT] > 0.99
    assert found.cross_fitted.isfinite().all()


def test_a_method_with_the_state_of_another_does_as_it_would():
    one, two = briefed(drawn(0)), briefed(drawn(0))
    one.settle(told(np.linspace(0, 0.3, 8), 0.2))
    two.load_state_dict(one.state_dict())
    assert two.log_values() == one.log_values()
    batch = toy_batch(n=100)
    for method in (one, two):
        torch.manual_seed(4)
        method.shown = flags_of(method.mask_modalities(batch, 0.3))
    assert torch.equal(one.shown, two.shown)
    later = [method.settle(told(np.linspace(0.3, 0, 8), 0.1, seed=1)) for method in (one, two)]
    assert later[0].weights == later[1].weights
    assert later[0].reference == later[1].reference
    assert torch.equal(later[0].cross_fitted, later[1].cross_fitted)


@pytest.mark.parametrize("count", [9, 12, 20])
def test_of_many_modalities_the_most_believed_coalitions_are_played(count):
    names = tuple(f"m{i}" for i in range(count))
    coalitions = attribution(names)[0]
    gains = np.random.default_rng(0).normal(scale=0.1, size=(len(coalitions), len(VIDEOS)))
    best = 40
    gains[best] += 1.0
    method = briefed(diagnosis(gains, names), names)
    assert 2 <= len(method.games) <= MOST_COALITIONS
    assert {frozenset(names), coalitions[best]} <= set(method.games)
    assert method.strategy.sum() == pytest.approx(1)
    assert dict(zip(method.games, method.strategy, strict=True))[coalitions[best]] > 0.99
    found = method.settle(told(shares_of(method, frozenset(names))))
    assert found.weights[frozenset(names)] > 0.99


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exploration": 0.0}, "exploration in (0, 1]"),
        ({"exploration": 1.5}, "exploration in (0, 1]"),
        ({"memory": 1.0}, "memory in [0, 1)"),
        ({"memory": -0.1}, "memory in [0, 1)"),
        ({"folds": -1.0}, "folds of 0 or more"),
        ({"least_rate": 1.1}, "least_rate in [0, 1]"),
        ({"least_rate": -0.1}, "least_rate in [0, 1]"),
        ({"explorations": 0.2}, "did you mean 'exploration'?"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_in_a_sentence(options, words):
    with pytest.raises(PaSEError) as caught:
        plugins.configure(Config, options, "The modulation held_out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
