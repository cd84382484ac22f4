"""OGM-GE, AGM and gradient blending: against their papers' formulas, and laws."""

import dataclasses
import math
from functools import lru_cache

import numpy as np
import pytest
import torch

from pase_msa import plugins
from pase_msa.balancing import agm, gradient_blending, ogm_ge
from pase_msa.balancing.base import LossMeasurement, Preparation
from pase_msa.balancing.responses import responses
from pase_msa.errors import PaSEError
from pase_msa.shapley import attribution
from pase_msa.training.config import TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare, train
from tests.balancing.steps import config_of, fitted
from tests.reference import baselines
from tests.toys import NAMES, parameters_of, toy_batch, toy_model

METHODS = ("ogm_ge", "agm", "gradient_blending")
MODELS = plugins.names("models")


@lru_cache
def unbalanced(table, model):
    return fitted(table, "none", model)[1]


# what goes together


def pairs():
    """Every method with every model; the quick suite has each model with one of them."""
    for i, model in enumerate(MODELS):
        for j, method in enumerate(METHODS):
            later = [] if i % len(METHODS) == j else [pytest.mark.slow]
            yield pytest.param(method, model, marks=later, id=f"{method}-{model}")


@pytest.mark.parametrize(("method", "model"), list(pairs()))
def test_every_method_trains_every_model_or_refuses_in_a_sentence(method, model, score_table):
    without_vectors = {
        "ef_lstm": "EarlyFusionLSTM",
        "mult": "MulT",
        "mag_bert": "MAGBERT",
        "mctn": "MCTN",
        "glomo": "GLoMo",
        "semi_iin": "SemiIIN",
    }
    if method == "gradient_blending" and model in without_vectors:
        with pytest.raises(PaSEError, match=f"{without_vectors[model]} has no vectors"):
            prepare(config_of(method, model), score_table)
        return
    prepared, after = fitted(score_table, method, model)
    assert after.isfinite().all()
    assert not torch.equal(after, unbalanced(score_table, model)), "it does something"
    assert [row["epoch"] for row in prepared.balancing.history] == [0, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("modalities", [["text"], ["text", "vision"]])
def test_one_modality_is_left_alone_and_two_will_do(method, modalities, score_table):
    after = fitted(score_table, method, modalities=modalities)[1]
    assert torch.equal(after, fitted(score_table, "none", modalities=modalities)[1]) == (len(modalities) == 1)


@pytest.mark.parametrize("options", [("ogm_ge", {}), ("agm", {}), ("gradient_blending", {"estimate": "online"})])
def test_a_run_that_is_cut_short_ends_where_the_other_one_does(options, score_table, tmp_path, monkeypatch):
    """The first of the runs dies at the beginning of its last epoch, and is given again."""
    method, more = options
    training = {"epochs": 3, "batch_size": 24, "accelerator": "cpu", "learning_rate": 0.01}

    def config(out):
        whole = config_of(method, **({"every": 1} | more if more else {}))
        return dataclasses.replace(whole, out=str(out), training=TrainingConfig(**training))

    whole = train(config(tmp_path / "whole"), progress=False, table=score_table)
    kind = type(prepare(config(None), score_table).balancing)

    def die(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise RuntimeError("cut short")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "on_train_epoch_start", die)
        with pytest.raises(RuntimeError, match="cut short"):
            train(config(tmp_path / "cut"), progress=False, table=score_table)
    cut = train(config(tmp_path / "cut"), progress=False, table=score_table)
    for name in ("last", "best"):
        one, two = (torch.load(getattr(run, name), weights_only=False)["state_dict"] for run in (whole, cut))
        assert all(torch.equal(one[key], two[key]) for key in one), name


# OGM-GE


def test_ogm_is_the_papers_for_two_modalities_and_classes():
    a, b = torch.rand(30), torch.rand(30) * 0.6
    ratios = ogm_ge.discrepancy_ratios({"a": float(a.mean()), "b": float(b.mean())})
    result = ogm_ge.coefficients(ratios, 0.4)
    assert np.allclose([result["a"], result["b"]], baselines.ogm_coefficients(a.numpy(), b.numpy(), 0.4), rtol=1e-5)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_ogm_leaves_balanced_modalities_alone(k):
    ratios = ogm_ge.discrepancy_ratios({f"m{i}": 0.3 for i in range(k)})
    assert ratios == pytest.approx(dict.fromkeys(ratios, 1.0))
    assert set(ogm_ge.coefficients({name: min(rho, 1.0) for name, rho in ratios.items()}, 0.5).values()) == {1.0}


def test_ogm_slows_only_what_is_ahead_and_the_more_the_further_it_is():
    result = ogm_ge.coefficients(ogm_ge.discrepancy_ratios({"a": 0.6, "b": 0.4, "c": 0.1}), 0.3)
    assert result["a"] < result["b"] < result["c"] == 1.0


def test_a_score_of_zero_is_no_division_by_zero():
    result = ogm_ge.coefficients(ogm_ge.discrepancy_ratios({"a": 0.5, "b": 0.0}), 0.3)
    assert result["b"] == 1.0
    assert 0 <= result["a"] < 1


def test_ogm_without_noise_and_strength_changes_nothing(score_table):
    result = fitted(score_table, "ogm_ge", alpha=0.0, noise="none")[1]
    assert torch.equal(result, fitted(score_table, "none")[1])
    # nothing is slowed, so that nothing gets noise
    assert torch.equal(result, fitted(score_table, "ogm_ge", alpha=0.0, noise="slowed")[1])
    assert not torch.equal(result, fitted(score_table, "ogm_ge", alpha=0.0, noise="all")[1])


def test_the_noise_has_the_spread_of_the_gradient():
    gradient = torch.randn(400, 300) * 0.2 + 0.05
    plain = gradient.clone()
    ogm_ge.edit(gradient, 0.5, torch.Generator().manual_seed(5))
    noise = gradient - 0.5 * plain
    assert noise.std().item() == pytest.approx(plain.std().item(), rel=0.02)
    assert abs(noise.mean().item()) < 0.003
    assert abs(np.corrcoef(noise.flatten(), plain.flatten())[0, 1]) < 0.02


def test_ogm_logs_what_it_did(score_table):
    log = fitted(score_table, "ogm_ge")[0].balancing.log_values()
    assert set(log) == {f"{what}/{name}" for what in ("rho", "k") for name in NAMES}
    assert all(0 < log[f"k/{name}"] <= 1 for name in NAMES)
    assert max(log[f"rho/{name}"] for name in NAMES) > 1


# AGM


@pytest.mark.parametrize("k", [2, 3, 4])
def test_mono_modal_responses_are_shapley_values_of_the_logits_and_sum_to_them(k):
    players = tuple("abcd"[:k])
    coalitions, matrix = attribution(players)
    logits = torch.randn(len(coalitions) - 1, 5, 3, dtype=torch.float64)
    result = agm.mono_modal_responses(logits, torch.as_tensor(matrix[:, 1:]))
    naive = baselines.mono_modal_responses(
        {coalition: value.numpy() for coalition, value in zip(coalitions[1:], logits, strict=True)}, players
    )
    assert np.allclose(result.numpy(), np.stack([naive[player] for player in players]))
    assert torch.allclose(result.sum(0), logits[-1])


def test_agm_is_the_papers():
    steps = [{"a": -0.5, "b": -1.0, "c": -1.2}, {"a": -0.3, "b": -1.1, "c": -0.9}, {"a": -0.2, "b": -0.6, "c": -1.3}]
    history = {name: [step[name] for step in steps] for name in "abc"}
    means = {name: float(np.mean(values)) for name, values in history.items()}
    result = agm.coefficients(steps[-1], means, 0.7)
    assert result == pytest.approx(baselines.agm_coefficients(steps[-1], history, 0.7))


def test_agm_leaves_alone_what_is_as_far_ahead_as_ever():
    scores = {"a": -0.2, "b": -1.4}
    assert agm.coefficients(scores, scores, 1.0) == {"a": 1.0, "b": 1.0}
    assert agm.coefficients({"a": -0.1, "b": -1.4}, scores, 0.0) == {"a": 1.0, "b": 1.0}


def test_agm_slows_what_pulls_ahead_and_speeds_up_what_falls_behind():
    result = agm.coefficients({"a": -0.1, "b": -1.5}, {"a": -0.5, "b": -1.0}, 1.0)
    assert result["a"] < 1 < result["b"]


def test_agm_is_finite_whatever_the_scores():
    result = agm.coefficients({"a": -900.0, "b": 0.0}, {"a": 0.0, "b": -900.0}, 5.0)
    assert all(math.isfinite(value) and value > 0 for value in result.values())


def test_agm_keeps_running_means_of_every_step(score_table):
    method = fitted(score_table, "agm")[0].balancing
    steps = set(method.state_dict()["steps"].values())
    assert steps == {4}  # two epochs of two batches
    assert set(method.reference) == set(NAMES)
    for name in NAMES:
        scores = [row[f"score/{name}"] for row in method.history]
        assert method.reference[name] == pytest.approx(np.mean(scores))


# what a network predicts from some modalities


@pytest.mark.parametrize("model", ["pase", "concat", "ef_lstm"])
def test_responses_have_no_dropout_no_gradient_and_leave_the_model_as_it_was(model):
    made = toy_model(model).train()
    made.head.eval()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    singles = [frozenset([name]) for name in NAMES]
    result = responses(made, toy_batch(), singles)
    assert not result.requires_grad
    assert made.training
    assert made.encoders.training
    assert not made.head.training
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
    made.eval()
    expected = torch.stack([outputs.logits for outputs in made.network_coalitions(toy_batch(), singles)])
    assert torch.equal(result, expected)


# gradient blending


def ends(train_before, valid_before, train_after, valid_after):
    names = [f"m{i}" for i in range(len(train_before))]
    return tuple(
        {name: LossMeasurement(float(t), float(v)) for name, t, v in zip(names, *pair, strict=True)}
        for pair in ((train_before, valid_before), (train_after, valid_after))
    )


def test_the_blend_is_the_papers_where_heads_generalise_and_overfit():
    before, after = np.array([1.9, 1.8, 2.0]), np.array([1.0, 1.4, 0.9])
    valid_before, valid_after = np.array([1.95, 1.85, 2.0]), np.array([1.3, 1.6, 1.5])
    result = gradient_blending.blend_weights(*ends(before, valid_before, after, valid_after))
    assert np.allclose(list(result.values()), baselines.blend(before, valid_before, after, valid_after))


@pytest.mark.parametrize("seed", range(5))
def test_blending_weights_sum_to_one_and_are_positive(seed):
    losses = np.random.default_rng(seed).normal(1, 1, size=(4, 4))
    result = gradient_blending.blend_weights(*ends(*losses))
    assert sum(result.values()) == pytest.approx(1)
    assert all(value > 0 for value in result.values())


def test_blending_weights_do_not_depend_on_the_unit_of_the_loss():
    losses = np.array([[2.0, 2.0], [2.1, 2.0], [1.0, 1.5], [1.6, 1.7]])
    assert gradient_blending.blend_weights(*ends(*(5 * losses))) == pytest.approx(
        gradient_blending.blend_weights(*ends(*losses))
    )


def test_what_overfits_counts_less_and_equals_count_the_same():
    result = gradient_blending.blend_weights(*ends([2, 2, 2], [2, 2, 2], [1.2, 0.5, 1.2], [1.5, 1.5, 1.5]))
    assert result["m1"] < result["m0"] == pytest.approx(result["m2"])


def test_where_nothing_generalises_weights_are_equal():
    result = gradient_blending.blend_weights(*ends([2, 2], [2, 2], [1, 1.5], [2.2, 2.1]))
    assert result == {"m0": 0.5, "m1": 0.5}


def test_neither_a_head_that_gets_worse_nor_one_that_does_not_overfit_has_all_the_weight():
    result = gradient_blending.blend_weights(*ends([2, 2, 2], [2, 2, 2], [1.0, 1.5, 1.0], [2.5, 1.5, 1.4]))
    assert 0 < result["m0"] < 0.01
    assert result["m2"] > 0


def test_the_runs_beforehand_are_of_each_modality_and_of_all(score_table):
    prepared = prepare(config_of("gradient_blending", start="never"), score_table)
    method, seen = prepared.balancing, {}

    def run(coalition, epochs):
        seen[coalition] = epochs
        worth = 0.1 * len(seen)
        return LossMeasurement(2.0, 2.0), LossMeasurement(1.5 - worth, 1.9 - worth)

    method.prepare(Preparation(prepared.task, prepared.model, None, run, None))
    assert set(seen) == {*(frozenset([name]) for name in NAMES), frozenset(NAMES)}
    # all overfit by the same, so that the weights are as the gains: .2, .3, .4 and .5
    assert list(method.weights.values()) == pytest.approx(np.array([2, 3, 4, 5]) / 14)


def test_weights_of_runs_beforehand_are_reproducible(score_table):
    config = config_of("gradient_blending", epochs=1)
    weights = prepare(config, score_table).balancing.weights
    assert sum(weights.values()) == pytest.approx(1)
    assert len(set(weights.values())) == len(NAMES) + 1
    assert prepare(config, score_table).balancing.weights == weights, "a resumed run finds the same"


def test_the_loss_is_the_blend_of_the_models_own_and_of_each_head(score_table):
    prepared = prepare(config_of("gradient_blending", estimate="online"), score_table)
    method, model, batch = prepared.balancing, prepared.model.eval(), toy_batch()
    method.weights = {"text": 0.1, "audio": 0.2, "vision": 0.3, "+": 0.4}
    outputs = model.network(batch)
    losses = model.losses(outputs, batch)
    result = {name: value.detach() for name, value in method.reweight(losses, outputs, batch, None).items()}
    assert set(result) == {*losses, *(f"alone/{name}" for name in NAMES)}
    for name, value in losses.items():
        assert float(result[name]) == pytest.approx(0.4 * float(value.detach()))
    linear = method.auxiliary_heads.linear["vision"]
    here = batch.present["vision"]
    logits = linear(outputs.vectors["vision"][here])
    task, labels = prepared.task, batch.labels[here]
    cross = -(task.membership(labels) * logits.log_softmax(1)).sum(1).mean()
    error = (task.score(logits.softmax(1)) - labels).abs().mean()
    assert float(result["alone/vision"]) == pytest.approx(0.3 * float((cross + error).detach()), rel=1e-5)


def test_the_heads_learn_and_are_not_part_of_the_saved_model(score_table, tmp_path):
    prepared = prepare(config_of("gradient_blending", estimate="online"), score_table)
    before = parameters_of(prepared.balancing.auxiliary_heads).clone()
    fit(config_of("gradient_blending", estimate="online"), prepared, None, progress=False)
    assert not torch.equal(before, parameters_of(prepared.balancing.auxiliary_heads))
    assert not any("auxiliary_heads" in name for name in prepared.model.state_dict())


def test_online_weights_are_estimated_again_and_again(score_table):
    config = config_of("gradient_blending", estimate="online", every=1)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=4, patience=9))
    prepared = prepare(config, score_table)
    fit(config, prepared, None, progress=False)
    weights = [tuple(row["weights"].values()) for row in prepared.balancing.history]
    assert weights[0] == (0.25,) * 4, "one measurement is no stretch"
    assert len(set(weights)) == 4
    assert all(sum(row) == pytest.approx(1) for row in weights)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "ogm_ge", "alpha": -1}, "balancing.alpha is a number 0 or more"),
        ({"name": "agm", "alpha": -1}, "balancing.alpha is a number 0 or more"),
        ({"name": "gradient_blending", "every": 0}, "balancing.every is a whole number"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, words, score_table):
    config = dataclasses.replace(config_of("none"), balancing=options)
    with pytest.raises(PaSEError, match=words):
        prepare(config, score_table)
