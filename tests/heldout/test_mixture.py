"""Which coalitions a prediction is made of: the weights themselves, the mixture, and a model that has them."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.batch import Outputs
from pase_msa.data.columns import SequenceColumn
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.errors import PaSEError
from pase_msa.evaluation.inference import infer
from pase_msa.heldout.mixture import CoalitionMixture, mix_outputs
from pase_msa.heldout.weights import MOST_COALITIONS
from pase_msa.models.base import Model
from pase_msa.shapley import coalitions
from tests.toys import DIMS, NAMES, rows_of, toy_batch, toy_model, toy_reference, toy_task, train_steps

steady = settings(derandomize=True, deadline=None, max_examples=40)
each_model = pytest.mark.parametrize("name", ["pase", "concat"])
each_kind = pytest.mark.parametrize("kind", ["regression", "classification"])
some = st.dictionaries(st.frozensets(st.sampled_from(NAMES)), st.floats(0.01, 5), min_size=1, max_size=8)

TEXT, AUDIO, BOTH = frozenset({"text"}), frozenset({"audio"}), frozenset({"text", "audio"})
#: vision is in none of them
CLOSED = {TEXT: 0.5, BOTH: 0.3, frozenset(): 0.2}


def weights(content, reference=0.0):
    trust = CoalitionMixture(NAMES)
    trust.set(content, reference)
    return trust


@steady
@given(some)
def test_weights_are_scaled_to_add_up_to_one_and_come_heaviest_first(content):
    found = weights(content).coalitions
    total = sum(content.values())
    assert found == pytest.approx({coalition: weight / total for coalition, weight in content.items()}, rel=1e-5)
    assert list(found.values()) == sorted(found.values(), reverse=True)


@steady
@given(some)
def test_the_share_of_a_modality_is_the_weight_of_all_coalitions_that_hold_it(content):
    total = sum(content.values())
    for name in NAMES:
        wanted = sum(weight for coalition, weight in content.items() if name in coalition) / total
        assert weights(content).prediction_weight(name) == pytest.approx(wanted, abs=1e-5)


def test_negligible_weights_are_left_out_and_the_others_scaled():
    found = weights({TEXT: 0.6, BOTH: 0.3999, AUDIO: 1e-4, frozenset(NAMES): 0.0}).coalitions
    assert list(found) == [TEXT, BOTH]
    assert sum(found.values()) == pytest.approx(1)


def test_more_coalitions_than_there_is_room_for_are_taken_where_the_rest_is_negligible():
    names = tuple("abcdef")
    content = dict.fromkeys(coalitions(names), 1e-6) | dict.fromkeys(coalitions(names)[:MOST_COALITIONS], 1.0)
    trust = CoalitionMixture(names)
    trust.set(content)
    assert set(trust.coalitions) == set(coalitions(names)[:MOST_COALITIONS])


@pytest.mark.parametrize("content", [{}, {TEXT: 0.0}])
def test_without_weights_there_is_no_trust_and_everything_is_read(content):
    trust = weights(CLOSED, 0.5)
    trust.set(content)
    assert trust.coalitions == {}
    assert [trust.prediction_weight(name) for name in NAMES] == [1.0, 1.0, 1.0]


def test_new_weights_replace_the_old_ones_altogether():
    trust = weights(dict.fromkeys(coalitions(NAMES), 1.0), 0.5)
    trust.set({AUDIO: 2.0})
    assert trust.coalitions == {AUDIO: 1.0}
    assert float(trust.reference) == 0


@pytest.mark.parametrize(("given_share", "kept"), [(0.0, 0.0), (1e-4, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_a_negligible_share_of_the_reference_is_none(given_share, kept):
    assert float(weights(CLOSED, given_share).reference) == kept


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({frozenset({"smell"}): 1.0}, "CoalitionMixture names 'smell'; the modalities are text, audio, vision."),
        ({TEXT: 1.2, AUDIO: -0.2}, "weights of 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence_and_changes_nothing(content, words):
    trust = weights(CLOSED)
    before = trust.coalitions
    with pytest.raises(PaSEError) as caught:
        trust.set(content)
    assert words in str(caught.value)
    assert trust.coalitions == before


def test_too_many_coalitions_are_refused_in_a_sentence():
    names = tuple("abcdef")
    with pytest.raises(PaSEError, match=f"up to {MOST_COALITIONS} coalitions .* found 64"):
        CoalitionMixture(names).set(dict.fromkeys(coalitions(names), 1.0))


@steady
@given(some, st.floats(0, 1))
def test_the_weights_are_part_of_the_state(content, reference):
    one, two = weights(content, reference), weights({AUDIO: 1.0})
    two.load_state_dict(one.state_dict())
    assert two.coalitions == one.coalitions
    assert float(two.reference) == float(one.reference)


def spoken(kind, seed, n=5):
    """Outputs that say something at random."""
    task = toy_task(kind)
    logits = torch.randn(n, task.num_classes, generator=torch.Generator().manual_seed(seed))
    probabilities = logits.softmax(1)
    score = task.score(probabilities) if kind == "regression" else None
    return Outputs(logits, probabilities, score, torch.full((n, 2), float(seed)))


@each_kind
def test_a_mixture_is_the_weighted_mean_of_probabilities_and_scores(kind):
    parts = [(0.5, spoken(kind, 1)), (0.2, spoken(kind, 2)), (0.3, spoken(kind, 3))]
    found = mix_outputs(toy_task(kind), parts)
    wanted = sum(weight * output.probabilities for weight, output in parts)
    assert torch.allclose(found.probabilities, wanted, atol=1e-6)
    assert torch.allclose(found.logits.softmax(1), wanted, atol=1e-6)
    if kind == "regression":
        values = torch.tensor(toy_task(kind).values)
        assert torch.allclose(found.score, wanted @ values, atol=1e-5)
        assert torch.allclose(found.score, sum(weight * output.score for weight, output in parts), atol=1e-5)
    else:
        assert found.score is None


def test_vectors_of_a_mixture_are_those_of_the_heaviest_part():
    parts = [(0.3, spoken("regression", 1)), (0.7, spoken("regression", 2))]
    assert torch.equal(mix_outputs(toy_task(), parts).fused, parts[1][1].fused)


@each_kind
def test_one_part_alone_is_returned_as_it_is(kind):
    only = spoken(kind, 1)
    assert mix_outputs(toy_task(kind), [(1.0, only)]) is only


@each_kind
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_reference_has_its_share_of_a_mixture(kind, share):
    parts, other = [(0.6, spoken(kind, 1)), (0.4, spoken(kind, 2))], spoken(kind, 3).probabilities
    found = mix_outputs(toy_task(kind), parts, other, share)
    own = 0.6 * parts[0][1].probabilities + 0.4 * parts[1][1].probabilities
    assert torch.allclose(found.probabilities, (1 - share) * own + share * other, atol=1e-6)
    if kind == "regression":
        assert torch.allclose(found.score, toy_task().score(found.probabilities), atol=1e-6)


def test_a_mixture_that_rules_a_class_out_has_finite_logits():
    sure = spoken("classification", 1)
    sure = dataclasses.replace(sure, probabilities=torch.eye(3)[[0, 1, 2, 0, 1]])
    assert mix_outputs(toy_task("classification"), [(0.5, sure), (0.5, sure)]).logits.isfinite().all()


def trusting(name="pase", kind="regression", content=CLOSED, share=0.0, reference=False):
    """A model in evaluation, after some steps, that trusts these coalitions."""
    model = train_steps(toy_model(name, kind), [toy_batch(kind, seed=seed) for seed in range(3)])
    if reference:
        model.reference = toy_reference(kind)
    model.mixture.set(content, share)
    return model.eval()


def said(model, batch):
    with torch.no_grad():
        return model(batch).probabilities


@each_model
@each_kind
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_prediction_is_the_naive_average_of_the_trusted_coalitions(name, kind, share):
    model, batch = trusting(name, kind, share=share, reference=True), toy_batch(kind, seed=7)
    with torch.no_grad():
        wanted = sum(
            (1 - share) * weight * model.network_coalitions(batch, [coalition])[0].probabilities
            for coalition, weight in CLOSED.items()
        )
        wanted = wanted + share * model.reference(batch, [frozenset(NAMES)])[0]
    found = model(batch)
    assert torch.allclose(found.probabilities, wanted, atol=1e-6)
    assert torch.allclose(found.probabilities.sum(1), torch.ones(len(batch)), atol=1e-5)
    if kind == "regression":
        assert torch.allclose(found.score, model.task.score(wanted), atol=1e-5)


@each_model
def test_a_coalition_is_the_mixture_of_what_the_trusted_ones_share_with_it(name):
    model, batch = trusting(name), toy_batch(seed=7)
    asked = frozenset({"audio", "vision"})
    with torch.no_grad():
        wanted = sum(
            weight * model.network_coalitions(batch, [coalition & asked])[0].probabilities
            for coalition, weight in CLOSED.items()
        )
        found = model.predict_coalitions(batch, [asked])[0].probabilities
    assert torch.allclose(found, wanted, atol=1e-6)


@each_model
def test_trust_in_everything_alone_is_no_change(name):
    model, batch = trusting(name, content={frozenset(NAMES): 1.0}), toy_batch(seed=7)
    with torch.no_grad():
        assert torch.allclose(said(model, batch), model.network(batch).probabilities, atol=1e-6)


@each_model
def test_trust_is_not_applied_in_training(name):
    model, batch = trusting(name, share=0.5, reference=True).train(), toy_batch(seed=7)
    trusted = said(model, batch)
    model.mixture.set({})
    assert torch.equal(trusted, said(model, batch))


@each_model
def test_to_play_ignores_trust(name):
    model, batch, games = trusting(name, share=0.5, reference=True), toy_batch(seed=7), coalitions(NAMES)
    with torch.no_grad():
        before = [output.probabilities for output in model.network_coalitions(batch, games)]
        model.mixture.set({})
        after = [output.probabilities for output in model.network_coalitions(batch, games)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


GARBAGE = [1e30, -7.0, float("nan"), float("inf")]


def with_garbage(batch, name, value):
    features = {**batch.features, name: torch.full_like(batch.features[name], value)}
    return dataclasses.replace(batch, features=features)


@each_model
@each_kind
@pytest.mark.parametrize("garbage", GARBAGE)
def test_nothing_of_a_closed_modality_reaches_a_prediction(name, kind, garbage):
    model, batch = trusting(name, kind), toy_batch(kind, seed=7)
    expected = said(model, batch)
    assert expected.isfinite().all()
    assert torch.equal(said(model, with_garbage(batch, "vision", garbage)), expected)
    assert not torch.equal(said(model, with_garbage(batch, "text", -7.0)), expected)


@each_model
def test_whether_a_closed_modality_is_there_does_not_reach_a_prediction(name):
    model, batch = trusting(name), toy_batch(seed=7)
    assert torch.equal(said(model, batch.only(["text", "audio"])), said(model, batch))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_nothing_of_a_modality_that_no_expert_reads_reaches_a_prediction_by_the_reference(garbage):
    model, batch = trusting(share=0.5, reference=True), toy_batch(seed=7)
    assert "vision" not in {name for names in model.reference.coalitions for name in names}
    assert torch.equal(said(model, with_garbage(batch, "vision", garbage)), said(model, batch))


def dataset(n=20, seed=3):
    """Utterances at random, the first without vision."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name, dim in DIMS.items():
        rows = [rng.normal(size=(1 if name == "vision" else 3, dim)).astype(np.float32) for _ in range(n)]
        columns[name] = SequenceColumn.from_arrays(
            [None if name == "vision" and i == 0 else r for i, r in enumerate(rows)], dim
        )
    return UtteranceDataset(columns, np.arange(n), np.arange(n) // 4, None)


@each_model
@each_kind
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_contributions_add_up_and_that_of_a_closed_modality_is_zero(name, kind, share):
    model = trusting(name, kind, share=share, reference=True)
    found = infer(model, dataset())
    value = found.score if kind == "regression" else found.probabilities.max(1).values
    assert torch.allclose(sum(found.contributions.values()), value - found.base, atol=1e-5)
    assert found.contributions["vision"].abs().max() < 1e-12
    assert found.contributions["text"].abs().max() > 1e-5


@each_model
def test_a_closed_modality_makes_no_difference_to_any_coalition(name):
    model, batch, others = trusting(name, share=0.4, reference=True), toy_batch(seed=7), coalitions(["text", "audio"])
    with torch.no_grad():
        without, joined = (
            model.predict_coalitions(batch, [game | more for game in others]) for more in (set(), {"vision"})
        )
    assert all(torch.equal(one.logits, two.logits) for one, two in zip(without, joined, strict=True))


@each_model
def test_a_prediction_with_trust_depends_neither_on_the_order_nor_on_the_batch(name):
    model, batch = trusting(name, share=0.4, reference=True), toy_batch(seed=7)
    together, order = said(model, batch), torch.randperm(len(batch))
    assert torch.allclose(said(model, rows_of(batch, order)), together[order], atol=1e-6)
    alone = torch.cat([said(model, rows_of(batch, [row])) for row in range(len(batch))])
    assert torch.allclose(alone, together, atol=1e-6)


@each_model
@each_kind
@pytest.mark.parametrize("reference", [False, True])
def test_a_saved_model_keeps_its_trust_and_its_reference(name, kind, reference, tmp_path):
    model = trusting(name, kind, share=0.4 if reference else 0.0, reference=reference)
    batch = toy_batch(kind, seed=7)
    loaded = Model.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert loaded.mixture.coalitions == model.mixture.coalitions
    assert torch.equal(said(loaded, batch), said(model, batch))
    model.mixture.set({})
    assert not torch.allclose(said(loaded, batch), said(model, batch), atol=1e-4)
