"""DI-MML: dimensions, contrast and weights against naive sums, and what does not cross between modalities."""

import numpy as np
import pytest
import torch

from pase_msa.models.di_mml import FUSION, certainty_weights, nearest_is_right, one_way_contrast
from tests.reference import di_mml as reference
from tests.toys import NAMES, toy_batch, toy_model

PAIR = NAMES[:2]


def random(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps(model, batch, count, rate=0.05):
    """Epochs of one step each, by plain gradient descent."""
    optimizer = torch.optim.SGD(model.train().parameters(), rate)
    for _ in range(count):
        model.begin_epoch()
        outputs = model(batch)
        losses = model.losses(outputs, batch)
        model.update(outputs, batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return losses


def encoder(model, name):
    return torch.cat([p.detach().flatten() for p in model.encoders[name].parameters()])


def test_the_nearest_class_mean_is_that_of_a_naive_search():
    vectors, right = random(20, 5), torch.arange(20) % 3
    means, seen = random(4, 5, seed=1), torch.tensor([True, True, True, False])
    found = nearest_is_right(vectors, means, seen, right).double().mean(0)
    expected = reference.separation(vectors.numpy(), means.numpy(), seen.tolist(), right.tolist())
    assert np.allclose(found, expected)


def test_the_contrast_is_that_of_a_naive_sum():
    student, teacher, dimensions = random(6, 4), random(6, 4, seed=1), torch.tensor([True, False, True, False])
    rows = torch.tensor([True, True, False, True, True, False])
    found = one_way_contrast(student, teacher, dimensions, rows, 2.0)
    expected = reference.contrast(student.tolist(), teacher.tolist(), [0, 2], rows.tolist(), 2.0)
    assert found.item() == pytest.approx(expected)


def test_the_contrast_moves_the_student_alone_and_in_the_chosen_dimensions_alone():
    student, teacher = (random(5, 4, seed=seed).requires_grad_() for seed in range(2))
    dimensions = torch.tensor([True, False, True, False])
    rows = torch.tensor([True, True, True, True, False])
    one_way_contrast(student, teacher, dimensions, rows, 1.0).backward()
    assert teacher.grad is None
    moved = student.grad != 0
    assert torch.equal(moved, rows.unsqueeze(1) & dimensions)


@pytest.mark.parametrize(("dimensions", "rows"), [([False] * 3, [True] * 4), ([True] * 3, [False] * 4)])
def test_without_dimensions_or_rows_there_is_no_contrast(dimensions, rows):
    student = random(4, 3).float().requires_grad_()
    value = one_way_contrast(student, random(4, 3).float(), torch.tensor(dimensions), torch.tensor(rows), 1.0)
    value.backward()
    assert value == 0
    assert torch.equal(student.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_weights_are_those_of_naive_certainties(temperature):
    logits, present = random(3, 6, 4), torch.rand(3, 6) > 0.4
    present[2] = True
    found = certainty_weights(logits, present, temperature)
    for n in range(6):
        expected = reference.certainty_weights(logits[:, n].numpy(), present[:, n].tolist(), temperature)
        assert found[:, n].tolist() == pytest.approx(expected)


def test_an_encoder_learns_as_if_it_were_alone():
    """Bit for bit, without what the shared classifier and the contrast bring across."""
    batch = toy_batch(modalities=PAIR, missing=False)
    model, other = (toy_model("di_mml", modalities=PAIR, shared=0.0, contrast=0.0, start=3) for _ in range(2))
    steps(model, batch, 6)
    batch.features["audio"] = batch.features["audio"] * 3 - 1
    steps(other, batch, 6)
    assert torch.equal(encoder(model, "text"), encoder(other, "text"))
    assert not torch.equal(encoder(model, "audio"), encoder(other, "audio"))


@pytest.mark.parametrize("option", ["shared", "contrast"])
def test_what_is_brought_across_changes_an_encoder(option):
    batch = toy_batch(modalities=PAIR, missing=False)
    options = {"shared": 0.0, "contrast": 0.0, "start": 3, "temperature": 0.5}
    alone = toy_model("di_mml", modalities=PAIR, **options)
    across = toy_model("di_mml", modalities=PAIR, **options | {option: 1.0})
    for model in (alone, across):
        steps(model, batch, 6)
    assert not torch.equal(encoder(alone, "text"), encoder(across, "text"))


def test_the_fusion_moves_no_encoder():
    model, batch = toy_model("di_mml"), toy_batch()
    model.losses(model(batch), batch)["fusion"].backward()
    assert all(p.grad is None for p in model.encoders.parameters())
    assert all(p.grad.any() for p in model.fusion.parameters())


def test_the_dimensions_are_those_of_naive_counts_over_two_epochs():
    """Of two batches each, and without learning, so that the vectors stay."""
    model = toy_model("di_mml", start=4).eval()
    batches = [toy_batch(n=24, seed=seed) for seed in (3, 4)]
    vectors = {name: [] for name in NAMES}
    labels = {name: [] for name in NAMES}
    for epoch in range(4):
        model.begin_epoch()
        for batch in batches:
            outputs = model(batch)
            model.update(outputs, batch)
            for name in NAMES if epoch == 0 else ():
                here = batch.present[name]
                vectors[name].append(outputs.vectors[name][here].detach().numpy())
                labels[name].append(model.task.membership(batch.labels[here]).argmax(1).numpy())
    for index, name in enumerate(NAMES):
        rows, right = np.concatenate(vectors[name]), np.concatenate(labels[name])
        means, seen = reference.class_means(rows, right, 7)
        expected = reference.separation(rows, means, seen, right)
        assert model.effective[index].tolist() == (expected > expected.mean()).tolist()
        assert 0 < model.effective[index].sum() < 6


def test_dimensions_are_chosen_once():
    model, batch = toy_model("di_mml", start=3), toy_batch()
    assert "contrast" not in steps(model, batch, 2)
    assert "contrast" in steps(model, batch, 1)
    chosen = model.effective.clone()
    assert chosen.any()
    steps(model, batch, 4, rate=1.0)
    assert torch.equal(model.effective, chosen)


def test_a_student_is_taught_in_what_its_teacher_alone_is_good_at():
    """Its losses are averaged over its teachers."""
    model, batch = toy_model("di_mml", start=3, contrast=2.0, temperature=1.5), toy_batch()
    for _ in range(3):
        model.begin_epoch()
    model.effective.copy_(torch.tensor([[1, 1, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]).bool())
    outputs = model.train()(batch)
    pairs = {  # (student, teacher): what is effective in the teacher only
        ("audio", "text"): [1, 5],
        ("text", "audio"): [2],
        ("vision", "text"): [0, 1, 5],
        ("text", "vision"): [3],
        ("vision", "audio"): [0, 2],
        ("audio", "vision"): [3],
    }
    expected = 0.0
    for (student, teacher), dimensions in pairs.items():
        rows = (batch.present[student] & batch.present[teacher]).tolist()
        parts = [outputs.vectors[name].tolist() for name in (student, teacher)]
        expected += reference.contrast(*parts, dimensions, rows, 1.5)
    found = model.losses(outputs, batch)["contrast"]
    assert found.item() == pytest.approx(2.0 * expected / 2, rel=1e-4)


def test_the_prediction_is_the_mean_of_those_present_and_the_fusion():
    model, batch = toy_model("di_mml", certainty=0.3).eval(), toy_batch()
    outputs = model(batch)
    logits = outputs.state.tensors
    for row in range(2):  # the first one lacks vision
        names = [n for n in NAMES if batch.present[n][row]] + [FUSION]
        rows = np.array([logits[name][row].tolist() for name in names])
        weights = reference.certainty_weights(rows, [True] * len(names), 0.3)
        assert outputs.logits[row].tolist() == pytest.approx((np.array(weights) @ rows).tolist(), abs=1e-5)


def test_the_contrast_draws_the_student_to_its_teacher_which_stays():
    """The audio shows what the text shows, and nothing else is learned."""
    batch = toy_batch(modalities=PAIR, n=8, missing=False)
    batch.features["audio"], batch.lengths["audio"] = 2 * batch.features["text"][:, :, :4], batch.lengths["text"]
    options = {"class_weight": 0.0, "score_weight": 0.0, "start": 3, "temperature": 0.1}
    model = toy_model("di_mml", modalities=PAIR, **options)
    steps(model, batch, 3, rate=0.0)
    model.effective.copy_(torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool())
    teacher, student = encoder(model, "text"), encoder(model, "audio")
    before = steps(model, batch, 1, rate=0.5)["contrast"].item()
    assert steps(model, batch, 25, rate=0.5)["contrast"].item() < 0.5 * before
    assert torch.equal(encoder(model, "text"), teacher)
    assert not torch.equal(encoder(model, "audio"), student)
