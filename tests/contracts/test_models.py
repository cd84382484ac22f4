"""What every model on disk keeps to."""

import copy
import dataclasses
import pickle
from functools import cache
from itertools import combinations

import pytest
import torch

from pase_msa import plugins
from pase_msa.models.base import Model, build_model
from pase_msa.shapley import coalitions
from pase_msa.training.config import TrainingConfig
from pase_msa.training.optimizers import make_optimizer
from tests.toys import (
    NAMES,
    parameters_of,
    relabelled,
    rows_of,
    toy_batch,
    toy_inputs,
    toy_reference,
    toy_task,
    train_steps,
)

MODELS = plugins.names("models")
#: number and size of the steps in which a planted signal must be learned
LARGE_STEPS, SMALL_STEPS = (30, 0.01), (80, 0.003)
LEARN_IN_SMALL_STEPS = {"misa", "momke"}
KINDS = ("regression", "classification")

each_model = pytest.mark.parametrize("name", MODELS)
each_kind = pytest.mark.parametrize("kind", KINDS)
each_size = pytest.mark.parametrize("k", [1, pytest.param(2, marks=pytest.mark.slow), 3])


def made(name, kind="regression", k=3):
    torch.manual_seed(1)
    model = build_model(name, toy_task(kind, NAMES[:k]), toy_inputs(NAMES[:k]), {})
    batch = toy_batch(kind, NAMES[:k])
    model.fit_rows(batch.rows, batch.labels)
    return model


def parts_of(model, batch):
    """Row numbers of the smallest parts of a batch that are predicted by themselves: utterances, or whole videos."""
    if not model.conversations:
        return [[i] for i in range(len(batch))]
    return [(batch.videos == video).nonzero().flatten().tolist() for video in batch.videos.unique()]


def trained(name, kind="regression", k=3):
    """A model in evaluation after three steps, a copy for each test."""
    return copy.deepcopy(_trained(name, kind, k))


@cache
def _trained(name, kind, k):
    batches = [toy_batch(kind, NAMES[:k], seed=seed) for seed in range(3)]
    return train_steps(made(name, kind, k), batches).eval()


def predicted(model, batch):
    with torch.no_grad():
        return model(batch).probabilities


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_state(before, model):
    after = model.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name


def test_there_are_models():
    assert {"pase", "concat", "ef_lstm", "lf_dnn", "tfn", "lmf"} <= set(MODELS)


@each_model
@each_kind
@each_size
def test_forward_gives_probabilities_and_a_score_where_one_is_asked_for(name, kind, k):
    outputs = made(name, kind, k).eval()(toy_batch(kind, NAMES[:k]))
    assert outputs.probabilities.shape == (12, 7 if kind == "regression" else 3)
    assert torch.allclose(outputs.probabilities.sum(1), torch.ones(12), atol=1e-5)
    if kind == "regression":
        assert outputs.score.shape == (12,)
        assert outputs.score.abs().max() <= 3
    else:
        assert outputs.score is None


@each_model
@each_kind
@each_size
def test_losses_are_named_finite_scalars_and_reach_every_modality(name, kind, k):
    model, batch = made(name, kind, k).train(), toy_batch(kind, NAMES[:k])
    for _ in range(2):  # from the second batch on, momentum state is there
        outputs = model(batch)
        losses = model.losses(outputs, batch)
        model.update(outputs, batch)
    assert losses
    assert all(isinstance(term, str) for term in losses)
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for modality in NAMES[:k]:
        gradients = [p.grad for p in model.modality_parameters(modality)]
        assert any(g is not None and g.abs().sum() > 0 for g in gradients), modality
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@each_model
@each_size
def test_modalities_own_parameters_and_share_none(name, k):
    model = made(name, k=k)
    owned = {m: {id(p) for p in model.modality_parameters(m)} for m in NAMES[:k]}
    assert all(owned.values())
    assert all(not owned[m] & owned[n] for m, n in combinations(owned, 2))
    everything = {id(p) for p in model.parameters()}
    assert set.union(*owned.values()) < everything, "the head belongs to no modality"


@each_model
@each_size
def test_a_model_with_vectors_has_one_of_its_width_for_every_modality(name, k):
    model = made(name, k=k)
    vectors = model(toy_batch(modalities=NAMES[:k])).vectors
    assert set(vectors) == (set(NAMES[:k]) if model.has_vectors else set())
    assert all(vector.shape == (12, model.width) for vector in vectors.values())


@each_model
def test_every_parameter_is_trained_once_at_the_rate_of_the_run(name):
    model = made(name)
    groups = make_optimizer(model, TrainingConfig(learning_rate=0.3)).param_groups
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in model.parameters())
    assert {group["lr"] for group in groups} == {0.3}


@each_model
@each_kind
@each_size
def test_every_parameter_of_fusion_and_head_has_a_gradient(name, kind, k):
    """One without would stand in the way of distributed training."""
    model, batch = made(name, kind, k).train(), toy_batch(kind, NAMES[:k])
    outputs = model(batch)
    torch.stack(list(model.losses(outputs, batch).values())).sum().backward()
    without = {n for n, parameter in model.named_parameters() if parameter.grad is None}
    assert {n for n in without if not n.startswith("encoders.")} == set()


@each_model
@each_kind
@each_size
def test_a_saved_model_predicts_the_same(name, kind, k, tmp_path):
    model, batch = trained(name, kind, k), toy_batch(kind, NAMES[:k], seed=9)
    folder = model.save_pretrained(tmp_path / "model")
    loaded = Model.from_pretrained(folder)
    assert not loaded.training
    assert type(loaded) is type(model)
    assert torch.equal(predicted(loaded, batch), predicted(model, batch))
    assert_same_state(state(model), loaded)


@each_model
@each_kind
def test_a_model_that_was_saved_trains_on_as_if_it_had_not_been(name, kind, tmp_path):
    model, batch = trained(name, kind), toy_batch(kind, seed=9)
    loaded = Model.from_pretrained(model.save_pretrained(tmp_path / "model"))
    loaded.keep_row_state(copy.deepcopy(model.row_state))  # which is in the checkpoint
    for each in (model, loaded):
        each.begin_epoch()  # where a resumed run goes on
        torch.manual_seed(5)
        train_steps(each, [batch] * 6)
    assert torch.equal(parameters_of(loaded), parameters_of(model))


@each_model
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_trains_on_by_itself(name, copied):
    model, batch = trained(name), toy_batch(seed=9)
    other = copied(model)
    before = state(model)
    torch.manual_seed(5)
    train_steps(other, [batch] * 3)
    assert_same_state(before, model)
    torch.manual_seed(5)
    assert torch.equal(parameters_of(train_steps(model, [batch] * 3)), parameters_of(other))


@each_model
@each_kind
@pytest.mark.parametrize("k", [2, 3])
def test_an_absent_modality_is_accepted_and_its_features_have_no_effect(name, kind, k):
    model, batch = trained(name, kind, k), toy_batch(kind, NAMES[:k])
    last = NAMES[k - 1]
    assert not batch.present[last][0]
    changed = dict(batch.features)
    changed[last] = changed[last].clone()
    changed[last][0] = 7.0
    before, after = predicted(model, batch), predicted(model, dataclasses.replace(batch, features=changed))
    assert before.isfinite().all()
    assert torch.equal(before, after)


@each_model
@each_kind
@pytest.mark.parametrize("k", [2, 3])
def test_every_modality_can_be_masked(name, kind, k):
    model, batch = trained(name, kind, k), toy_batch(kind, NAMES[:k], missing=False)
    assert model.reads, "a prediction depends on something"
    for masked in NAMES[:k]:
        rest = [other for other in NAMES[:k] if other != masked]
        partial = predicted(model, batch.only(rest))
        assert partial.isfinite().all()
        assert torch.allclose(partial, predicted(model, batch)) is (masked not in model.reads)


@each_model
@each_kind
@each_size
def test_the_prediction_of_an_utterance_without_any_modality_is_the_class_prior(name, kind, k):
    model, batch = trained(name, kind, k), toy_batch(kind, NAMES[:k])
    model.fit_prior(batch.labels)
    one = {modality: flag.clone() for modality, flag in batch.present.items()}
    for flag in one.values():
        flag[0] = False
    with torch.no_grad():
        found = model(dataclasses.replace(batch, present=one))
        of_none = model.network_coalitions(batch, [frozenset()])[0]
    assert torch.allclose(found.probabilities[0], model.class_prior)
    assert torch.allclose(of_none.probabilities, model.class_prior.expand_as(of_none.probabilities))
    # those of its conversation may be predicted otherwise without it
    others = [i for part in parts_of(model, batch) if 0 not in part for i in part]
    assert torch.allclose(found.probabilities[others], predicted(model, batch)[others], atol=1e-6)
    if kind == "regression":
        assert torch.allclose(found.score[0], model.task.score(model.class_prior))


@each_model
@each_kind
def test_a_batch_without_one_modality_trains(name, kind):
    batch = toy_batch(kind).only(["audio", "text"])
    model = train_steps(made(name, kind), [batch, batch])
    assert parameters_of(model).isfinite().all()


@each_model
@each_kind
@each_size
def test_a_prediction_does_not_depend_on_the_batch(name, kind, k):
    model, batch = trained(name, kind, k), toy_batch(kind, NAMES[:k])
    together = predicted(model, batch)
    alone = torch.cat([predicted(model, rows_of(batch, part)) for part in parts_of(model, batch)])
    assert torch.allclose(alone, together, atol=1e-6)


@each_model
@each_kind
def test_a_longer_padding_changes_nothing(name, kind):
    model, batch = trained(name, kind), toy_batch(kind)
    longer = {n: torch.cat([f, torch.full_like(f, 9.0)], dim=1) for n, f in batch.features.items()}
    padded = dataclasses.replace(batch, features=longer)
    assert torch.allclose(predicted(model, padded), predicted(model, batch), atol=1e-6)


@each_model
@each_kind
def test_a_last_batch_of_one_utterance_trains(name, kind):
    model = train_steps(
        made(name, kind), [toy_batch(kind), rows_of(toy_batch(kind), [3]), rows_of(toy_batch(kind), [0])]
    )
    assert parameters_of(model).isfinite().all()


@each_model
@each_kind
def test_a_signal_in_one_modality_is_learned(name, kind):
    """With full batches and no dropout of modalities; a method that trains its parts in turn has epochs enough."""
    model, batch = made(name, kind, 2), toy_batch(kind, NAMES[:2], missing=False)
    batch.features["text"] = batch.features["text"] * 0.1 + batch.labels.view(-1, 1, 1) - batch.labels.mean()
    membership = model.task.membership(batch.labels)

    def cross_entropy():
        model.eval()
        return float(-(membership * predicted(model, batch).clamp(min=1e-6).log()).sum(1).mean())

    before = cross_entropy()
    steps, rate = SMALL_STEPS if name in LEARN_IN_SMALL_STEPS else LARGE_STEPS
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    model.train()
    for step in range(steps):
        if step % 4 == 0:
            model.begin_epoch()
        outputs = model(batch)
        losses = model.losses(outputs, batch)
        model.update(outputs, batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert cross_entropy() < 0.8 * before


@each_model
@each_kind
@each_size
def test_a_prediction_does_not_depend_on_the_order(name, kind, k):
    model, batch = trained(name, kind, k), toy_batch(kind, NAMES[:k])
    order = torch.randperm(len(batch))
    assert torch.allclose(predicted(model, rows_of(batch, order)), predicted(model, batch)[order], atol=1e-6)


@each_model
@each_kind
@each_size
def test_a_prediction_does_not_depend_on_labels_rows_or_videos_bit_for_bit(name, kind, k):
    model, batch = trained(name, kind, k), toy_batch(kind, NAMES[:k])
    expected = predicted(model, batch)
    assert torch.equal(predicted(model, relabelled(batch, batch.labels.roll(1))), expected)
    if not model.conversations:
        unknown = dataclasses.replace(batch, labels=None, rows=None, videos=None)
        assert torch.equal(predicted(model, unknown), expected)


@each_model
@each_kind
def test_predicting_and_grading_move_no_state(name, kind):
    model, batch = trained(name, kind), toy_batch(kind, seed=3)
    before = state(model)
    outputs = model(batch)
    model.losses(outputs, batch)
    model.predict_coalitions(batch, coalitions(NAMES))
    assert_same_state(before, model)


@each_model
@each_kind
@pytest.mark.parametrize("weighted", [False, True], ids=["network", "mixture"])
def test_a_call_forward_and_the_coalition_of_all_predict_the_same(name, kind, weighted):
    """With coalition weights and a reference as without."""
    model, batch = trained(name, kind), toy_batch(kind)
    if weighted:
        model.reference = toy_reference(kind)
        model.mixture.set({frozenset({"text"}): 0.6, frozenset({"text", "audio"}): 0.4}, reference=0.3)
    with torch.no_grad():
        called, forward = model(batch), model.forward(batch)
        of_all = model.predict_coalitions(batch, [frozenset(NAMES)])[0]
        network = model.network(batch)
    for other in (forward, of_all):
        assert torch.allclose(other.probabilities, called.probabilities, atol=1e-6)
        assert torch.allclose(other.logits, called.logits, atol=1e-5)
        assert (other.score is None) is (kind == "classification")
        if other.score is not None:
            assert torch.allclose(other.score, called.score, atol=1e-5)
    assert torch.allclose(network.probabilities, called.probabilities, atol=1e-6) is not weighted


@each_model
def test_in_training_a_call_is_a_pass_of_the_network_whatever_the_coalition_weights(name):
    model, batch = trained(name).train(), toy_batch()
    model.mixture.set({frozenset({"text"}): 1.0})
    torch.manual_seed(3)
    called = model(batch)
    torch.manual_seed(3)
    assert torch.equal(model.network(batch).probabilities, called.probabilities)


@each_model
@each_kind
def test_network_coalitions_are_passes_of_the_network_whatever_the_coalition_weights(name, kind):
    model, batch = trained(name, kind), toy_batch(kind)
    groups = coalitions(NAMES)
    with torch.no_grad():
        expected = [model.network(batch.only(group)).probabilities for group in groups]
        model.mixture.set({frozenset({"text"}): 1.0})
        outputs = model.network_coalitions(batch, groups)
    for output, probabilities in zip(outputs, expected, strict=True):
        assert torch.allclose(output.probabilities, probabilities, atol=1e-6)


@each_model
@each_kind
def test_a_coalition_predicts_as_if_the_rest_were_absent(name, kind):
    model, batch = trained(name, kind), toy_batch(kind)
    groups = coalitions(NAMES)
    for group, found in zip(groups, model.predict_coalitions(batch, groups), strict=True):
        assert torch.allclose(found.probabilities, predicted(model, batch.only(group)), atol=1e-6)
