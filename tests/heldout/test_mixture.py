"""The mixture over coalitions: its weights, the averaging of outputs, and a model that predicts with it."""

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
WITHOUT_VISION = {TEXT: 0.5, BOTH: 0.3, frozenset(): 0.2}


def mixture_of(weights, reference=0.0):
    mixture = CoalitionMixture(NAMES)
    mixture.set(weights, reference)
    return mixture


@steady
@given(some)
def test_weights_are_scaled_to_add_up_to_one_and_come_heaviest_first(content):
    result = mixture_of(content).coalition_weights
    total = sum(content.values())
    assert result == pytest.approx({coalition: weight / total for coalition, weight in content.items()}, rel=1e-5)
    assert list(result.values()) == sorted(result.values(), reverse=True)


@steady
@given(some)
def test_the_prediction_weight_of_a_modality_is_the_weight_of_all_coalitions_that_hold_it(content):
    total = sum(content.values())
    for name in NAMES:
        wanted = sum(weight for coalition, weight in content.items() if name in coalition) / total
        assert mixture_of(content).prediction_weight(name) == pytest.approx(wanted, abs=1e-5)


def test_negligible_weights_are_left_out_and_the_others_scaled():
    result = mixture_of({TEXT: 0.6, BOTH: 0.3999, AUDIO: 1e-4, frozenset(NAMES): 0.0}).coalition_weights
    assert list(result) == [TEXT, BOTH]
    assert sum(result.values()) == pytest.approx(1)


def test_more_coalitions_than_there_is_room_for_are_taken_where_the_rest_is_negligible():
    names = tuple("abcdef")
    content = dict.fromkeys(coalitions(names), 1e-6) | dict.fromkeys(coalitions(names)[:MOST_COALITIONS], 1.0)
    mixture = CoalitionMixture(names)
    mixture.set(content)
    assert set(mixture.coalition_weights) == set(coalitions(names)[:MOST_COALITIONS])


@pytest.mark.parametrize("content", [{}, {TEXT: 0.0}])
def test_without_weights_every_prediction_uses_all_modalities(content):
    mixture = mixture_of(WITHOUT_VISION, 0.5)
    mixture.set(content)
    assert mixture.coalition_weights == {}
    assert [mixture.prediction_weight(name) for name in NAMES] == [1.0, 1.0, 1.0]


def test_new_weights_replace_the_old_ones_altogether():
    mixture = mixture_of(dict.fromkeys(coalitions(NAMES), 1.0), 0.5)
    mixture.set({AUDIO: 2.0})
    assert mixture.coalition_weights == {AUDIO: 1.0}
    assert float(mixture.reference) == 0


@pytest.mark.parametrize(("given_weight", "expected"), [(0.0, 0.0), (1e-4, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_a_negligible_weight_of_the_reference_is_zero(given_weight, expected):
    assert float(mixture_of(WITHOUT_VISION, given_weight).reference) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({frozenset({"smell"}): 1.0}, "CoalitionMixture names 'smell'; the modalities are text, audio, vision."),
        ({TEXT: 1.2, AUDIO: -0.2}, "weights of 0 or more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_a_sentence_and_change_nothing(content, words):
    mixture = mixture_of(WITHOUT_VISION)
    before = mixture.coalition_weights
    with pytest.raises(PaSEError) as caught:
        mixture.set(content)
    assert words in str(caught.value)
    assert mixture.coalition_weights == before


def test_too_many_coalitions_are_refused_in_a_sentence():
    names = tuple("abcdef")
    with pytest.raises(PaSEError, match=f"up to {MOST_COALITIONS} coalitions .* found 64"):
        CoalitionMixture(names).set(dict.fromkeys(coalitions(names), 1.0))


@steady
@given(some, st.floats(0, 1))
def test_the_weights_are_part_of_the_state(content, reference):
    one, two = mixture_of(content, reference), mixture_of({AUDIO: 1.0})
    two.load_state_dict(one.state_dict())
    assert two.coalition_weights == one.coalition_weights
    assert float(two.reference) == float(one.reference)


def random_outputs(kind, seed, n=5):
    """Outputs of random logits."""
    task = toy_task(kind)
    logits = torch.randn(n, task.num_classes, generator=torch.Generator().manual_seed(seed))
    probabilities = logits.softmax(1)
    score = task.score(probabilities) if kind == "regression" else None
    return Outputs(logits, probabilities, score, torch.full((n, 2), float(seed)))


@each_kind
def test_a_mixture_is_the_weighted_mean_of_probabilities_and_scores(kind):
    parts = [(0.5, random_outputs(kind, 1)), (0.2, random_outputs(kind, 2)), (0.3, random_outputs(kind, 3))]
    result = mix_outputs(toy_task(kind), parts)
    wanted = sum(weight * output.probabilities for weight, output in parts)
    assert torch.allclose(result.probabilities, wanted, atol=1e-6)
    assert torch.allclose(result.logits.softmax(1), wanted, atol=1e-6)
    if kind == "regression":
        values = torch.tensor(toy_task(kind).values)
        assert torch.allclose(result.score, wanted @ values, atol=1e-5)
        assert torch.allclose(result.score, sum(weight * output.score for weight, output in parts), atol=1e-5)
    else:
        assert result.score is None


def test_vectors_of_a_mixture_are_those_of_the_heaviest_part():
    parts = [(0.3, random_outputs("regression", 1)), (0.7, random_outputs("regression", 2))]
    assert torch.equal(mix_outputs(toy_task(), parts).fused, parts[1][1].fused)


@each_kind
def test_one_part_alone_is_returned_as_it_is(kind):
    only = random_outputs(kind, 1)
    assert mix_outputs(toy_task(kind), [(1.0, only)]) is only


@each_kind
@pytest.mark.parametrize("reference_weight", [0.25, 1.0])
def test_the_reference_has_its_weight_in_a_mixture(kind, reference_weight):
    parts, other = (
        [(0.6, random_outputs(kind, 1)), (0.4, random_outputs(kind, 2))],
        random_outputs(kind, 3).probabilities,
    )
    result = mix_outputs(toy_task(kind), parts, other, reference_weight)
    own = 0.6 * parts[0][1].probabilities + 0.4 * parts[1][1].probabilities
    assert torch.allclose(result.probabilities, (1 - reference_weight) * own + reference_weight * other, atol=1e-6)
    if kind == "regression":
        assert torch.allclose(result.score, toy_task().score(result.probabilities), atol=1e-6)


def test_a_mixture_without_probability_of_a_class_has_finite_logits():
    sure = random_outputs("classification", 1)
    sure = dataclasses.replace(sure, probabilities=torch.eye(3)[[0, 1, 2, 0, 1]])
    assert mix_outputs(toy_task("classification"), [(0.5, sure), (0.5, sure)]).logits.isfinite().all()


def predicting(name="pase", kind="regression", content=WITHOUT_VISION, reference_weight=0.0, reference=False):
    """A model in evaluation, after some steps, with these coalition weights."""
    model = train_steps(toy_model(name, kind), [toy_batch(kind, seed=seed) for seed in range(3)])
    if reference:
        model.reference = toy_reference(kind)
    model.mixture.set(content, reference_weight)
    return model.eval()


def probabilities_of(model, batch):
    with torch.no_grad():
        return model(batch).probabilities


@each_model
@each_kind
@pytest.mark.parametrize("reference_weight", [0.0, 0.4])
def test_a_prediction_is_the_naive_average_over_the_coalitions(name, kind, reference_weight):
    model, batch = predicting(name, kind, reference_weight=reference_weight, reference=True), toy_batch(kind, seed=7)
    with torch.no_grad():
        wanted = sum(
            (1 - reference_weight) * weight * model.network_coalitions(batch, [coalition])[0].probabilities
            for coalition, weight in WITHOUT_VISION.items()
        )
        wanted = wanted + reference_weight * model.reference(batch, [frozenset(NAMES)])[0]
    result = model(batch)
    assert torch.allclose(result.probabilities, wanted, atol=1e-6)
    assert torch.allclose(result.probabilities.sum(1), torch.ones(len(batch)), atol=1e-5)
    if kind == "regression":
        assert torch.allclose(result.score, model.task.score(wanted), atol=1e-5)


@each_model
def test_a_given_coalition_is_the_mixture_of_what_the_weighted_ones_have_in_common_with_it(name):
    model, batch = predicting(name), toy_batch(seed=7)
    asked = frozenset({"audio", "vision"})
    with torch.no_grad():
        wanted = sum(
            weight * model.network_coalitions(batch, [coalition & asked])[0].probabilities
            for coalition, weight in WITHOUT_VISION.items()
        )
        result = model.predict_coalitions(batch, [asked])[0].probabilities
    assert torch.allclose(result, wanted, atol=1e-6)


@each_model
def test_all_the_weight_on_all_modalities_changes_nothing(name):
    model, batch = predicting(name, content={frozenset(NAMES): 1.0}), toy_batch(seed=7)
    with torch.no_grad():
        assert torch.allclose(probabilities_of(model, batch), model.network(batch).probabilities, atol=1e-6)


@each_model
def test_the_mixture_is_not_applied_in_training(name):
    model, batch = predicting(name, reference_weight=0.5, reference=True).train(), toy_batch(seed=7)
    before = probabilities_of(model, batch)
    model.mixture.set({})
    assert torch.equal(before, probabilities_of(model, batch))


@each_model
def test_coalitions_of_the_network_ignore_the_mixture(name):
    model, batch, asked = predicting(name, reference_weight=0.5, reference=True), toy_batch(seed=7), coalitions(NAMES)
    with torch.no_grad():
        before = [output.probabilities for output in model.network_coalitions(batch, asked)]
        model.mixture.set({})
        after = [output.probabilities for output in model.network_coalitions(batch, asked)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


GARBAGE = [1e30, -7.0, float("nan"), float("inf")]


def with_garbage(batch, name, value):
    features = {**batch.features, name: torch.full_like(batch.features[name], value)}
    return dataclasses.replace(batch, features=features)


@each_model
@each_kind
@pytest.mark.parametrize("garbage", GARBAGE)
def test_nothing_of_an_excluded_modality_reaches_a_prediction(name, kind, garbage):
    model, batch = predicting(name, kind), toy_batch(kind, seed=7)
    expected = probabilities_of(model, batch)
    assert expected.isfinite().all()
    assert torch.equal(probabilities_of(model, with_garbage(batch, "vision", garbage)), expected)
    assert not torch.equal(probabilities_of(model, with_garbage(batch, "text", -7.0)), expected)


@each_model
def test_whether_an_excluded_modality_is_present_does_not_reach_a_prediction(name):
    model, batch = predicting(name), toy_batch(seed=7)
    assert torch.equal(probabilities_of(model, batch.only(["text", "audio"])), probabilities_of(model, batch))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_nothing_of_a_modality_that_the_reference_does_not_use_reaches_a_prediction_by_it(garbage):
    model, batch = predicting(reference_weight=0.5, reference=True), toy_batch(seed=7)
    assert "vision" not in {name for names in model.reference.coalitions for name in names}
    assert torch.equal(probabilities_of(model, with_garbage(batch, "vision", garbage)), probabilities_of(model, batch))


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
@pytest.mark.parametrize("reference_weight", [0.0, 0.4])
def test_contributions_add_up_and_that_of_an_excluded_modality_is_zero(name, kind, reference_weight):
    model = predicting(name, kind, reference_weight=reference_weight, reference=True)
    result = infer(model, dataset())
    value = result.score if kind == "regression" else result.probabilities.max(1).values
    assert torch.allclose(sum(result.contributions.values()), value - result.base, atol=1e-5)
    assert result.contributions["vision"].abs().max() < 1e-12
    assert result.contributions["text"].abs().max() > 1e-5


@each_model
def test_an_excluded_modality_makes_no_difference_to_any_coalition(name):
    model, batch, others = (
        predicting(name, reference_weight=0.4, reference=True),
        toy_batch(seed=7),
        coalitions(["text", "audio"]),
    )
    with torch.no_grad():
        without, joined = (
            model.predict_coalitions(batch, [coalition | more for coalition in others]) for more in (set(), {"vision"})
        )
    assert all(torch.equal(one.logits, two.logits) for one, two in zip(without, joined, strict=True))


@each_model
def test_a_prediction_of_the_mixture_depends_neither_on_the_order_nor_on_the_batch(name):
    model, batch = predicting(name, reference_weight=0.4, reference=True), toy_batch(seed=7)
    together, order = probabilities_of(model, batch), torch.randperm(len(batch))
    assert torch.allclose(probabilities_of(model, rows_of(batch, order)), together[order], atol=1e-6)
    alone = torch.cat([probabilities_of(model, rows_of(batch, [row])) for row in range(len(batch))])
    assert torch.allclose(alone, together, atol=1e-6)


@each_model
@each_kind
@pytest.mark.parametrize("reference", [False, True])
def test_a_saved_model_keeps_its_mixture_and_its_reference(name, kind, reference, tmp_path):
    model = predicting(name, kind, reference_weight=0.4 if reference else 0.0, reference=reference)
    batch = toy_batch(kind, seed=7)
    loaded = Model.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert loaded.mixture.coalition_weights == model.mixture.coalition_weights
    assert torch.equal(probabilities_of(loaded, batch), probabilities_of(model, batch))
    model.mixture.set({})
    assert not torch.allclose(probabilities_of(loaded, batch), probabilities_of(model, batch), atol=1e-4)
