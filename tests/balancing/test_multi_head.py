"""The control: the sum of losses, and a factor on the encoders alone."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.balancing.base import Preparation
from pase_msa.errors import PaSEError
from pase_msa.training.run import build_balancing, prepare
from tests.balancing.steps import (
    balanced_steps,
    cut_and_whole,
    method_for,
    module_of,
    planted_batch,
    right_alone,
    trainer_of,
)
from tests.balancing.test_baselines import config_of, fitted
from tests.reference import multi_head as reference
from tests.toys import NAMES, parameters_of, toy_batch, toy_model


def flat(parameters):
    return torch.cat([p.detach().flatten() for p in parameters])


def moved(method_options, rate=0.01, optimizer=torch.optim.SGD):
    """How far one step moves each encoder, and the fusion with the head."""
    model = toy_model("concat")
    parts = {name: model.modality_parameters(name) for name in NAMES}
    parts["rest"] = [*model.fusion.parameters(), *model.head.parameters()]
    before = {name: flat(part) for name, part in parts.items()}
    balanced_steps(
        model, method_for(model, "multi_head", **method_options), [toy_batch()], optimizer=optimizer, rate=rate
    )
    return {name: flat(part) - before[name] for name, part in parts.items()}


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_the_loss_is_the_models_and_that_of_each_head(kind):
    model, batch = toy_model("concat", kind), toy_batch(kind)
    method = method_for(model, "multi_head", weight=0.5)
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    result = method.reweight(losses, outputs, batch, None)
    assert set(result) == {*losses, *(f"alone/{name}" for name in NAMES)}
    assert all(result[name] is value for name, value in losses.items())
    membership = model.task.membership(batch.labels).tolist()
    for name in NAMES:
        head = method.heads.linear[name]
        naive = reference.head_loss(
            outputs.vectors[name].tolist(),
            head.weight.tolist(),
            head.bias.tolist(),
            membership,
            batch.present[name].tolist(),
            model.task.values,
            batch.labels.tolist(),
        )
        assert result[f"alone/{name}"].item() == pytest.approx(0.5 * naive, rel=1e-5)


def test_a_factor_on_gradients_is_what_the_benchmark_calls_mmpareto():
    model, batch = toy_model("concat"), toy_batch()
    method = method_for(model, "multi_head", factor=3.0, apply_to="gradient")
    module = module_of(model, method)
    parts = []
    for which in ("joint", "alone"):
        outputs = model(batch)
        losses = method.reweight(model.losses(outputs, batch), outputs, batch, module)
        chosen = [value for key, value in losses.items() if key.startswith("alone/") == (which == "alone")]
        module.zero_grad()
        torch.stack(chosen).sum().backward()
        parts.append(flat([p.grad for p in model.modality_parameters("text")]).numpy())
    outputs = model(batch)
    losses = method.reweight(model.losses(outputs, batch), outputs, batch, module)
    module.zero_grad()
    method.backward(losses, module)
    method.on_before_optimizer_step(trainer_of(None), module, None)
    result = flat([p.grad for p in model.modality_parameters("text")]).numpy()
    assert np.allclose(result, reference.benchmark_gradient(*parts), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("apply_to", ["learning_rate", "gradient"])
def test_a_factor_speeds_up_the_encoders_and_nothing_else(apply_to):
    plain, fast = moved({}), moved({"factor": 3.0, "apply_to": apply_to})
    assert torch.equal(plain["rest"], fast["rest"])
    for name in NAMES:
        assert plain[name].abs().max() > 1e-4
        assert torch.allclose(fast[name], 3 * plain[name], atol=1e-6)


def test_adam_undoes_a_factor_on_gradients_and_keeps_one_on_rates():
    plain = moved({}, optimizer=torch.optim.Adam)["text"].abs().mean()
    gradient = moved({"factor": 3.0, "apply_to": "gradient"}, optimizer=torch.optim.Adam)["text"].abs().mean()
    rates = moved({"factor": 3.0}, optimizer=torch.optim.Adam)["text"].abs().mean()
    assert gradient / plain == pytest.approx(1, rel=0.05)
    assert rates / plain == pytest.approx(3, rel=0.05)


def test_a_head_learns_from_the_utterances_that_have_its_modality():
    model, batch = toy_model("concat"), toy_batch()
    method = method_for(model, "multi_head")
    outputs = model(batch)
    vectors = {name: vector.detach().requires_grad_() for name, vector in outputs.vectors.items()}
    outputs = dataclasses.replace(outputs, vectors=vectors)
    method.heads.losses(outputs, batch)["vision"].backward()
    assert not vectors["vision"].grad[0].any(), "vision is absent in row 0"
    assert vectors["vision"].grad[1:].any(1).all()


def test_heads_without_weight_leave_the_model_as_it_would_be():
    first, second = toy_model("concat"), toy_model("concat")
    balanced_steps(first, method_for(first, "multi_head", weight=0.0), [toy_batch()], epochs=3)
    balanced_steps(second, method_for(second, "none"), [toy_batch()], epochs=3)
    assert torch.equal(parameters_of(first), parameters_of(second))


def test_the_heads_teach_an_encoder_that_the_fusion_leaves_behind():
    """Audio is faint beside text; how well a head that is fitted to its vectors afterwards would do."""
    train, new = (planted_batch({"text": 6.0, "audio": 1.5}, n, seed=s) for n, s in ((48, 1), (300, 2)))
    result = {}
    for name in ("none", "multi_head"):
        right = []
        for seed in range(2):
            model = toy_model("concat", "classification", NAMES[:2], seed=seed)
            balanced_steps(model, method_for(model, name), [train], epochs=25)
            right.append(right_alone(model, "audio", train, new))
        result[name] = np.mean(right)
    assert result["multi_head"] > result["none"] + 0.02


@pytest.mark.parametrize("apply_to", ["learning_rate", "gradient"])
def test_one_modality_is_left_alone(apply_to, score_table):
    after = fitted(score_table, "multi_head", modalities=["text"], factor=3.0, apply_to=apply_to)[1]
    assert torch.equal(after, fitted(score_table, "none", modalities=["text"])[1])


def test_a_run_that_is_cut_short_ends_where_the_other_one_does(score_table, tmp_path, monkeypatch):
    cut, whole = cut_and_whole(score_table, tmp_path, monkeypatch, "multi_head", factor=3.0)
    assert all(torch.equal(cut[key], whole[key]) for key in whole)


def test_a_model_without_vectors_is_refused():
    model = toy_model("ef_lstm")
    with pytest.raises(PaSEError, match="has no vectors"):
        build_balancing({"name": "multi_head"}).prepare(Preparation(model.task, model, None, None, None))


def test_a_factor_of_zero_is_refused_by_name(score_table):
    config = dataclasses.replace(config_of("none"), balancing={"name": "multi_head", "factor": 0})
    with pytest.raises(PaSEError, match=r"balancing.factor is a number above 0"):
        prepare(config, score_table)
