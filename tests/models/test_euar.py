"""EUAR: experts, gates and losses against naive loops, sampling, and where uncertainty sends an utterance."""

import math

import numpy as np
import pytest
import torch

from pase_msa.errors import PaSEError
from pase_msa.models.euar import GaussianExperts, expert_balance, standard_normal_divergence
from tests.reference import euar
from tests.toys import NAMES, toy_batch, toy_model


def made(width=3, count=4, active=3, seed=0):
    torch.manual_seed(seed)
    return GaussianExperts(width, count, active)


def weights_of(layer):
    found = {}
    for name in ("mean", "log_variance", "gate"):
        part = getattr(layer, name)
        found |= {name: part.weight.detach().numpy(), f"{name}_bias": part.bias.detach().numpy()}
    return found


@pytest.mark.parametrize(("count", "active"), [(4, 3), (4, 1), (3, 3), (1, 1)])
def test_experts_and_gates_are_those_of_naive_loops(count, active):
    layer, vectors = made(count=count, active=active).eval(), torch.randn(5, 3)
    weights = weights_of(layer)
    with torch.no_grad():
        output, parts = layer(vectors)
    for row, vector in enumerate(vectors.numpy()):
        means, logs = euar.experts(vector, weights, count)
        probability, gate = euar.gates((weights["gate"] @ vector + weights["gate_bias"]).tolist(), active)
        found = {"mean": means, "log_variance": logs, "probability": probability, "gate": gate}
        for name, expected in found.items():
            np.testing.assert_allclose(parts[name][row].numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(output[row].numpy(), euar.mixture(means, gate), atol=1e-5)


def test_the_losses_are_those_of_naive_loops_over_the_utterances_that_have_the_modality():
    weights = {"kl": 0.3, "balance": 0.2, "uncertainty": 0.7}
    model, batch = toy_model("euar", **weights).eval(), toy_batch()
    outputs = model(batch)
    found, state = model.losses(outputs, batch), model.tensors(outputs)
    expected = dict.fromkeys(weights, 0.0)
    for name in NAMES:
        kept = batch.present[name]
        mean, log, probability, gate = (
            state[f"{key}/{name}"][kept].detach().double().numpy()
            for key in ("mean", "log_variance", "probability", "gate")
        )
        expected["kl"] += euar.divergence(mean, log)
        expected["balance"] += euar.balance(probability, gate)
        expected["uncertainty"] += euar.uncertainty(gate, log)
    assert not batch.present["vision"].all()
    for key, weight in weights.items():
        assert float(found[key].detach()) == pytest.approx(weight * expected[key], rel=1e-4)


def test_a_modality_that_no_utterance_has_has_no_loss():
    model, batch = toy_model("euar"), toy_batch(missing=False)
    outputs = model(batch.only(["text"]))
    alone, state = model.losses(outputs, batch), model.tensors(outputs)
    expected = standard_normal_divergence(state["mean/text"], state["log_variance/text"])
    torch.testing.assert_close(alone["kl"], 1e-3 * expected)


def test_the_divergence_is_zero_at_the_standard_normal_and_else_its_closed_form():
    assert standard_normal_divergence(torch.zeros(3), torch.zeros(3)) == 0
    found = standard_normal_divergence(torch.tensor([2.0]), torch.tensor([math.log(0.25)]))
    assert float(found) == pytest.approx((4 + 0.25 - 1 - math.log(0.25)) / 2)


def test_the_balance_is_the_number_of_active_experts_if_uniform_and_more_where_all_go_the_same_way():
    probability = torch.full((4, 4), 0.25)
    spread = 1 - torch.eye(4)
    assert float(expert_balance(probability, spread / 3)) == pytest.approx(3)
    same = torch.tensor([[0.9, 0.1, 0.0, 0.0]]).repeat(4, 1)
    assert float(expert_balance(same, torch.eye(4)[[0] * 4])) == pytest.approx(4 * 0.9)


def test_samples_of_training_have_the_mean_and_the_variance_of_the_experts():
    layer, vector = made().train(), torch.randn(1, 3)
    with torch.no_grad():
        drawn, parts = layer(vector.repeat(20_000, 1))
    gate, mean, variance = parts["gate"][0], parts["mean"][0], parts["log_variance"][0].exp()
    torch.testing.assert_close(drawn.mean(0), (gate.unsqueeze(1) * mean).sum(0), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.var(0), (gate.square().unsqueeze(1) * variance).sum(0), rtol=0.05, atol=0)


def test_the_loss_of_uncertainty_sends_utterances_to_the_certain_experts():
    """Variances are fixed, so that nothing but the gate can lower it."""
    layer, vectors = made(count=3, active=3), torch.randn(16, 3)
    with torch.no_grad():
        layer.log_variance.weight.zero_()
        layer.log_variance.bias.copy_(torch.tensor([0.0, -4.0, 0.0]).repeat_interleave(3))
    optimizer = torch.optim.SGD(layer.gate.parameters(), 1.0)
    for _ in range(60):
        parts = layer(vectors)[1]
        loss = (parts["gate"] * parts["log_variance"].exp().mean(2)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (parts["gate"].argmax(1) == 1).all()
    assert parts["gate"][:, 1].mean() > 0.8


@pytest.mark.parametrize("active", [0, 5])
def test_more_active_experts_than_there_are_or_none_are_refused(active):
    with pytest.raises(PaSEError, match=r"model\.active"):
        toy_model("euar", active=active)
