"""ReconBoost: its losses against a naive sum, whose turn it is, and which rows count less."""

import math

import pytest
import torch

from pase_msa.errors import PaSEError
from pase_msa.models.base import build_model
from pase_msa.models.reconboost import stage_losses, stage_of
from tests.reference import reconboost as reference
from tests.toys import NAMES, toy_batch, toy_inputs, toy_model, toy_task


def in_stage(name, kind="regression", modalities=NAMES, **options):
    """A model in the first stage of a modality."""
    model = toy_model("reconboost", kind, modalities, **options).train()
    for _ in range(2 * modalities.index(name) + 1):
        model.begin_epoch()
    return model


def plain(named):
    return {name: value.tolist() for name, value in named.items()}


def test_a_row_loses_what_the_others_explain():
    zeros, membership = torch.zeros(2, 2), torch.eye(2)
    explained = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
    found = stage_losses(zeros, explained, membership, 1.0, 0.25)
    assert found.tolist() == pytest.approx([0.8 * math.log(2) / 2, 0.95 * math.log(2) / 2])


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_stage_is_that_of_a_naive_sum(kind, name):
    model, batch = in_stage(name, kind, own=2.0, rest=1.5), toy_batch(kind)
    with torch.no_grad():
        model.scale.fill_(0.7)
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    logits, present = plain(outputs.state.tensors), plain(batch.present)
    membership = model.task.membership(batch.labels).tolist()
    expected = reference.stage_loss(name, logits, present, membership, 0.7, 2.0, 1.5)
    assert losses[f"stage/{name}"].item() == pytest.approx(expected, rel=1e-5)
    before = NAMES[NAMES.index(name) - 1]
    both = [a and b for a, b in zip(present[name], present[before], strict=True)]
    distance = reference.alignment(logits[name], logits[before], both)
    assert losses["alignment"].item() == pytest.approx(distance / 2, rel=1e-4)


def test_a_row_without_another_modality_counts_in_full():
    model, batch = in_stage("text", modalities=NAMES[:2], rest=1.0), toy_batch(modalities=NAMES[:2], missing=False)
    batch.present["audio"][:] = False
    outputs = model(batch)
    alone = -(model.task.membership(batch.labels) * outputs.state.tensors["text"].log_softmax(1)).mean(1).mean()
    assert model.losses(outputs, batch)["stage/text"].item() == pytest.approx(alone.item())


def test_a_modality_without_others_learns_by_the_plain_cross_entropy():
    model, batch = in_stage("text", modalities=NAMES[:1], own=2.0, rest=1.0), toy_batch(modalities=NAMES[:1])
    outputs = model(batch)
    expected = -(model.task.membership(batch.labels) * outputs.state.tensors["text"].log_softmax(1)).mean(1).mean()
    losses = model.losses(outputs, batch)
    assert losses["stage/text"].item() == pytest.approx(2 * expected.item())
    assert set(losses) == {"stage/text"}


def test_the_slope_of_the_scale_is_that_of_a_naive_sum():
    model, batch = toy_model("reconboost", "classification").train(), toy_batch("classification")
    outputs = model(batch)
    torch.stack(list(model.losses(outputs, batch).values())).sum().backward()
    sums = torch.stack(list(outputs.state.tensors.values())).sum(0).tolist()
    expected = reference.scale_slope(sums, model.task.membership(batch.labels).tolist(), 1.0)
    assert model.scale.grad.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("k", "stage", "rectify"), [(1, 1, 1), (2, 1, 2), (3, 4, 4), (3, 2, 1)])
def test_modalities_have_their_turns_in_order(k, stage, rectify):
    found = [stage_of(epoch, NAMES[:k], stage, rectify) for epoch in range(1, 40)]
    assert found == reference.turns(NAMES[:k], stage, rectify, 39)
    assert stage_of(0, NAMES[:k], stage, rectify) is None


@pytest.mark.parametrize("name", NAMES)
def test_in_its_stage_one_modality_alone_is_trained(name):
    model, batch = in_stage(name), toy_batch()

    def trained():
        model.zero_grad()
        torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
        return {n for n in NAMES if any(p.grad is not None and p.grad.any() for p in model.encoders[n].parameters())}

    assert trained() == {name}
    assert model.scale.grad == 0
    model.begin_epoch()
    assert trained() == set(NAMES)


def test_a_row_that_the_others_get_right_moves_nothing_where_both_weights_are_equal():
    logits = torch.randn(2, 3, requires_grad=True)
    membership = torch.eye(3)[:2]
    stage_losses(logits, torch.stack([membership[0], torch.full((3,), 1 / 3)]), membership, 1.0, 1.0).sum().backward()
    assert torch.equal(logits.grad[0], torch.zeros(3))
    assert logits.grad[1].abs().min() > 0.01


def test_after_some_turns_a_modality_looks_to_the_rows_that_the_other_gets_wrong():
    """The text tells the class in the first half of the rows, the audio in the second."""
    names = NAMES[:2]
    batch = toy_batch("classification", names, n=60, missing=False)
    for name, rows in (("text", slice(0, 30)), ("audio", slice(30, 60))):
        told = torch.eye(3)[batch.labels[rows].long()] * 3
        batch.features[name][rows, :, :3] = told.unsqueeze(1)
        batch.lengths[name][:] = 4
    model = toy_model("reconboost", "classification", names, own=1.0, rest=1.0, alignment=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(2 * 4):
        model.begin_epoch()
        for _ in range(4):
            optimizer.zero_grad()
            torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
            optimizer.step()
    for _ in range(3):
        model.begin_epoch()  # the third one is the stage of the audio

    def pull(rest):
        model.config.rest = rest
        outputs = model(batch)
        loss = model.losses(outputs, batch)["stage/audio"]
        return torch.autograd.grad(loss, outputs.vectors["audio"])[0].norm(dim=1)

    weight = pull(1.0) / pull(0.0)  # of each row, beside that of the plain cross-entropy
    assert weight[30:].mean() > 2 * weight[:30].mean()


def test_a_resumed_run_goes_on_with_the_same_turn():
    model, other = in_stage("audio"), toy_model("reconboost", seed=1)
    other.load_state_dict(model.state_dict())
    batch = toy_batch()
    for each in (model, other):
        each.begin_epoch()
        each.begin_epoch()
    assert set(other.losses(other(batch), batch)) == {"stage/vision", "alignment"}
    assert set(model.losses(model(batch), batch)) == {"stage/vision", "alignment"}


def test_a_weight_that_could_be_negative_is_refused():
    with pytest.raises(PaSEError, match=r"model\.rest is at most model\.own \(1\.0\), found 2\.0"):
        build_model("reconboost", toy_task(), toy_inputs(), {"rest": 2.0})
