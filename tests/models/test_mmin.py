"""MMIN: the cascade against a naive loop, what is a target and when, and what imagining is good for."""

import dataclasses

import numpy as np
import torch
from torch import nn

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.models.base import build_model
from pase_msa.models.mmin import Cascade
from pase_msa.task import Task
from tests.reference import mmin as reference
from tests.toys import NAMES, toy_batch, toy_model


def affine(module):
    """The affine maps of a sequence of layers."""
    maps = [part for part in module if isinstance(part, nn.Linear)]
    return [(part.weight.detach().numpy(), part.bias.detach().numpy()) for part in maps]


def stacked(named):
    return torch.stack([named[name] for name in NAMES], dim=1).detach().numpy()


def test_the_cascade_is_that_of_a_naive_loop():
    cascade, x = Cascade(6, 2, 3), torch.randn(4, 6)
    with torch.no_grad():
        imagined, codes = cascade(x)
    expected = reference.cascade(
        x.numpy(), [affine(down) for down in cascade.down], [affine(up) for up in cascade.up], affine(cascade.output)
    )
    np.testing.assert_allclose(imagined.numpy(), expected[0], atol=1e-5)
    np.testing.assert_allclose(codes.numpy(), expected[1], atol=1e-5)


def hiding(**options):
    """A model whose warm-up is over, its batch, and the outputs of one pass of training."""
    model, batch = toy_model("mmin", warm_up=1, **options).train(), toy_batch(n=24)
    for _ in range(2):
        model.begin_epoch()
    return model, batch, model(batch)


def test_errors_are_those_of_a_naive_sum_over_hidden_and_over_remaining_modalities():
    model, batch, outputs = hiding()
    with torch.no_grad():  # so that the encoders are no longer those of the copy
        next(model.encoders["text"].parameters()).add_(0.1)
    losses, left = model.losses(outputs, batch), stacked(outputs.present)
    hidden = stacked(batch.present) & ~left
    before = toy_model("mmin", warm_up=1).eval()
    with torch.no_grad():
        targets = stacked(before.encode(batch)[0]).reshape(24, -1)
    wanted = stacked(outputs.vectors).reshape(24, -1)
    guess, back = (outputs.state.tensors[name].detach().numpy() for name in ("imagined", "back"))
    imagination = reference.slot_error(guess, targets, hidden, model.width)
    some = left & hidden.any(1, keepdims=True)
    np.testing.assert_allclose(losses["imagination"].item(), 4 * imagination, rtol=1e-4)
    np.testing.assert_allclose(losses["cycle"].item(), 2 * reference.slot_error(back, wanted, some, 6), rtol=1e-4)
    assert imagination > 0


def test_no_modality_is_hidden_in_the_warm_up_and_nothing_is_imagined():
    model, batch = toy_model("mmin").train(), toy_batch(n=24)
    model.begin_epoch()
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    assert all(torch.equal(outputs.present[name], batch.present[name]) for name in NAMES)
    assert losses["imagination"] == losses["cycle"] == 0


def test_nothing_is_hidden_in_evaluation():
    model, batch, _ = hiding()
    outputs = model.eval()(batch)
    assert all(torch.equal(outputs.present[name], batch.present[name]) for name in NAMES)


def test_what_is_hidden_has_no_part_in_the_prediction():
    model, batch, _ = hiding()
    torch.manual_seed(3)
    outputs = model(batch)
    left = dataclasses.replace(batch, present=outputs.present)
    torch.testing.assert_close(model.eval()(left).logits, outputs.logits)


def test_one_modality_alone_has_nothing_to_imagine():
    model = toy_model("mmin", modalities=NAMES[:1], warm_up=1).train()
    batch = toy_batch(modalities=NAMES[:1])
    for _ in range(2):
        model.begin_epoch()
    losses = model.losses(model(batch), batch)
    assert losses["imagination"] == losses["cycle"] == 0


def pair(shared, n=80, seed=0):
    """Two modalities of one step that hold the class, the same in both, or nothing about it in the second one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    signal = (2.0 * labels - 1).view(-1, 1, 1)
    text = signal + torch.randn(n, 1, 4, generator=generator)
    audio = (signal if shared else 0.0) + 0.5 * torch.randn(n, 1, 4, generator=generator)
    ones = torch.ones(n, dtype=torch.bool)
    return Batch(
        {"text": text, "audio": audio}, {"text": ones.long(), "audio": ones.long()},
        {"text": ones, "audio": ones}, labels.float(), torch.arange(n),
    )  # fmt: skip


def imagined_error(shared):
    """Error of the imagined text vectors where audio alone is left, relative to that of their mean."""
    torch.manual_seed(0)
    task = Task.classification(("text", "audio"), ("no", "yes"))
    inputs = {name: InputSpec(4, options={"hidden": 8, "dropout": 0.0}) for name in task.modalities}
    options = {"width": 4, "latent": 4, "hidden": 8, "blocks": 2, "dropout": 0.0, "warm_up": 5}
    model, batch = build_model("mmin", task, inputs, options).train(), pair(shared)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for step in range(90):
        if step % 5 == 0:
            model.begin_epoch()
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    test = pair(shared, seed=1)
    with torch.no_grad():
        found = model.eval()(test.only(["audio"])).state.tensors["imagined"][:, :4]
        layer = model.encoders["text"]
        true = model.targets["text"](layer, model.scalers["text"](test.features["text"]), test.lengths["text"])
    return float((found - true).square().mean() / (true - true.mean(0)).square().mean())


def test_a_modality_is_imagined_from_one_that_shares_its_signal_and_not_from_another():
    assert imagined_error(shared=True) < 0.6
    assert imagined_error(shared=False) > 0.9
