"""KEBR: its constraint and its fusion against NumPy, and where the constraint holds the similarities."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.errors import PaSEError
from pase_msa.models.kebr import CrossAttention, similarity_constraint
from tests.reference import kebr
from tests.toys import NAMES, toy_batch, toy_model


def constraint(*similarities, target=0.1):
    values = torch.tensor([similarities])
    return float(similarity_constraint(values, torch.ones_like(values, dtype=torch.bool), target))


def maps_of(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def side_maps(side):
    return {name: maps_of(getattr(side, name)) for name in ("query", "key", "value", "output")}


@pytest.mark.parametrize(
    ("similarities", "value"),
    [
        ((0.0, 0.0), 0.309),
        ((0.1, 0.1), 0.0),
        ((0.6, 0.6), 1.0),
        ((1.0, 1.0), 0.309),
        ((1.0, 0.0), 0.05),
        ((-0.01, 0.1), 1.11),
    ],
)
def test_the_constraint_has_the_values_of_the_formula(similarities, value):
    assert constraint(*similarities) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("similarities", [(0.3,), (0.0, 0.4), (0.2, -0.3), (0.1, 0.5, 0.25), (-0.1, -0.2, 0.9)])
def test_the_constraint_is_that_of_a_naive_sum(similarities):
    assert constraint(*similarities, target=0.2) == pytest.approx(kebr.constraint(similarities, 0.2), abs=1e-5)


def test_a_similarity_that_is_not_there_has_no_part():
    values, here = torch.tensor([[0.3, -0.5], [0.2, 0.4]]), torch.tensor([[True, False], [False, False]])
    found = similarity_constraint(values, here, 0.1)
    assert found.tolist() == pytest.approx([kebr.constraint([0.3], 0.1), 0.0], abs=1e-6)


@pytest.mark.parametrize(("start", "direction"), [(0.02, -1), (0.3, 1)])
def test_the_slope_leads_to_the_target_from_both_sides(start, direction):
    values = torch.tensor([[start, start]], requires_grad=True)
    similarity_constraint(values, torch.ones(1, 2, dtype=torch.bool), 0.1).sum().backward()
    assert (values.grad.sum() * direction) > 0


def test_attention_is_that_of_a_naive_loop_and_reads_no_padding():
    side = CrossAttention(4, 3)
    states, frames = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    valid = torch.arange(5) < torch.tensor([[2], [0]])
    found = side(states, frames, valid).detach().numpy()
    expected = kebr.cross_attention(states[0].numpy(), frames[0, :2].numpy(), side_maps(side))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert not found[1].any()


@pytest.mark.parametrize("passes", [1, 4])
def test_the_fused_vector_is_that_of_one_layer_applied_again_and_again(passes):
    model, batch = toy_model("kebr", passes=passes).eval(), toy_batch(n=4, missing=False)
    frames, valid, _ = model.encode_frames(batch)
    outputs = model(batch)
    for row in range(4):
        kept = {name: frames[name][row, valid[name][row]].detach().numpy() for name in NAMES}
        sides = [(kept[name], side_maps(model.sides[name])) for name in ("audio", "vision")]
        mean, cosines = kebr.fused(kept["text"], sides, maps_of(model.mix), passes)
        np.testing.assert_allclose(outputs.fused[row].detach(), mean, atol=1e-4)
        np.testing.assert_allclose(outputs.state.tensors["similarity"][row].detach(), cosines, atol=1e-4)


def test_without_the_anchor_the_others_fill_a_learned_frame():
    model, batch = toy_model("kebr").eval(), toy_batch(missing=False)
    both, audio = model.network_coalitions(batch, [frozenset(["audio", "vision"]), frozenset(["audio"])])
    assert not torch.allclose(both.probabilities, audio.probabilities)
    assert model.losses(audio, batch)["balance"] == 0


def test_the_constraint_moves_the_anchor_and_not_what_it_is_compared_with():
    model, batch = toy_model("kebr", modalities=NAMES[:2], passes=1), toy_batch(modalities=NAMES[:2], missing=False)
    with torch.no_grad():
        model.sides["audio"].output.weight.zero_()  # nothing of the sound gets into the states
    model.losses(model(batch), batch)["balance"].backward()
    reached = {name: model.encoders[name].output.weight.grad for name in NAMES[:2]}
    assert reached["text"].abs().sum() > 0
    assert not reached["audio"].abs().sum()


def test_another_modality_can_be_the_anchor():
    assert set(toy_model("kebr", anchor="vision").sides) == {"text", "audio"}


def test_an_anchor_that_the_task_lacks_is_refused():
    with pytest.raises(
        PaSEError, match=r"anchor of kebr is to be 'sound', which the task lacks \(text, audio, vision\)"
    ):
        toy_model("kebr", anchor="sound")


def test_the_constraint_holds_every_modality_near_the_target_whatever_its_strength():
    torch.manual_seed(0)
    batch = toy_batch(n=16, missing=False)
    features = {name: value.clone() for name, value in batch.features.items()}
    features["audio"] = features["audio"] * 0.2 + batch.labels.view(-1, 1, 1)  # a strong one; vision is noise
    batch = dataclasses.replace(batch, features=features)

    def similarities(balance):
        model = toy_model("kebr", width=16, balance=balance, passes=1)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(40):
            losses = model.losses(model(batch), batch)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        return model.eval()(batch).state.tensors["similarity"].detach()

    held, free = similarities(3.0), similarities(0.0)
    assert (held.mean(0) - 0.1).abs().max() < 0.05
    assert (free - 0.1).abs().mean() > 3 * (held - 0.1).abs().mean()
