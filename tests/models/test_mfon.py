"""MFON: its losses against NumPy, prompts, when teachers are frozen, and what they give a weak modality."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from pase_msa.models.mfon import anchor_contrast, vector_divergence
from tests.reference import mfon
from tests.toys import NAMES, toy_batch, toy_model

ALL = torch.ones(4, dtype=torch.bool)


def step(model, batch):
    losses = model.losses(model(batch), batch)
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    return losses


def test_the_divergence_is_that_of_a_naive_sum():
    teacher, student = torch.randn(4, 5), torch.randn(4, 5)
    expected = [mfon.divergence(*rows) for rows in zip(teacher.tolist(), student.tolist(), strict=True)]
    np.testing.assert_allclose(vector_divergence(teacher, student), expected, atol=1e-5)


def test_the_contrast_is_that_of_a_naive_sum_over_the_rows_that_are_there():
    vectors, anchors, here = torch.randn(4, 5), torch.randn(4, 5), torch.tensor([True, False, True, True])
    expected = mfon.contrast(vectors[here].numpy(), anchors[here].numpy())
    assert float(anchor_contrast(vectors, anchors, here)) == pytest.approx(expected, abs=1e-5)


def test_the_contrast_of_one_row_is_zero_and_that_of_equal_rows_the_logarithm_of_their_number():
    vectors = torch.randn(4, 5)
    assert float(anchor_contrast(vectors, vectors, torch.arange(4) == 2)) == pytest.approx(0, abs=1e-6)
    equal = vectors[:1].expand(4, 5)
    assert float(anchor_contrast(equal, equal, ALL)) == pytest.approx(math.log(4), abs=1e-5)


def test_frames_of_zeros_still_give_what_the_prompts_say():
    model, batch = toy_model("mfon", modalities=NAMES[:2]).eval(), toy_batch(modalities=NAMES[:2], missing=False)
    with torch.no_grad():
        for parameter in model.encoders["audio"].parameters():
            parameter.zero_()
        before = model(batch).vectors["audio"]
        model.prompts["audio"].weight.mul_(-3)
        assert not torch.allclose(model(batch).vectors["audio"], before, atol=1e-3)


def test_frames_beyond_the_last_prompt_have_the_last_one():
    batch = toy_batch(modalities=NAMES[:2], missing=False)
    batch.lengths["audio"][:] = 4
    few, many = (toy_model("mfon", modalities=NAMES[:2], prompts=number).eval() for number in (2, 4))
    table = few.prompts["audio"].weight.detach()
    many.load_state_dict(few.state_dict() | {"prompts.audio.weight": table[[0, 1, 1, 1]]})
    torch.testing.assert_close(many(batch).probabilities, few(batch).probabilities)


def test_without_the_anchor_a_learned_query_asks():
    model, batch = toy_model("mfon").eval(), toy_batch(missing=False)
    before = model(batch.only(["audio"])).vectors
    assert not before["text"].any()
    with torch.no_grad():
        model.query.copy_(torch.randn(6))
    assert not torch.allclose(model(batch.only(["audio"])).vectors["audio"], before["audio"], atol=1e-3)


def test_teachers_learn_first_and_then_teach():
    model, batch = toy_model("mfon", teacher_epochs=2).train(), toy_batch()
    names = []
    for _ in range(4):
        model.begin_epoch()
        losses = step(model, batch)
        names.append("distillation" in losses)
        learning = any(bool(value.grad.any()) for value in model.teachers.parameters())
        assert learning is not names[-1]
    assert names == [False, False, True, True]


def test_a_frozen_teacher_stays_as_it_was_whatever_becomes_of_its_parameters():
    model, batch = toy_model("mfon", teacher_epochs=1), toy_batch()
    for _ in range(2):
        model.begin_epoch()
    outputs = model(batch)
    before = model.losses(outputs, batch)["distillation"]
    with torch.no_grad():
        for value in model.teachers.parameters():
            value.add_(1.0)
    model.begin_epoch()
    assert torch.equal(model.losses(outputs, batch)["distillation"], before)


def test_the_teachers_are_frozen_as_they_are_at_the_end_of_their_epochs():
    model, batch = toy_model("mfon", teacher_epochs=1), toy_batch()
    model.begin_epoch()
    with torch.no_grad():
        for value in model.teachers.parameters():
            value.add_(0.1)
    features, lengths = batch.features["audio"], batch.lengths["audio"]
    learned = model.teachers["audio"](features, lengths, model.scalers["audio"])
    outputs = model(batch)
    model.begin_epoch()
    expected = [
        mfon.divergence(*rows) for rows in zip(learned.tolist(), outputs.vectors["audio"].tolist(), strict=True)
    ]
    model.config.distillation = 1.0
    outputs.present["vision"] = torch.zeros(12, dtype=torch.bool)
    assert float(model.losses(outputs, batch)["distillation"].detach()) == pytest.approx(np.mean(expected), rel=1e-4)


def test_what_is_distilled_moves_the_student_alone():
    model, batch = toy_model("mfon", teacher_epochs=1, contrast=0.0), toy_batch()
    for _ in range(2):
        model.begin_epoch()
    model.losses(model(batch), batch)["distillation"].backward()
    assert all(value.grad is None for value in model.teachers.parameters())
    assert model.cross["audio"].norm.weight.grad.any()


def products(seed):
    """A batch whose label is the product of two codes of the sound, with a text that says nothing; and the product."""
    generator = torch.Generator().manual_seed(seed)
    batch = toy_batch(modalities=NAMES[:2], n=96, missing=False, seed=seed)
    codes = torch.randint(0, 2, (96, 2), generator=generator) * 2.0 - 1
    features = {name: 0.3 * torch.randn(value.shape, generator=generator) for name, value in batch.features.items()}
    features["audio"][..., :2] += codes.unsqueeze(1)
    product = codes.prod(1)
    return dataclasses.replace(batch, features=features, labels=2 * product), product


def test_by_distillation_alone_a_weak_modality_learns_what_its_teacher_knows():
    """A line through the vectors of new utterances tells the product; before, it tells a part of it."""
    (batch, _), (new, product) = products(2), products(12)
    model = toy_model("mfon", modalities=NAMES[:2], seed=3, width=12, layers=1, teacher_epochs=1, contrast=0.0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)

    def explained():
        vectors = torch.cat([model(new).vectors["audio"].detach(), torch.ones(96, 1)], dim=1).double()
        line = torch.linalg.lstsq(vectors, product.double().unsqueeze(1), driver="gelsd").solution[:, 0]
        rest = product - vectors @ line
        return 1 - float(rest.var() / product.var())

    found = [explained()]
    for term, steps in (("teacher", 20), ("distillation", 40)):
        model.begin_epoch()
        for _ in range(steps):
            optimizer.zero_grad()
            model.losses(model(batch), batch)[term].backward()
            optimizer.step()
        found.append(explained())
    before, taught, after = found
    assert taught == pytest.approx(before, abs=1e-3)  # the teachers learn by themselves
    assert before < 0.6
    assert after > 0.9
