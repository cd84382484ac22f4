"""Data Remixing: against a naive loop, its laws, and what it does to a modality that is in another's shadow."""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pase_msa.balancing import remix
from pase_msa.balancing.base import BalancingMethod
from pase_msa.errors import PaSEError
from tests.balancing.planted import PAIR, accuracy, dominated, pair_model, prepared, run
from tests.reference import remix as naive
from tests.toys import NAMES, relabelled, rows_of, toy_batch, toy_model


def made(model, **options):
    return prepared(remix.build(remix.Config(**options)), model)


def flags_of(batch):
    return torch.stack([batch.present[name] for name in batch.present])


def batches_of(batch, size=30):
    return [rows_of(batch, torch.arange(start, start + size)) for start in range(0, len(batch), size)]


# the rule


def test_surety_is_the_divergence_from_uniform():
    logits = torch.randn(4, 6, 5, dtype=torch.float64)
    expected = [[naive.surety(row.softmax(0).tolist()) for row in rows] for rows in logits]
    assert np.allclose(remix.surety(logits), expected)


@pytest.mark.parametrize(
    ("shown", "rule"), [("least_sure", naive.least_sure), ("all_but_surest", naive.all_but_surest)]
)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_what_is_shown_is_that_of_a_naive_loop(shown, rule, k):
    generator = torch.Generator().manual_seed(k)
    logits = torch.randn(k, 40, 3, generator=generator, dtype=torch.float64)
    present = torch.rand(k, 40, generator=generator) < 0.7
    present[0, ~present.any(0)] = True
    result = remix.remixed(remix.surety(logits), present, shown)
    for n in range(40):
        own = {m: logits[m, n].softmax(0).tolist() if present[m, n] else None for m in range(k)}
        assert {m for m in range(k) if result[m, n]} == rule(own)


def test_the_choice_follows_the_modalities_whatever_their_order():
    values, present = torch.rand(3, 20), torch.rand(3, 20) < 0.8
    order = [2, 0, 1]
    for shown in ("least_sure", "all_but_surest"):
        expected = remix.remixed(values, present, shown)[order]
        assert torch.equal(remix.remixed(values[order], present[order], shown), expected)


# the loss


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_the_loss_after_the_warm_up_is_that_of_a_naive_loop(kind):
    model, batch = toy_model("concat", kind), toy_batch(kind)
    method = run(made(model, warm_up=1), model, [batch], 1, rate=0.0)
    method.on_train_epoch_start(None, None)
    shown = method.mask_modalities(batch, 0.3)
    outputs = model.eval()(shown)
    losses = {name: value.detach() for name, value in model.losses(outputs, shown).items()}
    found = method.reweight(losses, outputs, shown, SimpleNamespace(model=model))
    alone = {name: values.tolist() for name, values in method.heads.utterance_losses(outputs, shown).items()}
    only = [next(name for name in NAMES if shown.present[name][n]) for n in range(len(batch))]
    joint = [float(torch.stack(list(losses.values())).sum())] * len(batch)
    expected = naive.remixed_loss(joint, alone, only)
    assert float(torch.stack(list(found.values())).sum().detach()) == pytest.approx(expected, rel=1e-5)


def test_the_warm_up_shows_whole_utterances_and_weighs_the_heads():
    model, batch = toy_model("concat"), toy_batch()
    method = made(model, warm_up=3, unimodal=0.25)
    method.on_train_epoch_start(None, None)
    assert method.mask_modalities(batch, 0.0) is batch
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    found = method.reweight(losses, outputs, batch, None)
    assert all(found[name] is value for name, value in losses.items())
    own = method.heads.losses(outputs, batch)
    assert all(torch.allclose(found[f"alone/{name}"], 0.25 * own[name]) for name in NAMES)


# what is shown


def test_an_utterance_shows_what_its_head_was_least_sure_of_in_the_epoch_before():
    model, batch = toy_model("concat"), toy_batch()
    method = run(made(model, warm_up=1), model, [batch], 1, rate=0.0)
    with torch.no_grad():
        logits = method.heads.logits(model.eval()(batch))
    sure = torch.stack([remix.surety(logits[name]) for name in NAMES])
    method.on_train_epoch_start(None, None)
    order = torch.randperm(len(batch))
    shown = flags_of(method.mask_modalities(rows_of(batch, order), 0.0))
    assert torch.equal(shown, remix.remixed(sure, flags_of(batch), "least_sure")[:, order])
    assert (shown.sum(0) == 1).all()


def test_rows_that_were_not_measured_are_shown_whole():
    model, batch = toy_model("concat"), toy_batch()
    method = run(made(model, warm_up=1), model, [rows_of(batch, torch.arange(8))], 1)
    method.on_train_epoch_start(None, None)
    shown = flags_of(method.mask_modalities(batch, 0.5))
    assert (shown[:, :8].sum(0) == 1).all()
    assert torch.equal(shown[:, 8:], flags_of(batch)[:, 8:])


def test_a_share_of_the_utterances_may_be_left_whole():
    model, batch = pair_model(), dominated(n=900)
    method = run(made(model, warm_up=1, whole=0.25), model, [batch], 1)
    method.on_train_epoch_start(None, None)
    whole = flags_of(method.mask_modalities(batch, 0.5)).all(0).float().mean()
    assert float(whole) == pytest.approx(0.25, abs=0.06)


def test_labels_do_not_choose():
    model, batch = toy_model("concat"), toy_batch()
    first = made(model, warm_up=0)
    second = made(model, warm_up=0)
    second.heads.load_state_dict(first.heads.state_dict())
    run(first, model, [batch], 1, rate=0.0)
    run(second, model, [relabelled(batch, batch.labels.roll(1))], 1, rate=0.0)
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.values.isfinite(), flags_of(batch).T), "all that are there were measured"


def test_while_it_is_not_active_it_does_nothing():
    model, batch = toy_model("concat"), toy_batch()
    method = made(model, warm_up=0)
    method.active = False
    run(method, model, [batch], 2)
    assert method.epoch == len(method.rows) == 0
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    assert method.reweight(losses, outputs, batch, None) == losses


def test_the_state_goes_on_after_a_checkpoint():
    model, batch = toy_model("concat"), toy_batch()
    method = run(made(model, warm_up=1), model, [batch], 2)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other = made(model, warm_up=1)
    other.load_state_dict(torch.load(file, weights_only=False))
    for each in (method, other):
        each.on_train_epoch_start(None, None)
    assert other.epoch == 3
    assert torch.equal(flags_of(other.mask_modalities(batch, 0.0)), flags_of(method.mask_modalities(batch, 0.0)))
    assert not torch.equal(flags_of(other.mask_modalities(batch, 0.0)), flags_of(batch))


def test_batches_without_row_numbers_are_refused():
    model, batch = toy_model("concat"), dataclasses.replace(toy_batch(), rows=None)
    with pytest.raises(PaSEError, match="row numbers"):
        run(made(model, warm_up=0), model, [batch], 1)


# what it does


def test_the_modality_that_is_ahead_is_shown_less_often_and_the_other_one_learns():
    train, test = dominated(), dominated(seed=1)
    batches, found = batches_of(train), {}
    for name in ("plain", "remix"):
        model = pair_model()
        method = made(model, warm_up=3) if name == "remix" else BalancingMethod()
        run(method, model, batches, 20, rate=0.3)
        found[name] = accuracy(model, test, ("audio",))
    shares = [[row[f"shown/{name}"] for row in method.history if f"shown/{name}" in row] for name in PAIR]
    assert shares[0][0] < 0.3 < 0.7 < shares[1][0]
    assert found["remix"] > found["plain"] + 0.2
