"""MLA: projector, gradients and weights against naive sums, and what does not cross between modalities."""

import numpy as np
import pytest
import torch

from pase_msa.models.mla import entropy_weights, projected_linear, without_direction
from tests.reference import mla as reference
from tests.toys import NAMES, toy_batch, toy_model

PAIR = NAMES[:2]


def classifier_gradient(model, batch, name=None):
    """Gradient of W by the loss of one modality, or of all."""
    model.zero_grad()
    losses = model.losses(model(batch), batch)
    (torch.stack(list(losses.values())).sum() if name is None else losses[f"unimodal/{name}"]).backward()
    return model.classifier.weight.grad.clone()


def test_the_projector_is_that_of_a_naive_sum():
    found = without_direction(torch.eye(2), torch.tensor([1.0, 0.0]), 0.1)
    assert torch.allclose(found, torch.tensor([[1 - 1 / 1.1, 0.0], [0.0, 1.0]]))
    projector, random = torch.eye(4, dtype=torch.float64), torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = torch.randn(4, generator=random, dtype=torch.float64)
        expected = reference.without_direction(projector.numpy(), direction.numpy(), 0.03)
        projector = without_direction(projector, direction, 0.03)
        assert np.allclose(projector, expected)


def test_a_projector_only_shrinks():
    projector = torch.eye(5, dtype=torch.float64)
    for _ in range(3):
        projector = without_direction(projector, torch.randn(5, dtype=torch.float64), 0.01)
        assert torch.allclose(projector, projector.T)
        values = torch.linalg.eigvalsh(projector)
        assert values.min() > -1e-9
        assert values.max() < 1 + 1e-9


def test_without_alpha_a_direction_is_gone():
    direction = torch.randn(5, dtype=torch.float64)
    projector = without_direction(torch.eye(5, dtype=torch.float64), direction, 1e-12)
    assert (projector @ direction).abs().max() < 1e-9
    assert torch.linalg.matrix_rank(projector, atol=1e-6) == 4


def test_projected_logits_are_those_of_the_layer():
    vectors, weight, bias = torch.randn(3, 4), torch.randn(2, 4), torch.randn(2)
    found = projected_linear(vectors, weight, bias, torch.rand(4, 4))
    assert torch.equal(found, torch.nn.functional.linear(vectors, weight, bias))


def test_the_gradient_is_projected_for_the_weight_alone():
    half = without_direction(torch.eye(4), torch.randn(4), 0.1)
    leaves = [torch.randn(3, 4), torch.randn(2, 4), torch.randn(2)]
    slope = torch.randn(3, 2)

    def gradients(projector):
        parts = [leaf.clone().requires_grad_() for leaf in leaves]
        (projected_linear(*parts, projector) * slope).sum().backward()
        return [part.grad for part in parts]

    plain, changed = gradients(torch.eye(4)), gradients(half)
    assert torch.allclose(plain[1], slope.T @ leaves[0], atol=1e-6)
    assert torch.allclose(changed[1], plain[1] @ half, atol=1e-6)
    assert torch.equal(changed[0], plain[0])
    assert torch.equal(changed[2], plain[2])


def test_the_gradient_of_a_batch_is_that_of_naive_turns():
    model, batch = toy_model("mla", "classification").train(), toy_batch("classification")
    membership = model.task.membership(batch.labels).numpy()
    for step in range(2):  # the second one begins with the projector that the first left
        projector, expected = model.projector.double().numpy(), 0.0
        outputs = model(batch)
        for name in NAMES:
            vectors = outputs.vectors[name].detach().double().numpy()
            logits = outputs.state.tensors[name].detach().double().numpy()
            here = batch.present[name].numpy()
            expected = expected + reference.weight_gradient(logits, vectors, membership, here) @ projector
            projector = reference.without_direction(projector, vectors[here].mean(0), 0.1)
        assert np.allclose(classifier_gradient(model, batch), expected, atol=1e-5), step
        model.update(outputs, batch)
        assert np.allclose(model.projector, projector, atol=1e-5), step


def test_a_modality_leaves_the_mean_of_the_one_before_almost_as_it_was():
    """By exactly alpha / (alpha + |r|^2) of what it would change."""
    model, batch = toy_model("mla", modalities=PAIR).train(), toy_batch(modalities=PAIR)
    mean = model(batch).vectors["text"].detach().mean(0)
    changed = classifier_gradient(model, batch, "audio") @ mean
    model.config.projection = False
    plain = classifier_gradient(model, batch, "audio") @ mean
    assert plain.abs().max() > 1e-3
    assert torch.allclose(changed, plain * 0.1 / (0.1 + mean @ mean), atol=1e-6)


def test_alpha_falls_in_the_course_of_an_epoch_whose_length_is_known():
    model, batch = toy_model("mla", modalities=NAMES[:1]).train(), toy_batch(modalities=NAMES[:1])
    outputs = model(batch)
    mean = outputs.vectors["text"].detach().double().numpy().mean(0)
    projector = np.eye(6)
    for alphas in ([0.1, 0.1], [0.1, 0.1**1.5]):  # two steps per epoch
        model.begin_epoch()
        for alpha in alphas:
            projector = reference.without_direction(projector, mean, alpha)
            model.update(outputs, batch)
            assert np.allclose(model.projector, projector, atol=1e-5)


def test_encoders_learn_as_if_nothing_were_projected():
    model, batch = toy_model("mla").train(), toy_batch()
    model.update(model(batch), batch)

    def gradients():
        classifier_gradient(model, batch)
        return torch.cat([p.grad.flatten() for p in model.encoders.parameters() if p.grad is not None])

    projected = gradients()
    model.config.projection = False
    assert torch.equal(gradients(), projected)


def test_weights_are_those_of_naive_entropies():
    logits, present = torch.randn(3, 5, 4), torch.rand(3, 5) > 0.4
    present[0] = True
    found = entropy_weights(logits, present)
    for n in range(5):
        expected = reference.entropy_weights(logits[:, n].numpy(), present[:, n].tolist())
        assert found[:, n].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_surer_modality_counts_more():
    logits = torch.tensor([[[10.0, -10.0]], [[0.0, 0.0]]])
    found = entropy_weights(logits, torch.ones(2, 1, dtype=torch.bool))
    assert found.flatten().tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-4)  # entropies 0 and log 2


def test_with_one_modality_left_the_prediction_is_its_own():
    model, batch = toy_model("mla", modalities=PAIR).eval(), toy_batch(modalities=PAIR, missing=False)
    outputs = model(batch.only(["audio"]))
    assert torch.equal(outputs.logits, outputs.state.tensors["audio"])


def test_the_gradient_of_an_encoder_does_not_know_the_other_modality():
    model, batch = toy_model("mla", modalities=PAIR).train(), toy_batch(modalities=PAIR, missing=False)

    def gradient():
        classifier_gradient(model, batch)
        return torch.cat([p.grad.flatten() for p in model.encoders["text"].parameters() if p.grad is not None])

    before = gradient()
    batch.features["audio"] = batch.features["audio"] * 5 - 2
    assert torch.equal(gradient(), before)


def test_the_weaker_modality_is_learned_beside_a_stronger_one():
    """Both tell the class, the audio in a quarter of the size; each of them is to predict it alone."""
    batch = toy_batch("classification", PAIR, n=30, missing=False)
    told = torch.eye(3)[batch.labels.long()]
    for name, size in (("text", 4.0), ("audio", 1.0)):
        batch.features[name] = batch.features[name] * 0.1
        batch.features[name][:, :, :3] += size * told.unsqueeze(1)
        batch.lengths[name][:] = 4
    model = toy_model("mla", "classification", PAIR).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(50):
        outputs = model(batch)
        losses = model.losses(outputs, batch)
        model.update(outputs, batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    model.eval()
    for outputs in model.network_coalitions(batch, [frozenset({name}) for name in PAIR]):
        assert (outputs.logits.argmax(1) == batch.labels).float().mean() > 0.9
