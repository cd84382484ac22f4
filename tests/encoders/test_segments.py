"""Long sequences as segments: padding, batch and layout leave no trace, and the order of frames is still seen."""

import pytest
import torch

from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.base import build_encoders
from pase_msa.encoders.layout import Layout
from pase_msa.encoders.sequence import Config, SequenceEncoder
from pase_msa.errors import PaSEError
from pase_msa.models.saving import load_model, save_model
from tests.toys import toy_batch, toy_model

DIM, WIDTH = 3, 5
each_stride = pytest.mark.parametrize("stride", [1, 2, 5])
each_pooling = pytest.mark.parametrize("pooling", ["attention", "mean"])


def encoder(stride, pooling="attention", local=4, dropout=0.0):
    torch.manual_seed(0)
    return SequenceEncoder(DIM, WIDTH, Config(6, 1, pooling, dropout, stride, local)).eval()


def sequences(lengths, steps=None, padding=0.0):
    result = torch.full((len(lengths), steps or max(lengths), DIM), padding)
    for row, length in enumerate(lengths):
        result[row, :length] = torch.randn(length, DIM, generator=torch.Generator().manual_seed(row))
    return result, torch.tensor(lengths)


@each_stride
@each_pooling
@pytest.mark.parametrize("steps", [12, 15, 31])
def test_padding_and_what_it_holds_change_no_vector(stride, pooling, steps):
    module = encoder(stride, pooling)
    tight, loose = module(*sequences([12, 1, 5, 10])), module(*sequences([12, 1, 5, 10], steps, padding=7.0))
    assert torch.allclose(tight, loose, atol=1e-5)


@each_stride
def test_a_vector_does_not_depend_on_its_batch(stride):
    module = encoder(stride)
    features, lengths = sequences([4, 1, 11, 10, 5])
    alone = [module(features[i : i + 1, : lengths[i]], lengths[i : i + 1]) for i in range(len(lengths))]
    assert torch.allclose(module(features, lengths), torch.cat(alone), atol=1e-5)


@each_stride
@each_pooling
def test_a_tight_and_a_padded_list_give_the_same(stride, pooling):
    module = encoder(stride, pooling)
    features, lengths = sequences([4, 0, 11, 10])
    padded = Layout.padded(lengths, stride, features.shape[1])
    segments = padded.place_padded(features)
    rows = module._states(segments * padded.inside().unsqueeze(2), padded)
    assert torch.allclose(module(features, lengths), module._vector(module._pool(rows, padded)), atol=1e-5)


@each_stride
def test_frames_of_a_tight_and_a_padded_list_have_the_same_mask(stride):
    features, lengths = sequences([4, 0, 11, 10])
    frames, mask = encoder(stride).frames(features, lengths)
    assert frames.shape == (4, -(-11 // stride), WIDTH)
    assert mask.sum(1).tolist() == [-(-n // stride) for n in (4, 0, 11, 10)]


@each_stride
def test_the_gradient_reaches_every_valid_step_and_no_padding(stride):
    features, lengths = sequences([7, 11])
    features.requires_grad_()
    encoder(stride)(features, lengths).square().sum().backward()
    assert (features.grad[0, :7].norm(dim=1) > 0).all()
    assert (features.grad[0, 7:] == 0).all()


def test_the_convolution_over_rows_is_that_of_torch():
    module = encoder(1).double()
    rows = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    convolution = module.convolutions[0]
    expected = convolution(rows.t()[None])[0].t()
    from pase_msa.encoders.sequence import _convolve

    found = _convolve(rows, convolution.weight, convolution.bias)
    assert torch.allclose(found, expected)
    inputs = (rows, convolution.weight, convolution.bias)
    slope = torch.randn(9, 6, dtype=torch.float64)
    for mine, other in zip(
        torch.autograd.grad(found, inputs, slope), torch.autograd.grad(expected, inputs, slope), strict=True
    ):
        assert torch.allclose(mine, other)


def test_the_order_of_frames_within_a_segment_is_seen():
    module = encoder(10)
    features, lengths = sequences([10])
    assert not torch.allclose(module(features, lengths), module(features.flip(1), lengths), atol=1e-4)


def test_without_local_channels_a_segment_is_a_mean():
    module = encoder(10, local=0)
    features, lengths = sequences([10])
    assert torch.allclose(module(features, lengths), module(features.flip(1), lengths), atol=1e-5)


@pytest.mark.parametrize(("steps", "stride"), [(None, 1), (1, 1), (64, 1), (65, 3), (476, 15)])
def test_the_stride_follows_from_the_usual_number_of_steps(steps, stride):
    assert build_encoders({"audio": InputSpec(DIM, steps=steps)}, WIDTH)["audio"].stride == stride


@pytest.mark.parametrize("stride", [1, 4])
def test_dropout_takes_a_channel_of_a_whole_sequence(stride):
    module = encoder(stride, local=0, dropout=0.5).train()
    features = torch.ones(1, 20, DIM)
    module.convolutions = torch.nn.ModuleList()
    layout, segments = module._segments(features, torch.tensor([20]))
    states = module._states(segments, layout)[: 20 // stride]
    assert torch.equal(states, states[:1].expand_as(states))


def test_bfloat16_goes_through():
    module = encoder(3).train()
    with torch.autocast("cpu", torch.bfloat16):
        module(*sequences([4, 0, 11])).float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("options", [{"stride": 0}, {"local": -1}])
def test_an_impossible_size_is_refused(options):
    with pytest.raises(PaSEError, match=r"is a whole number .*, found"):
        build_encoders({"audio": InputSpec(DIM, options=options)}, WIDTH)


def test_a_model_that_was_saved_before_there_were_segments_predicts_the_same(tmp_path):
    import json

    model, batch = toy_model().eval(), toy_batch()
    expected = model(batch).logits
    save_model(model, tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    for spec in content["inputs"].values():
        del spec["steps"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert torch.equal(load_model(tmp_path)(batch).logits, expected)
