"""MulT: its layer against NumPy, what it sees of a source, and what order means to it."""

import numpy as np
import pytest
import torch

from pase_msa.errors import PaSEError
from pase_msa.models.mult import Layer, positions
from tests.reference import systems
from tests.toys import NAMES, toy_batch, toy_model

LENGTHS = [3, 1, 0]


def layer_and_weights(width=4):
    layer = Layer(width, 1, 0.0, 0.0).eval()
    maps = {}
    for place, name in enumerate("qkv"):
        rows = slice(place * width, (place + 1) * width)
        maps[name] = layer.attention.in_proj_weight[rows].detach().numpy()
        maps[f"{name}_bias"] = layer.attention.in_proj_bias[rows].detach().numpy()
    for name, part in (("o", layer.attention.out_proj), ("expand", layer.expand), ("reduce", layer.reduce)):
        maps |= {name: part.weight.detach().numpy(), f"{name}_bias": part.bias.detach().numpy()}
    return layer, maps


def test_attention_to_two_keys_is_the_softmax_of_their_products():
    keys = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_allclose(systems.attention(keys[:, :1], keys, keys, [2])[0, 0], [0.6698, 0.3302], atol=1e-4)


def test_a_layer_is_that_of_a_naive_loop():
    layer, weights = layer_and_weights()
    random = np.random.default_rng(0)
    target, source = random.normal(size=(3, 5, 4)), random.normal(size=(3, 4, 4))
    valid = torch.arange(4) < torch.tensor(LENGTHS).unsqueeze(1)
    with torch.no_grad():
        ours = layer(torch.from_numpy(target).float(), torch.from_numpy(source).float(), valid).numpy()
    np.testing.assert_allclose(ours, systems.crossmodal_layer(target, source, LENGTHS, weights), atol=1e-5)


def test_the_order_of_the_sources_frames_counts_by_their_positions_only():
    layer, _ = layer_and_weights()
    torch.manual_seed(0)
    target, source = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    order, valid = torch.tensor([3, 0, 4, 1, 2]), torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(layer(target, source, valid), layer(target, source[:, order], valid))
    place = positions(5, 4)
    assert not torch.allclose(
        layer(target, source + place, valid), layer(target, source[:, order] + place, valid), atol=1e-3
    )


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_positions_differ_and_are_bounded(width):
    place = positions(50, width)
    assert place.shape == (50, width)
    assert place.isfinite().all()
    assert place.abs().max() <= 1
    assert len({tuple(row) for row in place.tolist()}) == 50


def test_positions_begin_at_one_with_the_sines_first():
    place = positions(3, 4)
    expected = [[np.sin(p), np.sin(p / 1e4), np.cos(p), np.cos(p / 1e4)] for p in (1, 2, 3)]
    np.testing.assert_allclose(place, expected, rtol=1e-4)


def test_the_frames_of_an_absent_source_are_never_read():
    model, batch = toy_model("mult", heads=2).eval(), toy_batch()
    batch.present["audio"][:] = False
    before = model(batch).probabilities
    batch.features["audio"] += 100
    torch.testing.assert_close(model(batch).probabilities, before, rtol=0, atol=0)


def test_parameters_of_a_modality_are_those_of_which_it_is_the_target():
    model = toy_model("mult", heads=2)
    own = {id(parameter) for parameter in model.modality_parameters(NAMES[0])}
    assert {id(parameter) for parameter in model.pairs[NAMES[0]].parameters()} <= own
    assert not {id(parameter) for parameter in model.pairs[NAMES[1]][NAMES[0]].parameters()} & own


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(PaSEError, match=r"a multiple of model\.heads, found 6 and 4"):
        toy_model("mult", width=6, heads=4)
