"""Semi-IIN, masks only: masks, unit and gate against naive loops, and what each branch can and cannot see."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.base import build_model
from pase_msa.models.semi_iin import Gate, Unit, branch_masks
from pase_msa.task import Task
from tests.reference import semi_iin
from tests.toys import NAMES, toy_batch, toy_model

OWNERS = [None, None, "text", "text", "text", "audio", "audio", "vision"]
VALID = [
    [1, 1, 1, 1, 1, 1, 1, 1],
    [1, 1, 1, 1, 0, 1, 0, 0],
    [1, 1, 0, 0, 0, 1, 1, 0],
    [1, 1, 0, 0, 0, 0, 0, 0],
]
PLACE = {"summaries": slice(0, 2), "text": slice(2, 5), "audio": slice(5, 7), "vision": slice(7, 8)}


def masks(valid):
    owner = torch.tensor([-1 if name is None else NAMES.index(name) for name in OWNERS])
    return branch_masks(owner, torch.tensor(valid, dtype=torch.bool))


def pair(module):
    return module.weight.detach().double().numpy(), module.bias.detach().double().numpy()


def test_masks_are_those_of_naive_loops():
    for ours, which in zip(masks(VALID), (0, 1), strict=True):
        expected = np.array([semi_iin.masks(OWNERS, row)[which] for row in VALID])
        np.testing.assert_array_equal(ours, expected)


def test_every_token_of_every_utterance_attends_to_something():
    assert all(bool(mask.any(2).all()) for mask in masks(VALID))


def test_a_frame_that_is_not_there_is_attended_to_by_none():
    absent = ~torch.tensor(VALID, dtype=torch.bool).unsqueeze(1)
    assert not any(bool((mask & absent).any()) for mask in masks(VALID))


@pytest.mark.parametrize("branch", [0, 1], ids=["intra", "inter"])
def test_a_unit_is_that_of_a_naive_loop(branch):
    unit, z, allowed = Unit(4, 2, 0.0).eval(), torch.randn(4, len(OWNERS), 4), masks(VALID)[branch]
    weight, bias = pair(unit.project)
    maps = {n: (weight[4 * i : 4 * i + 4], bias[4 * i : 4 * i + 4]) for i, n in enumerate("qkv")}
    maps |= {"o": pair(unit.output), "expand": pair(unit.expand), "reduce": pair(unit.reduce)}
    with torch.no_grad():
        found = unit(z, allowed)
    for row in range(len(z)):
        expected = semi_iin.unit(z[row].double().numpy(), allowed[row].numpy(), maps, 2)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_the_gate_is_that_of_a_naive_loop():
    gate, intra, inter = Gate(3), torch.randn(2, 3), torch.randn(2, 3)
    weights = (*pair(gate.intra), gate.inter.weight.detach().double().numpy())
    with torch.no_grad():
        found, share = gate(intra, inter)
    assert bool(((share > 0) & (share < 1)).all())
    for row in range(2):
        expected = semi_iin.blend(intra[row].double().numpy(), inter[row].double().numpy(), *weights)
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


def moved_by(change, branch, units=1):
    """Parts of the sequence that are not the same any more after a change of another part."""
    unit, z, allowed = Unit(4, 1, 0.0).eval(), torch.randn(1, len(OWNERS), 4), masks(VALID[:1])[branch]
    other = z.clone()
    other[:, change] += torch.randn_like(other[:, change])
    for _ in range(units):
        z, other = unit(z, allowed), unit(other, allowed)
    return {name for name, cut in PLACE.items() if not torch.equal(z[:, cut], other[:, cut])}


def test_in_one_unit_a_modality_moves_itself_and_the_summaries_in_the_intra_branch():
    assert moved_by(PLACE["vision"], 0) == {"vision", "summaries"}


def test_in_two_units_it_moves_all_through_the_summaries():
    assert moved_by(PLACE["vision"], 0, units=2) == set(PLACE)


def test_in_one_unit_of_the_inter_branch_a_frame_moves_no_other_frame_of_its_modality():
    unit, z, allowed = Unit(4, 1, 0.0).eval(), torch.randn(1, len(OWNERS), 4), masks(VALID[:1])[1]
    other = z.clone()
    other[:, 5] += torch.randn(4)
    moved = (unit.attention(z, allowed) != unit.attention(other, allowed)).any(2)[0]
    assert moved.tolist() == [place != 6 for place in range(len(OWNERS))]


def test_with_one_unit_of_the_same_weights_both_branches_give_the_same_summaries():
    model, batch = toy_model("semi_iin", layers=1).eval(), toy_batch(missing=False)
    model.inter.load_state_dict(model.intra.state_dict())

    def difference():
        """Of the blend from the intra branch, by a gate that is open to the inter branch."""
        fused = []
        for bias in (-50.0, 50.0):
            torch.nn.init.constant_(model.gates[0].intra.bias, bias)
            fused.append(model(batch).fused)
        return float((fused[0] - fused[1]).abs().max().detach())

    assert difference() < 1e-5
    model.config = dataclasses.replace(model.config, layers=2)
    assert difference() > 1e-3


def test_a_score_has_a_summary_of_its_own_and_classes_have_not():
    batch = toy_batch()
    model = toy_model("semi_iin", intensity=0.6)
    with torch.no_grad():
        model.intensity.weight.zero_()
        model.intensity.bias.fill_(1.0)
    losses = model.losses(model(batch), batch)
    assert float(losses["intensity"].detach()) == pytest.approx(0.6 * float((batch.labels - 1).square().mean()))
    of_classes, batch = toy_model("semi_iin", "classification"), toy_batch("classification")
    assert "intensity" not in of_classes.losses(of_classes(batch), batch)


def test_positions_behind_the_last_one_are_that_one():
    model, batch = toy_model("semi_iin", modalities=NAMES[:1], steps=2).eval(), toy_batch(modalities=NAMES[:1])
    frames = torch.zeros(1, 4, 6)
    placed = model.places[NAMES[0]](frames)
    assert torch.equal(placed[:, 1], placed[:, 3])
    assert not torch.equal(placed[:, 0], placed[:, 1])
    assert model(batch).probabilities.isfinite().all()


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(PaSEError, match="a multiple of"):
        toy_model("semi_iin", heads=4)


def pair_batch(n=64, steps=2):
    """Two signs, one for each modality, whose product is the class."""
    signs = torch.randint(0, 2, (2, n)) * 2 - 1
    code = torch.tensor([1.0, -1.0, 0.5])
    features = {
        name: sign.view(-1, 1, 1) * code + 0.3 * torch.randn(n, steps, 3)
        for name, sign in zip(("audio", "vision"), signs, strict=True)
    }
    lengths = {name: torch.full((n,), steps) for name in features}
    here = {name: torch.ones(n, dtype=torch.bool) for name in features}
    return Batch(features, lengths, here, (signs.prod(0) > 0).float())


def test_what_two_modalities_tell_together_only_is_learned():
    names = ("audio", "vision")
    task = Task.classification(names, ("other", "same"))
    inputs = {name: InputSpec(3, options={"hidden": 12, "dropout": 0.0}) for name in names}
    model, train, new = build_model("semi_iin", task, inputs, {"width": 12, "dropout": 0.0}), pair_batch(), pair_batch()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(30):
        losses = model.losses(model(train), train)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    def accuracy(batch):
        return float((model.eval()(batch).logits.argmax(1) == batch.labels).float().mean())

    assert accuracy(new) > 0.95
    assert all(accuracy(new.only([name])) < 0.7 for name in names)
