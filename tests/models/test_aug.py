"""AUG: targets, losses and the comparison against naive sums, and which modality gets more classifiers."""

import pytest
import torch

from pase_msa.models.aug import lengthened, residual_target
from tests.reference import aug as reference
from tests.toys import NAMES, toy_batch, toy_model

PAIR = NAMES[:2]


def with_counts(counts, kind="classification", modalities=NAMES, **options):
    model = toy_model("aug", kind, modalities, **{"hidden": 5, **options}).train()
    model.count.copy_(torch.tensor(counts))
    return model


def test_a_target_loses_what_the_former_classifiers_predict():
    logits = torch.zeros(1, 3, 2)
    logits[0, 2] = torch.tensor([9.0, 0.0])  # of the newest, which does not count
    found = residual_target(logits, torch.tensor([True, True, False]), torch.tensor([[0.0, 1.0]]), 0.5)
    assert found.tolist() == [[0.0, 0.5]]  # 1 - .5 (.5 + .5)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_targets_are_those_of_a_naive_sum(count):
    logits, membership = torch.randn(5, 4, 3) * 3, torch.rand(5, 3).softmax(1)
    found = residual_target(logits, torch.arange(4) < count - 1, membership, 1.0)
    for row, target, value in zip(logits.tolist(), membership.tolist(), found.tolist(), strict=True):
        assert value == pytest.approx(reference.residual_target(row, count, target, 1.0), abs=1e-6)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_the_three_losses_are_those_of_naive_sums(kind):
    counts = [1, 2, 4]
    model, batch = with_counts(counts, kind, score_weight=0.0), toy_batch(kind)
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    membership = model.task.membership(batch.labels).tolist()
    for name, count in zip(NAMES, counts, strict=True):
        chains, here = outputs.state.tensors[name].tolist(), batch.present[name].tolist()
        expected = reference.losses(chains, count, membership, here, 0.5)
        found = [losses[f"{part}/{name}"].item() for part in ("newest", "unimodal", "former")]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_score_of_each_modality_is_trained():
    batch = toy_batch()
    plain, scored = (with_counts([1, 2, 3], "regression", score_weight=weight) for weight in (0.0, 1.0))
    outputs = plain(batch)
    for index, name in enumerate(NAMES):
        here = batch.present[name]
        logits = outputs.state.tensors[name][here, : index + 1].sum(1)
        error = (plain.task.score(logits.softmax(1)) - batch.labels[here]).abs().mean()
        difference = (
            scored.losses(outputs, batch)[f"unimodal/{name}"] - plain.losses(outputs, batch)[f"unimodal/{name}"]
        )
        assert difference.item() == pytest.approx(error.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("probability", "seen", "expected"),
    [
        ([0.9, 0.4, 0.6], [True, True, True], [1, 3, 4]),  # the last one is at its most
        ([0.9, 0.895, 0.2], [True, True, False], [1, 2, 4]),
        ([0.0, 0.4, 0.4], [False, True, True], [1, 2, 4]),
    ],
)
def test_the_one_behind_gets_one_more(probability, seen, expected):
    arguments = [1, 2, 4], probability, seen
    tensors = [torch.tensor(argument) for argument in arguments]
    assert lengthened(*tensors, 1.0, 0.01, 4).tolist() == expected
    assert reference.lengthened(*arguments, 1.0, 0.01, 4) == expected


def test_a_small_factor_lengthens_all_but_the_best():
    arguments = [1, 1, 1], [0.5, 0.4999, 0.3], [True] * 3
    found = lengthened(*[torch.tensor(argument) for argument in arguments], 0.5, 0.01, 4)
    assert found.tolist() == reference.lengthened(*arguments, 0.5, 0.01, 4) == [1, 2, 2]


def test_the_prediction_is_the_mean_over_the_modalities_present():
    model, batch = with_counts([1, 2, 4]).eval(), toy_batch("classification")
    outputs = model(batch)
    sums = [outputs.state.tensors[name][:, :count].sum(1) for name, count in zip(NAMES, (1, 2, 4), strict=True)]
    assert torch.allclose(outputs.logits[0], (sums[0] + sums[1])[0] / 2, atol=1e-6)  # without vision
    assert torch.allclose(outputs.logits[1:], torch.stack(sums).mean(0)[1:], atol=1e-6)


def test_classifiers_before_their_turn_have_no_part():
    model, batch = with_counts([2, 2, 2]).eval(), toy_batch("classification")

    def values():
        outputs = model(batch)
        return torch.cat([outputs.logits.flatten(), torch.stack(list(model.losses(outputs, batch).values()))])

    before = values()
    with torch.no_grad():
        model.chains["text"].weight[2 * 5 :] += 3.0
    assert torch.equal(values(), before)
    with torch.no_grad():
        model.chains["text"].weight[1 * 5 : 2 * 5] += 3.0
    assert not torch.allclose(values(), before)


def test_a_new_classifier_is_trained_and_a_later_one_is_not():
    model, batch = with_counts([1, 3, 1]), toy_batch("classification")
    torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
    moved = model.chains["audio"].weight.grad.unflatten(0, (4, 5)).flatten(1).abs().sum(1)
    assert (moved > 0).tolist() == [True, True, True, False]


def epochs(model, batch, count, steps=5):
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(count):
        model.begin_epoch()
        for _ in range(steps):
            outputs = model(batch)
            losses = model.losses(outputs, batch)
            model.update(outputs, batch)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()


def test_the_weaker_modality_gets_more_classifiers():
    """The text tells the class, the audio is noise."""
    batch = toy_batch("classification", PAIR, n=60, missing=False)
    batch.features["text"][:, :, :3] = 3 * torch.eye(3)[batch.labels.long()].unsqueeze(1)
    batch.lengths["text"][:] = 4
    model = with_counts([1, 1], modalities=PAIR, every=2)
    found = []
    for _ in range(4):
        epochs(model, batch, 2)
        found.append(model.count.tolist())
    assert found == [[1, 1], [1, 2], [1, 3], [1, 4]]


def test_a_modality_that_nobody_had_is_not_compared():
    batch = toy_batch("classification", PAIR).only(["text"])
    model = with_counts([1, 1], modalities=PAIR, every=1)
    epochs(model, batch, 3)
    assert model.count.tolist() == [1, 1]


def test_a_resumed_run_compares_in_the_same_epoch():
    batch = toy_batch("classification", PAIR, n=24)
    model, other = (with_counts([1, 1], modalities=PAIR, every=2, tau=0.0) for _ in range(2))
    epochs(model, batch, 2)
    other.load_state_dict(model.state_dict())
    for each in (model, other):
        each.begin_epoch()
        assert sorted(each.count.tolist()) == [1, 2]
