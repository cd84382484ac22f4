"""Learning rates by modality: both rules against hand-made series, and a modality that is stopped."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.modality_lr import accuracy, overfitting_factor, utilisation_factors
from pase_msa.errors import PaSEError
from pase_msa.task import Task
from pase_msa.training.run import build_balancing, prepare
from tests.balancing.steps import balanced_steps, cut_and_whole, method_for, planted_batch, trainer_of
from tests.balancing.test_baselines import config_of, fitted
from tests.reference import modality_lr as reference
from tests.toys import NAMES, parameters_of, toy_batch, toy_model

LOSSES = [2.0, 1.5, 1.6, 1.7, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 1.0]
each_rule = pytest.mark.parametrize("rule", ["overfitting", "utilisation"])


def weights_of(model, name):
    return torch.cat([p.detach().flatten() for p in model.modality_parameters(name)])


# overfitting


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_factors_of_a_series_of_losses_are_those_of_a_naive_count(patience, decay):
    method = method_for(toy_model("concat"), "modality_lr", patience=patience, decay=decay)
    result = []
    for loss in LOSSES:
        method.follow({"text": loss})
        result.append(method.factors["text"])
    assert result == pytest.approx(reference.overfitting_factors(LOSSES, patience, decay))
    assert min(result) < 1


def test_a_factor_is_one_up_to_patience_and_falls_in_steps():
    assert [overfitting_factor(stale, 2, 0.5) for stale in range(7)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert [overfitting_factor(stale, 2, 0.0) for stale in range(4)] == [1.0, 1.0, 0.0, 0.0]


def test_an_encoder_that_was_slowed_is_as_fast_as_ever_once_its_loss_falls_and_a_stopped_one_stays():
    slowed, stopped = (method_for(toy_model("concat"), "modality_lr", patience=1, decay=d) for d in (0.5, 0.0))
    for method in (slowed, stopped):
        for loss in (1.0, 2.0, 0.5):
            method.follow({"text": loss})
    assert (slowed.factors["text"], stopped.factors["text"]) == (1.0, 0.0)


def test_each_modality_has_a_count_of_its_own():
    method = method_for(toy_model("concat"), "modality_lr", patience=1)
    for text, audio in ((1.0, 1.0), (0.9, 1.1)):
        method.follow({"text": text, "audio": audio})
    assert method.factors == {"text": 1.0, "audio": 0.0}


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_what_only_memorises_is_stopped_while_what_informs_goes_on(optimizer):
    """Audio is noise, so that its head overfits at once; from then on its encoder is the same bit for bit."""
    train, valid = (planted_batch({"text": 3.0, "audio": 0.0}, n, seed=s) for n, s in ((32, 1), (200, 2)))
    model = toy_model("concat", "classification", NAMES[:2])
    method = method_for(model, "modality_lr", patience=2)
    seen = []

    def keep(epoch):
        weights = {name: weights_of(model, name) for name in NAMES[:2]}
        seen.append((dict(method.factors), weights))

    rate = 0.2 if optimizer is torch.optim.SGD else 0.01
    balanced_steps(model, method, [train] * 4, epochs=12, optimizer=optimizer, rate=rate, valid=[valid], after=keep)
    stop = next(epoch for epoch, (factors, _) in enumerate(seen) if factors["audio"] == 0)
    assert stop < 11
    assert seen[stop][0]["text"] == 1.0
    assert not torch.equal(seen[0][1]["audio"], seen[stop][1]["audio"])
    assert torch.equal(seen[stop][1]["audio"], seen[-1][1]["audio"])
    assert not torch.equal(seen[stop][1]["text"], seen[stop + 1][1]["text"])


def test_the_validation_loss_is_that_of_the_head_over_all_utterances_that_have_the_modality():
    model, method = toy_model("concat"), None
    method = method_for(model, "modality_lr")
    first, second = toy_batch(n=12, seed=1), toy_batch(n=7, seed=2)
    balanced_steps(model, method, [toy_batch()], rate=0.0, valid=[first, second])
    with torch.no_grad():
        means = [method.heads.losses(model.network(batch), batch) for batch in (first, second)]
    for name in NAMES:
        counts = [int(batch.present[name].sum()) for batch in (first, second)]
        total = sum(float(mean[name]) * count for mean, count in zip(means, counts, strict=True))
        assert method.history[0]["losses"][name] == pytest.approx(total / sum(counts), rel=1e-5)


def test_a_modality_that_no_validation_utterance_has_keeps_its_rate():
    model = toy_model("concat")
    method = method_for(model, "modality_lr", patience=1)
    batch = toy_batch()
    batch.present["vision"][:] = False
    balanced_steps(model, method, [toy_batch()], epochs=3, rate=0.0, valid=[batch])
    assert set(method.best) == {"text", "audio"}
    assert method.factors == {"text": 0.0, "audio": 0.0}, "nothing is learned at rate 0, so that no loss falls"


# utilisation


@pytest.mark.parametrize(
    ("total", "first", "second"), [(0.8, 0.3, 0.7), (0.8, 0.7, 0.3), (0.8, 0.6, 0.5), (0.5, 0.5, 0.5), (0.4, 0.6, 0.2)]
)
def test_the_rule_of_two_is_that_of_the_gap(total, first, second):
    result = utilisation_factors(total, {"a": first, "b": second}, 0.2, 0.5)
    assert tuple(result.values()) == reference.utilisation_of_two(total, first, second, 0.2, 0.5)


def test_of_several_all_that_are_far_ahead_are_slowed():
    result = utilisation_factors(0.8, {"a": 0.2, "b": 0.2, "c": 0.8, "d": 0.8}, 0.2, 0.5)
    assert result == {"a": 0.5, "b": 0.5, "c": 1.0, "d": 1.0}


def test_where_nothing_is_right_or_nothing_is_compared_rates_stay():
    assert utilisation_factors(0.0, {"a": 0.5, "b": 0.0}, 0.2, 0.5) == {"a": 1.0, "b": 1.0}
    assert utilisation_factors(0.8, {"a": 0.1}, 0.2, 0.5) == {"a": 1.0}


def test_the_accuracy_of_classes_is_the_usual_one():
    probabilities = torch.rand(2, 40, 3).softmax(2)
    labels = torch.randint(3, (40,))
    result = accuracy(probabilities, torch.eye(3)[labels])
    assert result.tolist() == pytest.approx([reference.accuracy(p.tolist(), labels.tolist()) for p in probabilities])


def test_a_score_between_two_classes_is_partly_right_for_either():
    membership = Task.regression(("a", "b"), -3, 3).membership(torch.tensor([0.25]))
    chosen = torch.eye(7)
    assert [accuracy(chosen[k : k + 1], membership).item() for k in (3, 4, 5)] == [0.75, 0.25, 0.0]


def test_a_run_measures_the_accuracies_that_its_factors_come_from(score_table):
    prepared = fitted(score_table, "modality_lr", rule="utilisation", tau=0.0)[0]
    for row in prepared.balancing.history:
        assert set(row["accuracies"]) == {"all", *NAMES}
        assert all(0 <= value <= 1 for value in row["accuracies"].values())
        without = {name: row["accuracies"][name] for name in NAMES}
        assert row["factors"] == utilisation_factors(row["accuracies"]["all"], without, 0.0, 0.5)


def test_what_is_ahead_learns_at_half_its_rate():
    """Without text nothing is right on validation, and without the others all is."""
    right, wrong = torch.eye(7).expand(5, 7, 7).flatten(0, 1), torch.eye(7).roll(1, 0).expand(5, 7, 7).flatten(0, 1)
    predictions = SimpleNamespace(probabilities=torch.stack([right, wrong, right, right]), membership=right)
    moved = {}
    for tau in (0.2, 2.0):
        model = toy_model("concat")
        method = method_for(model, "modality_lr", rule="utilisation", tau=tau)
        before = {}

        def measure(epoch, method=method, model=model, before=before):
            method.update_mixture(predictions)
            method.on_train_epoch_end(trainer_of(None), None)
            before |= {name: weights_of(model, name) for name in NAMES}

        balanced_steps(model, method, [toy_batch()], rate=0.0, after=measure)
        balanced_steps(model, method, [toy_batch()], rate=0.1)
        moved[tau] = {name: weights_of(model, name) - before[name] for name in NAMES}
    for name, factor in (("text", 0.5), ("audio", 1.0), ("vision", 1.0)):
        assert moved[2.0][name].abs().max() > 1e-4
        assert torch.allclose(moved[0.2][name], factor * moved[2.0][name], atol=1e-6)


def test_utilisation_adds_no_head_and_takes_a_model_without_vectors():
    model = toy_model("ef_lstm")
    method = method_for(model, "modality_lr", rule="utilisation")
    assert method.auxiliary_heads is None
    assert len(method.coalitions) == 4


# runs


@each_rule
def test_one_modality_is_left_alone(rule, score_table):
    after = fitted(score_table, "modality_lr", modalities=["text"], rule=rule)[1]
    assert torch.equal(after, fitted(score_table, "none", modalities=["text"])[1])


@each_rule
def test_a_run_that_is_cut_short_ends_where_the_other_one_does(rule, score_table, tmp_path, monkeypatch):
    options = {"rule": rule, "patience": 1, "tau": 0.0}
    cut, whole = cut_and_whole(score_table, tmp_path, monkeypatch, "modality_lr", **options)
    assert all(torch.equal(cut[key], whole[key]) for key in whole)


def test_a_patience_that_never_ends_is_the_plain_sum_of_losses():
    first, second = toy_model("concat"), toy_model("concat")
    batch = toy_batch()
    balanced_steps(first, method_for(first, "modality_lr", patience=99), [batch], epochs=3, valid=[batch])
    balanced_steps(second, method_for(second, "multi_head"), [batch], epochs=3)
    assert torch.equal(parameters_of(first), parameters_of(second))


def test_heads_without_vectors_are_refused():
    model = toy_model("ef_lstm")
    with pytest.raises(PaSEError, match="has no vectors"):
        build_balancing({"name": "modality_lr"}).prepare(Preparation(model.task, model, None, None, None))


def test_a_decay_of_one_is_refused_by_name(score_table):
    config = dataclasses.replace(config_of("none"), balancing={"name": "modality_lr", "decay": 1.0})
    with pytest.raises(PaSEError, match=r"balancing.decay is a number in \[0, 1\)"):
        prepare(config, score_table)
