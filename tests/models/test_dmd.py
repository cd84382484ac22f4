"""DMD: its losses against naive sums, who learns from whom, and what the split does to the parts."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pase_msa.errors import PaSEError
from pase_msa.models.dmd import distilled, triplet_margin
from tests.reference import dmd as reference
from tests.toys import NAMES, toy_batch, toy_model

HERE = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0]], dtype=torch.bool)


def test_distillation_is_that_of_a_naive_sum_with_pairs_missing():
    scores, distance, prior = torch.randn(4, 6), torch.rand(4, 6), torch.tensor([0.0, 4.0, 0.0, 0.0, 4.0, 0.0])
    expected = reference.distilled(scores.numpy(), prior.numpy(), distance.numpy(), HERE.numpy())
    assert distilled(scores, prior, distance, HERE).item() == pytest.approx(expected, rel=1e-4)


def test_pairs_that_no_utterance_has_cost_nothing():
    value = distilled(torch.randn(2, 2), torch.zeros(2), torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool))
    assert value == 0


def test_the_margin_is_that_of_a_naive_sum_over_triplets():
    parts, labels = torch.randn(6, 3, 4), torch.tensor([0.0, 1.0, 0.0, 2.0, 1.0, 0.0])
    here = torch.ones(6, 3, dtype=torch.bool)
    here[0, 1] = here[3, 2] = False
    distance = (labels.unsqueeze(0) - labels.unsqueeze(1)).abs()
    found = triplet_margin(parts, here, distance == 0, distance, 0.15)
    expected = reference.triplet_margin(parts.numpy(), here.numpy(), labels.numpy(), 0.15)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_a_teacher_has_no_gradient():
    """With equal weights both modalities are as much student as teacher, so half of the slope is left."""
    model = toy_model("dmd", "classification", NAMES[:2], distillation=1.0).double()
    batch = toy_batch("classification", NAMES[:2], missing=False)
    batch.features = {name: values.double() for name, values in batch.features.items()}
    with torch.no_grad():
        model.graphs["common"].pair.weight.zero_()
    bias = model.common_classes["text"].output.bias

    def loss():
        return model.losses(model(batch), batch)["distillation/common"]

    gradient = torch.autograd.grad(loss(), bias)[0]
    slopes = []
    for place in range(3):
        step, values = torch.zeros(3, dtype=torch.double), []
        step[place] = 1e-6
        for sign in (1, -1):
            with torch.no_grad():
                bias.add_(sign * step)
                values.append(loss().item())
                bias.sub_(sign * step)
        slopes.append((values[0] - values[1]) / 2e-6)
    np.testing.assert_allclose(2 * gradient.numpy(), slopes, atol=1e-6)
    assert max(map(abs, slopes)) > 1e-3


def test_the_prior_favours_the_lessons_of_the_teacher():
    model = toy_model("dmd", teacher="audio")
    weights = dict(zip(zip(model.students, model.teachers, strict=True), model.prior.softmax(0).tolist(), strict=True))
    assert weights[0, 1] == weights[2, 1] > 0.4
    assert max(value for (_, teacher), value in weights.items() if teacher != 1) < 0.01
    with pytest.raises(PaSEError, match=r"model\.teacher of dmd is one of text, audio, vision, not 'sound'"):
        toy_model("dmd", teacher="sound")


def test_one_modality_alone_has_no_pairs():
    model, batch = toy_model("dmd", modalities=NAMES[:1]), toy_batch(modalities=NAMES[:1])
    names = {"class", "score", "joint", "common", "private", "decoupling"}
    assert set(model.losses(model(batch), batch)) == names


def trained(**options):
    """A model after a few steps on a batch of two modalities, and its outputs on that batch."""
    torch.manual_seed(0)
    batch = toy_batch(modalities=NAMES[:2], n=28, missing=False)
    model = toy_model("dmd", modalities=NAMES[:2], **options)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(25):
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return model, model(batch)


def disagreement(distillation):
    model, outputs = trained(distillation=distillation)
    common = outputs.state.tensors["common"]
    logits = [model.common_classes[n](model.common_feature[n](common[:, i])) for i, n in enumerate(NAMES[:2])]
    text, audio = (model.task.score(each.softmax(1)) for each in logits)
    return (text - audio).abs().mean().item()


def test_distillation_makes_the_modalities_agree():
    assert disagreement(20.0) < 0.5 * disagreement(0.0)


def cosine(contrast):
    tensors = trained(decoupling=1.0, contrast=contrast)[1].state.tensors
    return F.cosine_similarity(tensors["common"], tensors["private"], dim=2).relu().mean().item()


def test_the_parts_of_a_modality_are_drawn_apart():
    assert cosine(5.0) < 0.7 * cosine(0.0)
