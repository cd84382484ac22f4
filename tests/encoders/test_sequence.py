"""The sequence encoder: padding, batch and path leave no trace."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa import plugins
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.base import build_encoders
from pase_msa.encoders.sequence import Config, SequenceEncoder
from pase_msa.errors import PaSEError

DIM, WIDTH = 3, 5
steady = settings(derandomize=True, deadline=None, max_examples=30)
SHAPES = [(0, "mean"), (0, "attention"), (1, "mean"), (1, "attention"), (3, "attention")]
each_shape = pytest.mark.parametrize(("convolutions", "pooling"), SHAPES)


def encoder(convolutions=1, pooling="attention", dropout=0.0):
    torch.manual_seed(0)
    return SequenceEncoder(DIM, WIDTH, Config(6, convolutions, pooling, dropout)).eval()


def sequences(lengths, steps=None, seed=0, padding=0.0):
    """Padded sequences; those of one seed begin the same, however they are padded."""
    steps = steps or max(lengths)
    result = torch.full((len(lengths), steps, DIM), padding)
    for i, length in enumerate(lengths):
        result[i, :length] = torch.randn(length, DIM, generator=torch.Generator().manual_seed(seed + i))
    return result, torch.tensor(lengths)


@each_shape
@steady
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 6))
def test_padding_does_not_change_the_vector(convolutions, pooling, lengths, more):
    module = encoder(convolutions, pooling)
    tight = module(*sequences(lengths))
    loose = module(*sequences(lengths, max(lengths) + more))
    assert torch.allclose(tight, loose, atol=1e-5)


@each_shape
def test_what_the_padding_holds_does_not_matter(convolutions, pooling):
    module = encoder(convolutions, pooling)
    zeros, sevens = module(*sequences([2, 5, 1], 8)), module(*sequences([2, 5, 1], 8, padding=7.0))
    assert torch.allclose(zeros, sevens, atol=1e-6)


@each_shape
def test_a_vector_does_not_depend_on_its_batch(convolutions, pooling):
    module = encoder(convolutions, pooling)
    features, lengths = sequences([4, 1, 6, 3])
    together = module(features, lengths)
    alone = torch.cat([module(features[i : i + 1, : lengths[i]], lengths[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)


@each_shape
def test_one_step_is_the_general_path_in_short(convolutions, pooling):
    module = encoder(convolutions, pooling)
    assert torch.allclose(module(*sequences([1, 1, 1])), module(*sequences([1, 1, 1], 4)), atol=1e-6)


@each_shape
@pytest.mark.parametrize("steps", [1, 4])
def test_an_absent_sequence_is_finite_and_has_a_finite_gradient(convolutions, pooling, steps):
    module = encoder(convolutions, pooling)
    features, _ = sequences([1, 1], steps)
    vectors = module(features, torch.tensor([1, 0]))
    vectors.sum().backward()
    assert vectors.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


@each_shape
@pytest.mark.parametrize("lengths", [[1, 1], [3, 5]])
def test_the_gradient_reaches_every_valid_step_and_no_padding(convolutions, pooling, lengths):
    features, steps = sequences(lengths)
    features.requires_grad_()
    encoder(convolutions, pooling)(features, steps).square().sum().backward()
    for i, length in enumerate(lengths):
        assert (features.grad[i, :length].norm(dim=1) > 0).all()
        assert (features.grad[i, length:] == 0).all()


def test_mean_pooling_without_convolutions_is_the_mean_of_the_frames():
    module = encoder(0, "mean")
    features, lengths = sequences([3])
    hidden = torch.nn.functional.gelu(module.project(features[0])).mean(0)
    assert torch.allclose(module(features, lengths)[0], module.output(hidden), atol=1e-6)


def test_attention_pooling_without_convolutions_is_a_weighted_mean():
    module = encoder(0, "attention")
    features, lengths = sequences([4])
    hidden = torch.nn.functional.gelu(module.project(features[0]))
    weights = module.attention(hidden).softmax(0)
    assert torch.allclose(module(features, lengths)[0], module.output((weights * hidden).sum(0)), atol=1e-6)


def test_the_order_of_frames_matters_to_a_convolution_only():
    features, lengths = sequences([5])
    reverse = features.flip(1)
    assert torch.allclose(encoder(0)(features, lengths), encoder(0)(reverse, lengths), atol=1e-5)
    assert not torch.allclose(encoder(1)(features, lengths), encoder(1)(reverse, lengths), atol=1e-3)


def test_dropout_acts_in_training_only():
    module, given_ = encoder(dropout=0.5), sequences([3, 2])
    assert torch.equal(module(*given_), module(*given_))
    module.train()
    assert not torch.equal(module(*given_), module(*given_))


def test_a_modality_has_the_encoder_that_its_input_names():
    inputs = {"pose": InputSpec(DIM, options={"hidden": 4}), "face": InputSpec(2)}
    encoders = build_encoders(inputs, WIDTH)
    assert encoders["pose"].project.out_features == 4
    assert encoders["face"].project.in_features == 2


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"a.b": InputSpec(2)}, "'a.b'"),
        ({"": InputSpec(2)}, "empty"),
        ({"pose": InputSpec(2, options={"hiden": 4})}, "did you mean 'hidden'?"),
        ({"pose": InputSpec(2, options={"pooling": "max"})}, "wrong type"),
        ({"pose": InputSpec(2, "sequense")}, "did you mean 'sequence'?"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(inputs, words):
    with pytest.raises(PaSEError) as caught:
        build_encoders(inputs, WIDTH)
    assert words in str(caught.value)


def test_the_sequence_encoder_is_a_plugin():
    assert "sequence" in plugins.names("encoders")
