"""Weights by what an utterance has: which sets have their own, what they are, and what a model predicts with them."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.errors import PaSEError
from pase_msa.heldout.mixture import CoalitionMixture
from pase_msa.heldout.presence import MOST_PATTERNS, pattern_rows, presence_patterns
from pase_msa.heldout.weights import coalition_weights, draw_likelihoods, weights_by_presence
from pase_msa.models.base import Model
from pase_msa.shapley import coalitions
from tests.toys import NAMES, rows_of, toy_batch, toy_model, toy_reference, train_steps

steady = settings(derandomize=True, deadline=None, max_examples=25)
each_model = pytest.mark.parametrize("name", ["pase", "concat"])
TEXT, AUDIO, BOTH = frozenset({"text"}), frozenset({"audio"}), frozenset({"text", "audio"})
NOTHING: frozenset[str] = frozenset()
#: all rests on text; who lost it has audio, by a half
COMMON = {TEXT: 1.0}
GIVEN = {AUDIO: ({AUDIO: 0.5, NOTHING: 0.5}, 0.25), BOTH: ({TEXT: 0.6, BOTH: 0.4}, 0.0)}


@pytest.mark.parametrize("count", range(1, 6))
def test_up_to_five_modalities_every_set_but_none_and_all_has_weights_of_its_own(count):
    names = tuple("abcde"[:count])
    proper = {part for part in coalitions(names) if 0 < len(part) < count}
    assert set(presence_patterns(names)) == proper
    assert len(presence_patterns(names)) == len(proper)


@pytest.mark.parametrize("count", [6, 9, 15, 40])
def test_of_many_modalities_those_that_lack_one_come_first(count):
    names = [str(number) for number in range(count)]
    patterns = presence_patterns(names)
    assert len(patterns) == MOST_PATTERNS
    assert sum(len(part) == count - 1 for part in patterns) == min(count, MOST_PATTERNS)
    assert sum(len(part) == 1 for part in patterns) == min(count, MOST_PATTERNS - min(count, MOST_PATTERNS))


@steady
@given(st.integers(0, 99), st.sets(st.sampled_from(NAMES)))
def test_the_weights_of_a_set_are_those_of_a_posterior_that_knows_its_coalitions_only(seed, excluded):
    rng, listed = np.random.default_rng(seed), coalitions(NAMES)
    values, videos = rng.normal(scale=0.3, size=(len(listed), 24)), np.arange(24) // 3
    allowed = np.array([not part & excluded for part in listed])
    result = weights_by_presence(draw_likelihoods([(values, videos)]), listed, allowed, presence_patterns(NAMES))
    for pattern, own in result.items():
        inside = [row for row, part in enumerate(listed) if part <= pattern and allowed[row]]
        wanted = coalition_weights(draw_likelihoods([(values[inside], videos)]))
        assert own == pytest.approx({listed[row]: w for row, w in zip(inside, wanted, strict=True)})
    assert set(result) == set(presence_patterns(NAMES))


def test_a_set_without_an_allowed_coalition_has_no_weights():
    listed = [TEXT, BOTH]
    total = draw_likelihoods([(np.zeros((2, 6)), np.arange(6))])
    assert list(weights_by_presence(total, listed, np.array([True, False]), [TEXT, AUDIO])) == [TEXT]


def test_the_row_of_an_utterance_is_that_of_its_set_and_else_the_common_one():
    patterns = torch.tensor([[True, False, False], [False, True, True], [False, False, False]])
    own, common = torch.tensor([[1.0, 0.0], [0.25, 0.75], [9.0, 9.0]]), torch.tensor([0.5, 0.5])
    present = torch.tensor([[True, False, False], [True, True, True], [False, True, True], [False, False, False]])
    wanted = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    assert torch.equal(pattern_rows(present, patterns, own, common), wanted)


def predicting(name="pase", kind="regression", reference=False):
    model = train_steps(toy_model(name, kind), [toy_batch(kind, seed=seed) for seed in range(3)])
    if reference:
        model.reference = toy_reference(kind)
    model.mixture.set(COMMON, 0.0, GIVEN)
    return model.eval()


@torch.no_grad()
def probabilities_of(model, batch, **how):
    return model.predict_coalitions(batch, [frozenset(NAMES)], **how)[0].probabilities


@each_model
def test_who_lost_a_modality_is_predicted_by_the_weights_of_what_is_left(name):
    model, batch = predicting(name, reference=True), toy_batch(seed=7)
    lost = batch.only(["audio"])
    with torch.no_grad():
        alone, nothing = (part.probabilities for part in model.network_coalitions(lost, [AUDIO, NOTHING]))
        closed_form = model.reference(lost, [frozenset(NAMES)])[0]
        result = model(lost).probabilities
    assert torch.allclose(result, 0.75 * (alone + nothing) / 2 + 0.25 * closed_form, atol=1e-6)


@each_model
def test_where_all_is_there_nothing_changes(name):
    model, batch = predicting(name), toy_batch(seed=7, missing=False)
    before = model(batch).probabilities
    model.mixture.set(COMMON)
    assert torch.equal(model(batch).probabilities, before)


@each_model
def test_a_prediction_depends_on_what_its_own_utterance_has_alone(name):
    model, batch = predicting(name, reference=True), toy_batch(seed=7)
    flags = {n: torch.rand(len(batch), generator=torch.Generator().manual_seed(4)) < 0.5 for n in NAMES}
    mixed = dataclasses.replace(batch, present={n: batch.present[n] & flags[n] for n in NAMES})
    together = probabilities_of(model, mixed)
    alone = torch.cat([probabilities_of(model, rows_of(mixed, [row])) for row in range(len(mixed))])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.allclose(together.sum(1), torch.ones(len(mixed)), atol=1e-5)


@each_model
def test_to_lose_the_others_is_to_have_never_had_them(name):
    model, batch = predicting(name, reference=True), toy_batch(seed=7)
    asked = coalitions(NAMES)
    with torch.no_grad():
        lost = model.predict_coalitions(batch, asked, lost=True)
        for part, output in zip(asked, lost, strict=True):
            assert torch.allclose(output.probabilities, model(batch.only(part)).probabilities, atol=1e-6)


@each_model
def test_a_modality_without_weight_contributes_nothing_to_who_has_all(name):
    model, batch = predicting(name), toy_batch(seed=7, missing=False)
    with torch.no_grad():
        without, joined = (p.probabilities for p in model.predict_coalitions(batch, [TEXT, frozenset(NAMES)]))
    assert torch.equal(without, joined)


@each_model
def test_an_excluded_modality_is_no_substitute(name):
    model, batch = predicting(name), toy_batch(seed=7)
    alone = batch.only(["vision"])  # vision has no weights
    other = dataclasses.replace(alone, features=alone.features | {"vision": alone.features["vision"] + 3.0})
    assert torch.equal(probabilities_of(model, alone), probabilities_of(model, other))


@each_model
def test_a_saved_model_keeps_its_weights_by_what_is_there(name, tmp_path):
    model = predicting(name)
    model.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    assert again.mixture.given == model.mixture.given == GIVEN_ROUNDED
    lost = toy_batch(seed=7).only(["audio"])
    assert torch.allclose(probabilities_of(again, lost), probabilities_of(model, lost), atol=1e-6)


GIVEN_ROUNDED = {
    part: ({c: pytest.approx(weight) for c, weight in weights.items()}, share)
    for part, (weights, share) in GIVEN.items()
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({AUDIO: ({TEXT: 1.0}, 0.0)}, "of coalitions within them"),
        ({AUDIO: ({AUDIO: 1.0}, 1.5)}, "lies in .0, 1., found 1.5"),
        ({frozenset({"smell"}): ({NOTHING: 1.0}, 0.0)}, "names 'smell'"),
        ({AUDIO: ({AUDIO: -1.0, NOTHING: 1.0}, 0.0)}, "weights of 0 or more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(content, words):
    mixture = CoalitionMixture(NAMES)
    mixture.set(COMMON, 0.0, GIVEN)
    before = mixture.given
    with pytest.raises(PaSEError, match=words):
        mixture.set(COMMON, 0.0, content)
    assert mixture.given == before
