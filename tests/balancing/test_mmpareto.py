"""MMPareto: against its paper's rule, its laws, and the gradients that a whole step leaves."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.mmpareto import combine, share
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
from tests.reference import mmpareto as reference
from tests.toys import NAMES, parameters_of, toy_batch, toy_model

each_recovery = pytest.mark.parametrize("recovery", ["tensor", "encoder"])


def gradients(seed, opposed):
    """Two gradients of an encoder of two tensors; the second one is about four times as long."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (5,)]
    joint = [torch.randn(shape, generator=generator) for shape in shapes]
    sign = -1.0 if opposed else 1.0
    alone = [3 * (torch.randn(shape, generator=generator) + sign * g) for shape, g in zip(shapes, joint, strict=True)]
    return joint, alone


def dot(one, two):
    return float(sum((a * b).sum() for a, b in zip(one, two, strict=True)))


@each_recovery
@pytest.mark.parametrize("opposed", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_of_an_encoder_is_the_papers(seed, opposed, recovery):
    joint, alone = gradients(seed, opposed)
    result, c, found = combine(joint, alone, 1.5, recovery)
    naive = reference.gradient([g.numpy() for g in joint], [g.numpy() for g in alone], 1.5, recovery)
    assert bool(found) == opposed
    assert (float(c) == 0.5) != opposed
    assert all(np.allclose(a.numpy(), b, atol=2e-3) for a, b in zip(result, naive, strict=True))


def test_opposed_gradients_meet_where_both_losses_fall_alike():
    joint, alone = gradients(3, opposed=True)
    c = share(joint, alone)[0]
    h = [2 * c * a + 2 * (1 - c) * b for a, b in zip(joint, alone, strict=True)]
    least = sum(float((part / 2).square().sum()) for part in h)
    assert dot(h, joint) == pytest.approx(2 * least, rel=1e-3)
    assert dot(h, alone) == pytest.approx(2 * least, rel=1e-3)
    assert least > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_step_makes_neither_loss_worse_where_the_plain_sum_does(seed):
    joint, alone = gradients(seed, opposed=True)
    plain = [a + b for a, b in zip(joint, alone, strict=True)]
    result = combine(joint, alone, 1.0, "encoder")[0]
    assert dot(plain, joint) < 0
    assert dot(result, joint) > 0
    assert dot(result, alone) > 0


@each_recovery
def test_agreeing_gradients_are_added(recovery):
    joint, alone = gradients(0, opposed=False)
    result = combine(joint, alone, 1.0, recovery)[0]
    assert all(torch.equal(h, a + b) for h, a, b in zip(result, joint, alone, strict=True))


def test_no_tensor_is_shorter_than_the_plain_sum():
    joint, alone = gradients(1, opposed=True)
    for h, a, b in zip(combine(joint, alone, 1.0)[0], joint, alone, strict=True):
        assert float(h.norm()) >= float((a + b).norm()) * (1 - 1e-6)


@each_recovery
@pytest.mark.parametrize("which", [0, 1])
def test_where_one_gradient_is_zero_the_other_one_is_taken(which, recovery):
    given = [list(part) for part in gradients(0, opposed=True)]
    given[which] = [torch.zeros_like(g) for g in given[which]]
    result = combine(*given, 1.0, recovery)[0]
    assert all(torch.equal(h, g) for h, g in zip(result, given[1 - which], strict=True))


@each_recovery
def test_what_cancels_is_finite(recovery):
    joint = gradients(0, opposed=True)[0]
    result = combine(joint, [-3 * g for g in joint], 1.5, recovery)[0]
    assert all(h.isfinite().all() and float(h.abs().max()) < 1e-4 for h in result)


def of_losses(model, method, batch, chosen):
    """Gradients of some of the named losses, by parameter, zero where there is none."""
    module = module_of(model, method)
    outputs = model(batch)
    losses = method.reweight(model.losses(outputs, batch), outputs, batch, module)
    module.zero_grad()
    torch.stack([value for name, value in losses.items() if chosen(name)]).sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_leaves_combined_gradients_in_encoders_and_sums_elsewhere(steps):
    """Several steps without zeroing are batches that are accumulated."""
    model, batch = toy_model("concat"), toy_batch()
    method = method_for(model, "mmpareto")
    joint = of_losses(model, method, batch, lambda name: not name.startswith("alone/"))
    alone = {name: of_losses(model, method, batch, lambda key, name=name: key == f"alone/{name}") for name in NAMES}
    module = module_of(model, method)
    module.zero_grad()
    for _ in range(steps):
        outputs = model(batch)
        method.backward(method.reweight(model.losses(outputs, batch), outputs, batch, module), module)
    owner = {id(p): name for name in NAMES for p in model.modality_parameters(name)}
    expected = {}
    for modality in NAMES:
        keys = [key for key, p in module.named_parameters() if owner.get(id(p)) == modality]
        parts = ([source[key].numpy() for key in keys] for source in (joint, alone[modality]))
        expected |= dict(zip(keys, reference.gradient(*parts, 1.5, "tensor"), strict=True))
    for key, parameter in module.named_parameters():
        plain = sum((alone[name][key] for name in NAMES), joint[key])
        wanted = torch.as_tensor(expected.get(key, plain), dtype=torch.float32)
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(found, steps * wanted, atol=2e-3, rtol=1e-3), key


def test_no_two_parameters_share_a_gradient():
    model, batch = toy_model("concat"), toy_batch()
    method = method_for(model, "mmpareto")
    module = balanced_steps(model, method, [batch])
    places = [p.grad.data_ptr() for p in module.parameters() if p.grad is not None and p.numel()]
    assert len(set(places)) == len(places)


def test_an_epoch_counts_how_often_gradients_opposed_each_other():
    """In epochs of one step from random heads, where either happens."""
    seen = set()
    for seed in range(4):
        model, batch = toy_model("concat", seed=seed), toy_batch(seed=seed)
        method = method_for(model, "mmpareto")
        joint = of_losses(model, method, batch, lambda name: not name.startswith("alone/"))
        owner = {id(p): name for name in NAMES for p in model.modality_parameters(name)}
        keys = {m: [k for k, p in module_of(model, method).named_parameters() if owner.get(id(p)) == m] for m in NAMES}
        expected = {}
        for name in NAMES:
            own = of_losses(model, method, batch, lambda key, name=name: key == f"alone/{name}")
            expected[name] = float(dot([joint[k] for k in keys[name]], [own[k] for k in keys[name]]) < 0)
        balanced_steps(model, method, [batch])
        assert {name: method.history[-1][f"opposed/{name}"] for name in NAMES} == expected
        seen |= set(expected.values())
    assert seen == {0.0, 1.0}


def test_it_teaches_an_encoder_that_the_fusion_leaves_behind():
    """Audio is faint beside text; what its vectors alone tell of new utterances, of 2 seeds."""
    train, new = (planted_batch({"text": 6.0, "audio": 1.5}, n, seed=s) for n, s in ((48, 1), (300, 2)))
    result = {}
    for name in ("none", "mmpareto"):
        right = []
        for seed in range(2):
            model = toy_model("concat", "classification", NAMES[:2], seed=seed)
            balanced_steps(model, method_for(model, name), [train], epochs=25)
            right.append(right_alone(model, "audio", train, new))
        result[name] = np.mean(right)
    assert result["mmpareto"] > result["none"] + 0.02


def test_it_differs_from_the_plain_sum(score_table):
    result = fitted(score_table, "mmpareto", gamma=1.0)[1]
    assert not torch.equal(result, fitted(score_table, "multi_head")[1])


def test_without_a_turned_gradient_it_is_the_plain_sum(monkeypatch):
    """Where the rule is made to see agreement in every step, gamma 1 is the control."""
    monkeypatch.setattr(
        "pase_msa.balancing.mmpareto.share", lambda joint, alone: (torch.tensor(0.5), torch.tensor(False))
    )
    first, second = toy_model("concat"), toy_model("concat")
    balanced_steps(first, method_for(first, "mmpareto", gamma=1.0), [toy_batch()], epochs=4)
    balanced_steps(second, method_for(second, "multi_head"), [toy_batch()], epochs=4)
    assert torch.allclose(parameters_of(first), parameters_of(second), atol=1e-5)


def test_one_modality_is_left_alone(score_table):
    after = fitted(score_table, "mmpareto", modalities=["text"])[1]
    assert torch.equal(after, fitted(score_table, "none", modalities=["text"])[1])


def test_a_run_that_is_cut_short_ends_where_the_other_one_does(score_table, tmp_path, monkeypatch):
    cut, whole = cut_and_whole(score_table, tmp_path, monkeypatch, "mmpareto")
    assert all(torch.equal(cut[key], whole[key]) for key in whole)


def test_several_processes_are_refused():
    model = toy_model("concat")
    method = method_for(model, "mmpareto")
    with pytest.raises(PaSEError, match="trains in one process, found 2"):
        method.on_fit_start(trainer_of(None, world_size=2), module_of(model, method))


def test_a_model_without_vectors_is_refused():
    model = toy_model("ef_lstm")
    with pytest.raises(PaSEError, match="has no vectors"):
        build_balancing({"name": "mmpareto"}).prepare(Preparation(model.task, model, None, None, None))


def test_a_gamma_of_zero_is_refused_by_name(score_table):
    config = dataclasses.replace(config_of("none"), balancing={"name": "mmpareto", "gamma": 0})
    with pytest.raises(PaSEError, match=r"balancing.gamma is a number above 0"):
        prepare(config, score_table)
