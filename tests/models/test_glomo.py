"""GLoMo: its pooling, experts and gates against naive loops, what stretches are for, and what the balance does."""

import numpy as np
import pytest
import torch

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.layout import max_pool
from pase_msa.errors import PaSEError
from pase_msa.models.base import build_model
from pase_msa.models.glomo import ModalityGate, SparseExperts, load_probability, squared_variation, top_gates
from pase_msa.task import Task
from tests.reference import glomo
from tests.toys import NAMES, toy_batch, toy_model


def numbers(module):
    return module.weight.detach().double().numpy(), module.bias.detach().double().numpy()


@pytest.mark.parametrize("stretches", [1, 2, 3, 5])
def test_pooling_is_that_of_a_naive_loop_over_an_utterances_own_frames(stretches):
    frames, lengths = torch.randn(5, 7, 2), torch.tensor([7, 4, 3, 1, 2])
    found = max_pool(frames, lengths, stretches)
    for row, length in enumerate(lengths.tolist()):
        np.testing.assert_allclose(found[row], glomo.max_pool(frames[row].numpy(), length, stretches))


def test_pooling_of_nothing_is_zero():
    assert max_pool(torch.randn(2, 4, 3), torch.tensor([0, 2]), 3)[0].tolist() == [[0.0] * 3] * 3


def test_gates_and_loads_are_those_of_naive_loops():
    clean, noise, scale = torch.randn(6, 4), torch.randn(6, 4), torch.rand(6, 4) + 0.5
    noisy = clean + noise * scale
    for active in (1, 2, 3):
        gates = top_gates(noisy, active)
        np.testing.assert_allclose(gates, glomo.gates(noisy.numpy(), active), atol=1e-6)
        found = load_probability(clean, noisy, scale, active)
        np.testing.assert_allclose(found, glomo.load(clean.numpy(), noisy.numpy(), scale.numpy(), active), atol=1e-6)


def test_the_load_is_the_share_of_new_draws_that_choose_an_expert():
    clean, scale = torch.tensor([[0.3, 0.0, -0.4]]), torch.tensor([[1.0, 0.6, 0.8]])
    noisy = torch.tensor([[0.9, -0.2, 0.1]])
    drawn = noisy.repeat(20000, 1)
    drawn[:, 1] = clean[0, 1] + scale[0, 1] * torch.randn(20000)
    share = float((top_gates(drawn, 2)[:, 1] > 0).float().mean())
    assert float(load_probability(clean, noisy, scale, 2)[0, 1]) == pytest.approx(share, abs=0.02)


def test_the_squared_variation_is_that_of_a_naive_sum():
    assert squared_variation(torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(0.25)
    assert glomo.squared_variation([1.0, 2.0, 3.0]) == pytest.approx(0.25)
    assert squared_variation(torch.tensor([4.0])) == 0


def test_the_mixture_is_linear_in_the_experts():
    """And not the logarithm of a mixture of exponentials, as published."""
    experts, x = SparseExperts(4, 2, 3, 2).eval(), torch.randn(5, 8)
    torch.nn.init.normal_(experts.gate)
    with torch.no_grad():
        mixed, gates, _ = experts(x)
    expected = glomo.gates((x @ experts.gate.detach()).numpy(), 2)
    np.testing.assert_allclose(gates, expected, atol=1e-6)
    weights = [(numbers(expert[0]), numbers(expert[2])) for expert in experts.experts]
    np.testing.assert_allclose(mixed, glomo.mixture(x.numpy(), expected, weights), atol=1e-5)


def test_weights_of_modalities_are_those_of_a_naive_loop():
    gate, vectors = ModalityGate(3, 4, 0.0), torch.randn(3, 3, 4)
    here = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    with torch.no_grad():
        found = gate(vectors * here.unsqueeze(2), here)
    for row in range(3):
        expected = glomo.weighted(
            vectors[row].numpy(), here[row].numpy(), numbers(gate.score[0]), numbers(gate.score[3])
        )
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_an_absent_modality_has_no_part_in_the_balance():
    model, batch = toy_model("glomo", balance=1.0).eval(), toy_batch(missing=False)
    for experts in model.experts.values():
        torch.nn.init.normal_(experts.gate)
    batch.present["audio"][:6] = False

    def balance():
        return float(model.losses(model(batch), batch)["balance"].detach())

    before = balance()
    batch.features["audio"][:6] += 5.0
    assert balance() == before
    batch.features["audio"][6:] += 5.0
    assert balance() != before


def test_evaluation_has_no_noise_and_training_has():
    model, batch = toy_model("glomo", gate_dropout=0.0), toy_batch()
    assert torch.equal(model.eval()(batch).logits, model(batch).logits)
    assert not torch.equal(model.train()(batch).logits, model(batch).logits)


def stretch_batch(n=48, frames=15):
    """A short burst in the first, middle or last third of a long sequence, which is the class."""
    labels, features = torch.arange(n) % 3, 0.3 * torch.randn(n, frames, 3)
    begin = labels * (frames // 3) + torch.randint(1, frames // 3 - 2, (n,))
    for row in range(n):
        features[row, begin[row] : begin[row] + 2] += 3.0
    lengths, here = torch.full((n,), frames), torch.ones(n, dtype=torch.bool)
    return Batch({"audio": features}, {"audio": lengths}, {"audio": here}, labels.float())


def accuracy_on_new(name, **options):
    task = Task.classification(("audio",), ("first", "middle", "last"))
    spec = InputSpec(3, options={"hidden": 12, "dropout": 0.0})
    torch.manual_seed(0)
    model = build_model(name, task, {"audio": spec}, {"width": 12, "dropout": 0.0, **options})
    train, new = stretch_batch(), stretch_batch()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(25):
        losses = model.losses(model(train), train)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return float((model.eval()(new).logits.argmax(1) == new.labels).float().mean())


def test_stretches_tell_when_something_short_happened():
    """What one maximum over all frames, or a pooled vector, cannot."""
    small = {"feedforward": 24, "gate_dropout": 0.0}
    assert accuracy_on_new("glomo", stretches=3, **small) > 0.9
    assert accuracy_on_new("glomo", stretches=1, **small) < 0.6
    assert accuracy_on_new("concat") < 0.6


def test_the_balance_spreads_utterances_over_experts():
    """Of a gate that sends all of them to the same ones."""

    def spread(balance):
        model, batch = toy_model("glomo", modalities=NAMES[:1], balance=balance), toy_batch(modalities=NAMES[:1], n=48)
        experts = model.experts[NAMES[0]]
        with torch.no_grad():  # the locals are positive enough that expert 0 always gets the largest logit
            model.encoders[NAMES[0]].output.bias.fill_(2.0)
            experts.gate[:, 0] = 0.3
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(30):
            losses = model.losses(model(batch), batch)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        return float(squared_variation(model.tensors(model(batch))[f"gate/{NAMES[0]}"].sum(0)).detach())

    assert spread(1.0) < 0.1
    assert spread(0.0) > 0.5


@pytest.mark.parametrize(("options", "sentence"), [({"active": 4}, "at most"), ({"heads": 4}, "a multiple of")])
def test_options_that_do_not_fit_are_refused(options, sentence):
    with pytest.raises(PaSEError, match=sentence):
        toy_model("glomo", **options)


def test_the_global_vector_of_a_single_frame_is_each_of_its_locals():
    model = toy_model("glomo")
    parts, _ = model.encode_parts(toy_batch())
    vision = parts["vision"]
    assert torch.equal(vision, vision[:, :1].expand_as(vision))
