"""Eq. 1 to 3 as `PaSE.losses` and `PaSE.update` run them, against loops in NumPy."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa import alignment
from tests.reference import prototypes as oracle
from tests.toys import NAMES, relabelled, toy_batch, toy_model

MOMENTUM, TEMPERATURE, STEPS = 0.7, 0.3, 5


def batches_of(kind):
    """Batches with soft labels; classes come one after the other, and modalities are absent in many ways."""
    batches = []
    for step in range(STEPS):
        batch = toy_batch(kind, n=10, seed=step, missing=step % 2 == 1)
        generator = torch.Generator().manual_seed(step)
        if kind == "regression":
            # real labels in a range that grows: the outer classes appear late, and both in the same batch
            labels = (torch.rand(10, generator=generator) - 0.5) * (2, 2, 4, 6, 6)[step]
        else:
            labels = torch.randint(0, (1, 2, 2, 3, 3)[step], (10,), generator=generator).float()
        present = {name: flag.clone() for name, flag in batch.present.items()}
        if step == 2:
            present["audio"][3:] = False  # some classes then have a prototype in text and none in audio
        if step == 3:
            present["vision"][:] = False
        batches.append(dataclasses.replace(relabelled(batch, labels), present=present))
    return batches


def run(monkeypatch, kind, **options):
    """A training run; what each step computed, and what went into it."""
    model = toy_model(kind=kind, momentum=MOMENTUM, temperature=TEMPERATURE, alignment_interval=1, **options).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    aligned = []
    original = alignment.alignment_terms

    def spy(prototypes, *args, **kwargs):
        aligned.append(prototypes)
        return original(prototypes, *args, **kwargs)

    monkeypatch.setattr(alignment, "alignment_terms", spy)
    for batch in batches_of(kind):
        before = {name: prototypes_of(model, name) for name in NAMES}
        aligned.clear()
        outputs = model(batch)
        losses = model.losses(outputs, batch)
        model.update(outputs, batch)
        yield model, batch, outputs, before, dict(aligned[0]) if aligned else None
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()


def prototypes_of(model, name):
    """Prototypes [K, D] of a modality, NaN where a class has none yet."""
    index = NAMES.index(name)
    values = model.bank.prototypes[index].double().numpy().copy()
    values[~model.bank.initialised[index].numpy()] = np.nan
    return values


def case(model, batch, outputs, name):
    """Features and memberships of the utterances that have a modality."""
    here = batch.present[name].numpy()
    features = outputs.vectors[name].detach().double().numpy()
    return here, features[here], model.task.membership(batch.labels).double().numpy()[here]


each_kind = pytest.mark.parametrize("kind", ["regression", "classification"])
each_gradient = pytest.mark.parametrize("gradient", ["straight_through", "ema"])


@each_kind
def test_the_calibration_losses_are_eq_3(monkeypatch, kind):
    values = []
    for model, batch, outputs, before, _ in run(monkeypatch, kind):
        for name in NAMES:
            _, features, membership = case(model, batch, outputs, name)
            expected = oracle.calibration(features, before[name], membership, TEMPERATURE)
            assert outputs.details[f"intra/{name}"].item() == pytest.approx(expected, abs=1e-5)
            values.append(expected)
    assert sum(value > 0.1 for value in values) >= STEPS, "many are losses of something"


@each_kind
@each_gradient
def test_the_prototypes_move_by_eq_1_and_2(monkeypatch, kind, gradient):
    history = {name: [] for name in NAMES}
    incomplete = 0
    for model, batch, outputs, _, _ in run(monkeypatch, kind, prototype_gradient=gradient):
        for name in NAMES:
            history[name].append(case(model, batch, outputs, name)[1:])
            expected = oracle.prototypes_after(history[name], model.task.num_classes, model.width, MOMENTUM)
            np.testing.assert_allclose(prototypes_of(model, name), expected, atol=1e-5)
            incomplete += np.isnan(expected).any()
    assert 0 < incomplete < STEPS * len(NAMES), "classes come late, and all come"


@each_kind
@each_gradient
def test_the_aligned_prototypes_are_those_after_the_batch_with_the_gradient_asked_for(monkeypatch, kind, gradient):
    compared = 0
    for model, batch, outputs, before, aligned in run(monkeypatch, kind, prototype_gradient=gradient):
        if aligned is None:
            continue
        occurring = [name for name in NAMES if batch.present[name].any()]
        assert list(aligned) == occurring
        after = {name: prototypes_of(model, name) for name in occurring}
        common = [k for k in range(model.task.num_classes) if all(np.isfinite(after[n][k]).all() for n in occurring)]
        for name, prototypes in aligned.items():
            np.testing.assert_allclose(prototypes.detach().numpy(), after[name][common], atol=1e-6)
            upstream = np.random.default_rng(compared).normal(size=after[name].shape)
            value = (prototypes * torch.as_tensor(upstream[common], dtype=torch.float32)).sum()
            (found,) = torch.autograd.grad(value, outputs.vectors.tensor, retain_graph=True)
            here, _, membership = case(model, batch, outputs, name)
            upstream[[k for k in range(len(upstream)) if k not in common]] = 0
            if gradient == "straight_through":
                expected = oracle.straight_through_gradient(upstream, membership)
            else:
                expected = oracle.ema_gradient(upstream, membership, before[name], MOMENTUM)
            index = NAMES.index(name)
            np.testing.assert_allclose(found[index].numpy()[here], expected, atol=1e-5)
            assert not found[index][~torch.as_tensor(here)].any(), "an absent utterance has no gradient"
            compared += 1
    assert compared >= 8
