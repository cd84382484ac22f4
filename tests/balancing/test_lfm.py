"""LFM: the gap against a naive loop, its laws, and what aligning does."""

import numpy as np
import pytest
import torch

from pase_msa.balancing import lfm
from tests.balancing.planted import PAIR, dominated, pair_model, prepared, run
from tests.reference import lfm as naive
from tests.toys import parameters_of, toy_batch, toy_model


def made(model, **options):
    return prepared(lfm.build(lfm.Config(**options)), model)


def sample(k=3, n=20, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(k, n, 4, generator=generator, dtype=dtype), torch.rand(k, n, generator=generator) < 0.6


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_gap_is_that_of_a_naive_loop(k):
    logits, present = sample(k)
    probabilities = {m: logits[m].softmax(1).tolist() for m in range(k)}
    expected = naive.gap(probabilities, {m: present[m].tolist() for m in range(k)})
    assert float(lfm.gap(logits, present)) == pytest.approx(expected)
    assert expected > 0


def test_the_gap_does_not_depend_on_the_order_of_the_modalities():
    logits, present = sample()
    order = [1, 2, 0]
    assert torch.allclose(lfm.gap(logits[order], present[order]), lfm.gap(logits, present))


def test_the_gap_is_zero_between_equals_and_where_there_is_no_pair():
    logits, present = sample()
    assert float(lfm.gap(logits[:1].expand(3, -1, -1), torch.ones_like(present))) == pytest.approx(0.0, abs=1e-12)
    alone = torch.zeros_like(present)
    alone[1] = True
    assert float(lfm.gap(logits, alone)) == 0.0


def test_an_absent_modality_has_no_part():
    logits, present = sample()
    moved = torch.where(present.unsqueeze(2), logits, logits + 5)
    assert torch.equal(lfm.gap(moved, present), lfm.gap(logits, present))


def test_the_gap_has_a_finite_gradient_where_predictions_are_certain():
    logits = torch.tensor([[[200.0, -200.0]], [[-200.0, 200.0]]], requires_grad=True)
    lfm.gap(logits, torch.ones(2, 1, dtype=torch.bool)).backward()
    assert logits.grad.isfinite().all()


def test_the_weight_of_the_task_rises_to_its_last_value():
    weights = [lfm.task_weight(epoch, 0.2, 0.8, 4) for epoch in range(7)]
    assert weights == pytest.approx([0.2, 0.35, 0.5, 0.65, 0.8, 0.8, 0.8])


def test_the_objective_is_that_of_the_paper_in_every_epoch():
    model, batch = toy_model("concat"), toy_batch()
    method = made(model, first=0.3, last=0.9, epochs=2)
    with torch.no_grad():
        outputs = model(batch)
        losses = model.losses(outputs, batch)
        task = float(torch.stack(list(losses.values())).sum())
        alone = {n: model(batch.only([n])).probabilities.tolist() for n in batch.present}
        distance = naive.gap(alone, {n: flags.tolist() for n, flags in batch.present.items()})
        for epoch in range(4):
            method.on_train_epoch_start(None, None)
            found = method.reweight(losses, outputs, batch, ModuleOf(model))
            expected = naive.objective(task, distance, epoch, 0.3, 0.9, 2)
            assert float(torch.stack(list(found.values())).sum()) == pytest.approx(expected, rel=1e-5)


class ModuleOf:
    def __init__(self, model):
        self.model = model


def test_the_schedule_goes_on_after_a_checkpoint():
    model = toy_model("concat")
    method, other = made(model), made(model)
    for _ in range(3):
        method.on_train_epoch_start(None, None)
    other.load_state_dict(method.state_dict())
    for each in (method, other):
        each.on_train_epoch_start(None, None)
    assert other.weight == method.weight == lfm.task_weight(3, 0.2, 0.95, 20)


def test_epochs_of_the_first_phase_do_not_count():
    model, batch = toy_model("concat"), toy_batch()
    method = made(model)
    method.active = False
    run(method, model, [batch], 2)
    plain = toy_model("concat")
    run(None, plain, [batch], 2)
    assert method.epoch == 0
    assert torch.equal(parameters_of(model), parameters_of(plain))


def test_modalities_come_to_predict_alike():
    batch, gaps = dominated(), []
    for method in (None, lfm.build(lfm.Config(first=0.2, last=0.2))):
        model = pair_model()
        run(method and prepared(method, model), model, [batch], 60)
        with torch.no_grad():
            alone = model.eval().network_coalitions(batch, [frozenset([name]) for name in PAIR])
        gaps.append(float(lfm.gap(torch.stack([single.logits for single in alone]), torch.ones(2, 90).bool())))
    assert np.isfinite(gaps).all()
    assert gaps[1] < 0.5 * gaps[0]
