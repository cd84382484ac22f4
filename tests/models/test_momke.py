"""MoMKE: its parts against loops, its two stages, and what a modality has of the other's transformer."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.base import build_model
from pase_msa.models.momke import Block, mix
from pase_msa.task import Task
from tests.reference import momke
from tests.toys import NAMES, toy_batch, toy_model

JOINT = ("routers.", "residual.", "head.")  # what the second stage trains and the first does not


def test_the_router_mixes_as_a_naive_sum():
    torch.manual_seed(0)
    parts, scores = torch.randn(3, 5, 4), torch.randn(5, 3)
    ours = mix(parts, scores.softmax(1)).numpy()
    np.testing.assert_allclose(ours, momke.mixture(parts.numpy(), scores.numpy()), atol=1e-5)


def test_a_router_that_is_sure_gives_what_its_expert_says():
    torch.manual_seed(0)
    parts = torch.randn(3, 5, 4)
    torch.testing.assert_close(mix(parts, torch.eye(3)[[1] * 5]), parts[1])


def test_a_block_is_that_of_naive_loops():
    torch.manual_seed(0)
    layer, inputs = Block(4, 2, 0.0).eval(), torch.randn(5, 4)
    seen = [[0, 2], [1], [0, 2], [1, 3, 4], [4]]
    mask = torch.tensor([[j in row for j in range(5)] for row in seen])
    maps = {"first": layer.feed[0], "second": layer.feed[3], "o": layer.output}
    weights = {name: part.weight.detach().numpy() for name, part in maps.items()}
    weights |= {f"{name}_bias": part.bias.detach().numpy() for name, part in maps.items()}
    for place, name in enumerate("qkv"):
        rows = slice(4 * place, 4 * place + 4)
        weights[name] = layer.project.weight[rows].detach().numpy()
        weights[f"{name}_bias"] = layer.project.bias[rows].detach().numpy()
    with torch.no_grad():
        ours = layer(inputs, mask).numpy()
    np.testing.assert_allclose(ours, momke.block(inputs.numpy(), seen, weights, 2), atol=1e-5)


def in_stage(number, **options):
    model = toy_model("momke", layers=1, unimodal_epochs=2, **options)
    for _ in range(2 * number - 1):  # the first epoch of the stage
        model.begin_epoch()
    return model


@pytest.mark.parametrize("stage", [1, 2])
def test_each_stage_trains_its_own_parts(stage):
    model, batch = in_stage(stage), toy_batch()
    losses = model.losses(model(batch), batch)
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    moved = {name for name, gradient in gradients.items() if gradient is not None and gradient.any()}
    assert any(name.startswith(JOINT) for name in moved) == (stage == 2)
    assert any(name.startswith("heads.") for name in moved) == (stage == 1)
    assert any(name.startswith("experts.") for name in moved)


def test_the_stages_follow_the_epochs_also_in_a_model_that_was_saved():
    model = toy_model("momke", layers=1, unimodal_epochs=2)
    seen = []
    for _ in range(4):
        model.begin_epoch()
        seen.append(bool(model.joint_stage))
    assert seen == [False, False, True, True]
    other = toy_model("momke", layers=1, unimodal_epochs=2)
    other.load_state_dict(model.state_dict())
    assert bool(other.joint_stage)


def test_the_first_stage_predicts_the_mean_over_the_modalities_present():
    model, batch = in_stage(1).eval(), toy_batch()
    with torch.no_grad():
        outputs = model(batch)
        alone = [model(batch.only([name])).logits for name in NAMES]
    torch.testing.assert_close(outputs.logits[1:], torch.stack(alone)[:, 1:].mean(0))
    torch.testing.assert_close(outputs.logits[0], torch.stack(alone)[:2, 0].mean(0), msg="vision is absent")


def test_an_utterance_attends_to_its_conversation_only():
    model, batch = in_stage(2).eval(), toy_batch()
    changed = {name: value.clone() for name, value in batch.features.items()}
    changed["text"][2] += 1.0  # of video 1, which has rows 2 and 3
    with torch.no_grad():
        before, after = model(batch).logits, model(dataclasses.replace(batch, features=changed)).logits
    differs = (before - after).abs().amax(1) > 1e-6
    assert differs.nonzero().flatten().tolist() == [2, 3]


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(PaSEError, match=r"a multiple of model\.heads, found 6 and 4"):
        toy_model("momke", width=6, heads=4)


class Noise(nn.Module):
    """A transformer that says nothing of its input."""

    def forward(self, inputs, seen):
        return torch.randn_like(inputs)


def planted(n=120):
    """Two modalities that tell the class by the same map, with noise."""
    rng = np.random.default_rng(0)
    labels, centres = rng.integers(0, 3, n), rng.normal(0, 1, (3, 6))
    features = {
        name: torch.from_numpy(centres[labels] + rng.normal(0, 0.8, (n, 6))).float().unsqueeze(1) for name in "ab"
    }
    ones = {name: torch.ones(n, dtype=torch.long) for name in features}
    present = {name: torch.ones(n, dtype=torch.bool) for name in features}
    return Batch(features, ones, present, torch.from_numpy(labels).float())


@pytest.mark.parametrize(("useless", "other"), [("a", 1), ("b", 0)])
def test_a_modality_whose_own_transformer_is_useless_goes_through_the_others(useless, other):
    torch.manual_seed(0)
    inputs = {name: InputSpec(6, options={"hidden": 8, "dropout": 0.0}) for name in "ab"}
    options = {"width": 8, "layers": 1, "unimodal_epochs": 0, "dropout": 0.0}
    model = build_model("momke", Task.classification(("a", "b"), ("x", "y", "z")), inputs, options)
    model.experts[useless] = Noise()
    model.begin_epoch()
    optimizer, batch = torch.optim.Adam(model.parameters(), 0.03), planted()
    for _ in range(40):
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    routed = model.routers[useless](model.eval()(batch).vectors[useless]).softmax(1).mean(0)
    assert routed[other] > 0.7
