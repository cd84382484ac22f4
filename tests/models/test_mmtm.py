"""Gates between vectors, and their re-balancing: against naive loops, laws, and which branch is cut."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.models import mmtm
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare
from tests.balancing.planted import accuracy, dominated, pair_model
from tests.balancing.steps import config_of
from tests.reference import mmtm as naive
from tests.toys import NAMES, parameters_of, toy_batch, toy_model


def step(model, batch, optimizer):
    """In the order of the training module: gradients are cleared after `update`."""
    outputs = model(batch)
    total = torch.stack(list(model.losses(outputs, batch).values())).sum()
    model.update(outputs, batch)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return outputs


def flat(parameters, gradient=False):
    """Of the parameters that have a gradient: attention over a single step has none."""
    trained = [p for p in parameters if p.grad is not None]
    return [x for p in trained for x in (p.grad if gradient else p).detach().flatten().tolist()]


# the network


def test_gates_are_those_of_a_naive_loop():
    model, batch = toy_model("mmtm").eval(), toy_batch()
    outputs = model(batch)
    squeeze = [p.tolist() for p in model.squeeze[0].parameters()]
    excite = {name: [p.tolist() for p in gate.parameters()] for name, gate in model.gates.items()}
    for n in range(len(batch)):
        vectors = {name: outputs.vectors[name][n].tolist() for name in NAMES}
        expected = naive.gates(vectors, squeeze, excite)
        assert all(np.allclose(outputs.gates[name][n].detach(), expected[name], atol=1e-6) for name in NAMES)


def test_the_logits_are_the_mean_of_the_branches_that_are_there():
    model, batch = toy_model("mmtm").eval(), toy_batch()
    batch.present["text"][1:4] = False
    outputs = model(batch)
    for n in range(len(batch)):
        votes = [
            model.heads[name](outputs.gates[name][n] * outputs.vectors[name][n])
            for name in NAMES
            if batch.present[name][n]
        ]
        assert torch.allclose(outputs.logits[n], torch.stack(votes).mean(0), atol=1e-6)


# the decision


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("steps", [1, 3])
def test_what_is_cut_is_that_of_a_naive_loop(k, steps):
    generator = torch.Generator().manual_seed(k)
    speeds = torch.rand(25, 2, k, generator=generator, dtype=torch.float64) ** 3 + 1e-3
    rows = [{m: (float(row[0, m]), float(row[1, m])) for m in range(k)} for row in speeds]
    expected = naive.cuts(rows, 0.05, steps)
    sums, cut, left = torch.zeros(2, k, dtype=torch.float64), torch.zeros(k, dtype=torch.bool), torch.tensor(0)
    for row, plan in zip(speeds, expected, strict=True):
        assert {m for m in range(k) if cut[m]} == plan
        sums += row
        cut, left = mmtm.next_cut(cut, left, mmtm.leaders(*sums, 0.05), steps)
    assert len({frozenset(plan) for plan in expected}) > 1


def test_equal_rates_and_a_single_modality_have_no_leader():
    assert not mmtm.leaders(torch.tensor([0.2, 0.4]), torch.tensor([1.0, 2.0]), 0.01).any()
    assert not mmtm.leaders(torch.tensor([0.2]), torch.tensor([1.0]), 0.0).any()


def test_nothing_is_compared_before_every_modality_was_seen():
    assert not mmtm.leaders(torch.tensor([0.2, 0.0]), torch.tensor([1.0, 0.0]), 0.01).any()
    assert not mmtm.leaders(torch.tensor([0.2, 0.0]), torch.tensor([1.0, 1.0]), 0.01).any()


def test_speeds_are_those_of_the_gradients_of_the_step_before():
    model, batches = toy_model("mmtm", start=1), [toy_batch(seed=seed) for seed in range(4)]
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    model.begin_epoch()
    expected = np.zeros((2, 3))
    for number, batch in enumerate(batches):
        step(model, batch, optimizer)
        if number < len(batches) - 1:  # the next step reads them
            for m, name in enumerate(NAMES):
                for row, group in enumerate((list(model.gates[name].parameters()), model.modality_parameters(name))):
                    expected[row, m] += naive.speed(flat(group, gradient=True), flat(group))
    assert np.allclose(model.sums, expected, rtol=1e-5)


def test_the_mean_gates_are_means_over_the_utterances_that_have_the_modality():
    model, batches = toy_model("mmtm", rebalance=False), [toy_batch(seed=seed) for seed in range(3)]
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    seen = {name: [] for name in NAMES}
    for batch in batches:
        outputs = step(model, batch, optimizer)
        for name in NAMES:
            seen[name] += outputs.gates[name].detach()[batch.present[name]]
    expected = torch.stack([torch.stack(seen[name]).mean(0) for name in NAMES])
    assert torch.allclose(model.mean_gates, expected, atol=1e-6)


# the schedule


def epochs_of(model, count, steps=6):
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    cut = []
    for _ in range(count):
        model.begin_epoch()
        for seed in range(steps):
            step(model, toy_batch(seed=seed), optimizer)
            cut.append(model.cut.any().item())
    return cut


def test_cutting_begins_with_the_epoch_that_is_asked_for():
    cut = epochs_of(toy_model("mmtm", start=3), 3)
    assert not any(cut[:12])
    assert any(cut[12:])


def test_without_rebalancing_nothing_is_cut_and_training_goes_another_way():
    plain, balanced = toy_model("mmtm", rebalance=False), toy_model("mmtm")
    assert not any(epochs_of(plain, 3))
    assert any(epochs_of(balanced, 3))
    assert not torch.equal(parameters_of(plain), parameters_of(balanced))


def test_an_epoch_after_a_checkpoint_is_the_epoch_without_one():
    """Gradients are no part of a checkpoint."""
    whole, cut = toy_model("mmtm"), toy_model("mmtm")
    epochs_of(whole, 2)
    epochs_of(cut, 2)
    resumed = toy_model("mmtm", seed=5)
    resumed.load_state_dict(cut.state_dict())
    assert epochs_of(resumed, 1) == epochs_of(whole, 1)
    assert torch.equal(parameters_of(resumed), parameters_of(whole))


# the cut


def test_in_a_step_that_cuts_a_branch_nothing_of_the_others_reaches_it():
    model, batch = toy_model("mmtm").train(), toy_batch(missing=False)
    other = toy_batch(missing=False)
    other.features["audio"] = other.features["audio"] + 1.0
    model.mean_gates.fill_(0.4)
    model.cut[0] = True
    one, two = (model(b).state.tensors for b in (batch, other))
    assert torch.equal(one["text"], two["text"])
    assert not torch.allclose(one["vision"], two["vision"])
    model.eval()
    one, two = (model(b).state.tensors for b in (batch, other))
    assert not torch.allclose(one["text"], two["text"]), "a prediction has its gates"


def test_gates_that_are_cut_have_a_gradient_of_zero():
    """None would stand in the way of distributed training."""
    model, batch = toy_model("mmtm").train(), toy_batch()
    model.cut[:] = True
    torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
    assert all(
        p.grad is not None and not p.grad.any() for p in [*model.gates.parameters(), *model.squeeze.parameters()]
    )


def test_the_branch_that_leans_on_the_other_is_cut_and_learns_its_own():
    """Audio is weak: through its gates it has what text tells, and without text it would know nothing."""
    train, test, found = dominated(), dominated(seed=1), {}
    for epsilon in (0.01, 100.0):  # the second one never cuts
        model = pair_model("mmtm", start=1, epsilon=epsilon).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.3)
        model.begin_epoch()
        cut = torch.zeros(2)
        for _ in range(100):
            step(model, train, optimizer)
            cut += model.cut
        found[epsilon] = cut, accuracy(model, test, ("audio",))
    assert found[0.01][0][1] > 2 * found[0.01][0][0]
    assert not found[100.0][0].any()
    assert found[0.01][1] > found[100.0][1] + 0.2


def test_the_training_module_leaves_it_the_gradients_that_it_reads(score_table):
    config = dataclasses.replace(config_of("none", "mmtm"), model={"name": "mmtm", "width": 6, "start": 2})
    run = prepare(config, score_table)
    fit(config, run, None, progress=False)
    assert run.model.epoch == 2
    assert (run.model.sums > 0).all()
