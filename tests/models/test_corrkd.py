"""CorrKD, reduced: its losses against naive sums, the teacher, and what a student learns of it."""

import numpy as np
import pytest
import torch

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.models.base import build_model
from pase_msa.models.corrkd import class_similarities, decoupled_divergence, sample_contrast
from pase_msa.task import Task
from tests.reference import corrkd as reference
from tests.toys import NAMES, toy_batch, toy_model

DISTILLED = ("samples", "prototypes", "responses")


def test_the_contrast_of_samples_is_that_of_a_naive_sum():
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    here = torch.tensor([True, True, False, True])
    expected = reference.sample_contrast(student.numpy(), teacher.numpy(), here.tolist(), 2.0)
    assert sample_contrast(student, teacher, here, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_the_contrast_of_equal_vectors_is_zero_once_they_are_apart_by_the_margin():
    vectors, here = 3 * torch.eye(3), torch.ones(3, dtype=torch.bool)
    assert sample_contrast(vectors, vectors, here, 4.2) == 0
    assert sample_contrast(vectors, vectors, here, 4.3) > 0


def test_similarities_to_class_means_are_those_of_a_naive_sum_and_a_class_without_weight_is_left_out():
    vectors = torch.randn(4, 3)
    membership = torch.tensor([[0.3, 0.7, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    found, seen = class_similarities(vectors, membership)
    assert seen.tolist() == [True, True, False]
    expected = [row[:2] for row in reference.class_similarities(vectors.numpy(), membership.numpy())]
    np.testing.assert_allclose(found[:, :2].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_divergence_of_responses_is_that_of_a_naive_sum(classes):
    student, teacher, target = torch.randn(6, classes), torch.randn(6, classes), torch.arange(6) % classes
    expected = reference.decoupled_divergence(*(part.numpy().astype(float) for part in (student, teacher)), target)
    np.testing.assert_allclose(decoupled_divergence(student, teacher, target).numpy(), expected, atol=1e-5)


def test_equal_responses_do_not_diverge():
    logits = torch.randn(4, 5)
    assert decoupled_divergence(logits, logits, torch.arange(4)).abs().max() < 1e-6


def taught(modalities=NAMES, **options):
    """A model at the first step behind its warm-up."""
    model = toy_model("corrkd", modalities=modalities, warm_up=1, **options).train()
    for _ in range(2):
        model.begin_epoch()
    return model


def test_there_is_no_teacher_in_the_warm_up_and_in_evaluation():
    model, batch = toy_model("corrkd").train(), toy_batch()
    model.begin_epoch()
    assert set(model.losses(model(batch), batch)) == {"class", "score"}
    model = taught()
    assert set(model.losses(model(batch), batch)) == {"class", "score", *DISTILLED}
    model.eval()
    assert set(model.losses(model(batch), batch)) == {"class", "score"}


def test_the_teacher_answers_as_the_network_did_when_the_warm_up_ended():
    model, batch = taught(), toy_batch()
    before = toy_model("corrkd").eval()(batch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    joint, logits = model.teach(batch)
    torch.testing.assert_close(joint, before.fused.detach())
    torch.testing.assert_close(logits, before.logits.detach())
    assert not logits.requires_grad


def test_with_nothing_hidden_the_student_begins_as_the_teacher():
    """One modality alone is always left, so that only frames could be hidden."""
    batch = toy_batch(modalities=NAMES[:1])
    model = taught(NAMES[:1], frames=0.0, margin=0.0)
    losses = model.losses(model(batch), batch)
    assert max(losses[name] for name in DISTILLED) < 1e-6
    model = taught(NAMES[:1], frames=0.5, margin=0.0)
    losses = model.losses(model(batch), batch)
    assert min(losses[name] for name in DISTILLED) > 1e-6


def test_an_utterance_without_any_modality_has_no_part():
    batch, model = toy_batch(), taught(margin=0.0, frames=0.0)
    for name in NAMES:
        batch.present[name][4:] = False
    torch.manual_seed(2)
    found = model.losses(model(batch), batch)
    batch.labels[4:] = -batch.labels[4:]
    torch.manual_seed(2)
    again = model.losses(model(batch), batch)
    assert all(torch.equal(found[name], again[name]) for name in DISTILLED)


def redundant(n, seed):
    """Two modalities that show the class, each with noise of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels, names = torch.arange(n) % 3, ("text", "audio")
    x = {name: torch.eye(4)[labels].unsqueeze(1) + 0.4 * torch.randn(n, 1, 4, generator=generator) for name in names}
    ones = torch.ones(n, dtype=torch.bool)
    return Batch(x, dict.fromkeys(names, ones.long()), dict.fromkeys(names, ones), labels.float())


def distance_from_the_teacher(weight):
    """How much the responses to audio alone differ from the teacher's to both, for new utterances."""
    torch.manual_seed(0)
    task = Task.classification(("text", "audio"), ("sad", "calm", "glad"))
    inputs = {name: InputSpec(4, options={"hidden": 8, "dropout": 0.0}) for name in task.modalities}
    options = {"width": 8, "dropout": 0.0, "warm_up": 3, "frames": 0.0, **dict.fromkeys(DISTILLED, weight)}
    model, batch = build_model("corrkd", task, inputs, options).train(), redundant(30, 0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for step in range(40):
        if step % 5 == 0:
            model.begin_epoch()
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    test = redundant(300, 1)
    with torch.no_grad():
        student = model.eval()(test.only(["audio"])).logits
        return decoupled_divergence(student, model.teach(test)[1], test.labels.long()).mean().item()


def test_without_a_modality_the_student_answers_more_like_the_teacher_than_one_that_was_not_taught():
    assert distance_from_the_teacher(1.0) < 0.5 * distance_from_the_teacher(0.0)
