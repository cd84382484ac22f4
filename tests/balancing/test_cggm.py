"""CGGM: against its paper's formulas, its guards, and what happens to the gradient of a modality that lags."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.cggm import coefficients, direction_loss
from pase_msa.errors import PaSEError
from pase_msa.training.run import build_balancing, prepare
from tests.balancing.steps import balanced_steps, cut_and_whole, method_for, module_of, planted_batch, trainer_of
from tests.balancing.test_baselines import config_of, fitted
from tests.reference import cggm as reference
from tests.toys import NAMES, parameters_of, toy_batch, toy_model


def logit_gradients(seed=0, m=3, n=8, k=4):
    generator = torch.Generator().manual_seed(seed)
    alone, fused = torch.randn(m, n, k, generator=generator), torch.randn(n, k, generator=generator)
    present = torch.rand(m, n, generator=generator) > 0.3
    return alone, fused, present


@pytest.mark.parametrize("rises", [[0.1, 0.2], [0.02, 0.5, 0.1], [0.3, 0.3, 0.3, 0.1]])
def test_coefficients_of_rises_are_the_papers(rises):
    result = coefficients(torch.tensor(rises)).tolist()
    assert result == pytest.approx(reference.coefficients(rises), abs=1e-5)
    assert sum(result) == pytest.approx(len(rises) - 1)


@pytest.mark.parametrize("rise", [0.2, 0.0, -0.2])
def test_equal_rises_and_no_rises_have_equal_coefficients(rise):
    assert coefficients(torch.full((3,), rise)).tolist() == pytest.approx([2 / 3] * 3)


def test_what_rises_more_slowly_has_the_larger_coefficient_and_a_fall_is_no_rise():
    result = coefficients(torch.tensor([0.3, 0.1, -0.5])).tolist()
    assert result == pytest.approx([0.25, 0.75, 1.0], abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_direction_term_is_that_of_a_naive_sum_and_not_below_zero(seed):
    alone, fused, present = logit_gradients(seed)
    balance = torch.tensor([0.9, 0.7, 0.4])
    result = float(direction_loss(balance, alone, fused, present))
    naive = reference.direction(balance.tolist(), alone.tolist(), fused.tolist(), present.tolist())
    assert result == pytest.approx(naive, rel=1e-4)
    assert result >= 0


def test_the_direction_term_is_zero_where_all_gradients_point_one_way():
    fused = torch.randn(6, 3)
    alone = torch.stack([2 * fused, 0.5 * fused])
    present = torch.ones(2, 6, dtype=torch.bool)
    assert float(direction_loss(torch.tensor([0.8, 0.2]), alone, fused, present)) == pytest.approx(0, abs=1e-5)


def test_a_modality_that_no_utterance_has_has_no_part_in_the_direction():
    alone, fused, present = logit_gradients()
    present[2] = False
    balance = torch.tensor([0.9, 0.7, 1.0])
    assert float(direction_loss(balance, alone, fused, present)) == pytest.approx(
        float(direction_loss(balance[:2], alone[:2], fused, present[:2]))
    )


def test_running_means_and_coefficients_of_a_series_of_steps():
    method = method_for(toy_model("concat", modalities=NAMES[:2]), "cggm", smoothing=0.5)
    counts = torch.tensor([10.0, 20.0])
    assert method.follow(torch.tensor([2.0, 8.0]), counts).tolist() == pytest.approx([0.5, 0.5]), "nothing rose yet"
    result = method.follow(torch.tensor([6.0, 12.0]), counts)
    assert method.accuracies.tolist() == pytest.approx([0.4, 0.5])
    assert result.tolist() == pytest.approx(reference.coefficients([0.2, 0.1]), abs=1e-5)


def test_a_modality_that_no_utterance_of_a_step_has_keeps_its_accuracy():
    method = method_for(toy_model("concat", modalities=NAMES[:2]), "cggm", smoothing=0.0)
    method.follow(torch.tensor([2.0, 8.0]), torch.tensor([10.0, 20.0]))
    method.follow(torch.tensor([0.0, 9.0]), torch.tensor([0.0, 20.0]))
    assert method.accuracies.tolist() == pytest.approx([0.2, 0.45])


def test_gradients_of_encoders_are_scaled_and_no_others():
    model, batch = toy_model("concat"), toy_batch()
    method = method_for(model, "cggm", rho=1.3, smoothing=0.0)
    module = module_of(model, method)
    method.follow(torch.zeros(3), torch.ones(3))
    outputs = model(batch)
    method.backward(method.reweight(model.losses(outputs, batch), outputs, batch, module), module)
    before = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in before} == {"model", "auxiliary_heads"}
    method.on_before_optimizer_step(trainer_of(None), module, None)
    membership = model.task.membership(batch.labels)
    rises = []
    for name in NAMES:  # from 0 to the mean probability of the truth
        here = batch.present[name]
        p = method.heads.linear[name](outputs.vectors[name]).softmax(1)
        rises.append((p * membership).sum(1)[here].mean().item())
    factors = dict(zip(NAMES, (1.3 * b for b in reference.coefficients(rises)), strict=True))
    owner = {id(p): name for name in NAMES for p in model.modality_parameters(name)}
    for name, gradient in before.items():
        parameter = module.get_parameter(name)
        factor = factors.get(owner.get(id(parameter)), 1.0)
        assert torch.allclose(parameter.grad, factor * gradient, rtol=1e-4), name


def test_the_classifiers_teach_the_encoders_nothing():
    model, batch = toy_model("concat"), toy_batch()
    method = method_for(model, "cggm", direction=0.0)
    module = module_of(model, method)
    outputs = model(batch)
    losses = method.reweight(model.losses(outputs, batch), outputs, batch, module)
    torch.stack([value for name, value in losses.items() if name.startswith("alone/")]).sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters())
    assert all(p.grad.any() for p in method.heads.parameters())


def test_the_direction_term_turns_the_fused_classifier_and_not_the_others():
    model, batch = toy_model("concat"), toy_batch()
    method = method_for(model, "cggm")
    method.follow(torch.zeros(3), torch.ones(3))
    outputs = model(batch)
    losses = method.reweight(model.losses(outputs, batch), outputs, batch, module_of(model, method))
    losses["direction"].backward()
    assert any(p.grad.any() for p in model.head.parameters())
    assert not any(p.grad is not None and p.grad.any() for p in method.heads.parameters())


def test_a_modality_that_lags_has_the_larger_gradients():
    """Text shows the class plainly and audio hardly; the mean of B over the first steps."""
    train = [planted_batch({"text": 5.0, "audio": 0.3}, 48, seed=seed) for seed in range(6)]
    model = toy_model("concat", "classification", NAMES[:2])
    method = method_for(model, "cggm")
    balanced_steps(model, method, train, epochs=4)
    values = method.log_values()
    assert set(values) == {f"{what}/{name}" for what in ("e", "B") for name in NAMES[:2]}
    text, audio = (np.mean([row[f"B/{name}"] for row in method.history]) for name in NAMES[:2])
    assert audio > text + 0.2


def test_without_direction_and_with_equal_rises_only_the_size_of_gradients_changes(monkeypatch):
    monkeypatch.setattr("pase_msa.balancing.cggm.coefficients", lambda rises: torch.full_like(rises, 0.5))
    first, second = toy_model("concat"), toy_model("concat")
    balanced_steps(first, method_for(first, "cggm", rho=2.0, direction=0.0), [toy_batch()], epochs=3)
    balanced_steps(second, method_for(second, "none"), [toy_batch()], epochs=3)
    assert torch.allclose(parameters_of(first), parameters_of(second), atol=1e-6)


def test_one_modality_is_left_alone(score_table):
    after = fitted(score_table, "cggm", modalities=["text"])[1]
    assert torch.equal(after, fitted(score_table, "none", modalities=["text"])[1])


def test_a_run_that_is_cut_short_ends_where_the_other_one_does(score_table, tmp_path, monkeypatch):
    cut, whole = cut_and_whole(score_table, tmp_path, monkeypatch, "cggm")
    assert all(torch.equal(cut[key], whole[key]) for key in whole)


def test_a_model_without_vectors_is_refused():
    model = toy_model("ef_lstm")
    with pytest.raises(PaSEError, match="has no vectors"):
        build_balancing({"name": "cggm"}).prepare(Preparation(model.task, model, None, None, None))


def test_a_smoothing_of_one_is_refused_by_name(score_table):
    config = dataclasses.replace(config_of("none"), balancing={"name": "cggm", "smoothing": 1.0})
    with pytest.raises(PaSEError, match=r"balancing.smoothing is a number in \[0, 1\)"):
        prepare(config, score_table)
