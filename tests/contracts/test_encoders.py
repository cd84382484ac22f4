"""What every encoder on disk keeps to: a sequence and its length become frames, where it has any, and one vector."""

import copy

import pytest
import torch

from pase_msa import plugins
from pase_msa.data.inputs import InputSpec
from pase_msa.data.transcripts import TextConfig, resolve_text
from pase_msa.encoders.base import Encoder, build_encoders
from pase_msa.errors import PaSEError
from tests.toys import make_bert

ENCODERS = plugins.names("encoders")
DIM, WIDTH, LENGTHS = 3, 5, [4, 1, 6, 2]

each_encoder = pytest.mark.parametrize("name", ENCODERS)


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory):
    """What an encoder is built from: real features, or token ids for one that refuses these."""
    folder = make_bert(tmp_path_factory.mktemp("bert"))
    text = resolve_text(TextConfig(model=str(folder), frozen=False), ["good film", "bad"])

    def spec(name, **options):
        try:
            build_encoders({"one": InputSpec(DIM, name)}, WIDTH)
        except PaSEError:
            return InputSpec(0, name, options, dict(text))
        return InputSpec(DIM, name, options)

    return spec


@pytest.fixture
def built(spec_of):
    """An encoder by name, without dropout, and the features of sequences that fit it."""

    def build(name, lengths=LENGTHS, more=0):
        torch.manual_seed(0)
        spec = spec_of(name)
        encoder = build_encoders({"one": spec}, WIDTH)["one"].eval()
        return encoder, *sequences(spec, lengths, max(lengths) + more)

    return build


def sequences(spec, lengths, steps):
    """Padded sequences; they begin the same, however they are padded."""
    shape = (steps, spec.dim) if spec.dim else (steps,)
    features = torch.zeros(len(lengths), *shape, dtype=torch.float32 if spec.dim else torch.long)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(row)
        if spec.dim:
            features[row, :length] = torch.randn(length, spec.dim, generator=generator)
        else:
            features[row, :length] = torch.randint(5, 13, (length,), generator=generator)
    return features, torch.tensor(lengths)


def test_there_are_encoders():
    assert {"sequence", "language_model"} <= set(ENCODERS)


@each_encoder
def test_a_sequence_becomes_a_vector_of_the_width_asked_for(name, built):
    encoder, features, lengths = built(name)
    assert isinstance(encoder, Encoder)
    vectors = encoder(features, lengths)
    assert vectors.shape == (len(LENGTHS), WIDTH)
    assert vectors.isfinite().all()


@each_encoder
def test_the_gradient_reaches_every_parameter_and_is_finite(name, built):
    encoder, features, lengths = built(name)
    encoder.train()
    encoder(features, lengths).square().sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert any(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


@each_encoder
@pytest.mark.parametrize("more", [1, 5])
def test_padding_changes_no_vector(name, built, more):
    encoder, features, lengths = built(name)
    padded = built(name, more=more)[1]
    assert padded.shape[1] == features.shape[1] + more
    assert torch.allclose(encoder(features, lengths), encoder(padded, lengths), atol=1e-5)


@each_encoder
def test_the_content_of_the_padding_changes_no_vector(name, built):
    encoder, features, lengths = built(name, more=2)
    other = features.clone()
    for row, length in enumerate(LENGTHS):
        other[row, length:] = 7
    assert torch.allclose(encoder(features, lengths), encoder(other, lengths), atol=1e-5)


@each_encoder
def test_a_vector_does_not_depend_on_its_batch(name, built):
    encoder, features, lengths = built(name)
    rows = [encoder(features[i : i + 1, : lengths[i]], lengths[i : i + 1]) for i in range(len(LENGTHS))]
    assert torch.allclose(torch.cat(rows), encoder(features, lengths), atol=1e-5)


@each_encoder
@pytest.mark.parametrize("steps", [1, 4])
def test_an_absent_sequence_has_a_finite_vector_and_a_finite_gradient(name, built, steps):
    encoder, features, _ = built(name, [steps, steps])
    vectors = encoder(features, torch.tensor([steps, 0]))
    vectors.sum().backward()
    assert vectors.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


@each_encoder
def test_frames_are_there_where_the_encoder_has_frames_and_refused_elsewhere(name, built):
    encoder, features, lengths = built(name)
    if not encoder.has_frames:
        with pytest.raises(PaSEError, match=r"gives a vector and no frames; give it a method `frames`\.$"):
            encoder.frames(features, lengths)
        return
    frames, valid = encoder.frames(features, lengths)
    padded, _ = encoder.frames(built(name, more=3)[1], lengths)
    assert frames.shape == (*features.shape[:2], WIDTH)
    assert valid.sum(1).tolist() == LENGTHS
    for row, length in enumerate(LENGTHS):
        assert torch.allclose(frames[row, :length], padded[row, :length], atol=1e-5)
    absent, none = encoder.frames(features, torch.zeros_like(lengths))
    assert absent.isfinite().all()
    assert not none.any()


@each_encoder
def test_dropout_acts_in_training_only(name, built):
    encoder, features, lengths = built(name)
    assert torch.equal(encoder(features, lengths), encoder(features, lengths))
    encoder.train()
    assert not torch.equal(encoder(features, lengths), encoder(features, lengths))


@each_encoder
def test_parameters_with_a_rate_of_their_own_are_parameters_of_the_encoder(name, built):
    encoder = built(name)[0]
    rates = list(encoder.learning_rates())
    assert {id(parameter) for parameter, _ in rates} <= {id(parameter) for parameter in encoder.parameters()}
    assert len({id(parameter) for parameter, _ in rates}) == len(rates)
    assert all(rate > 0 for _, rate in rates)


@each_encoder
def test_weights_that_were_saved_give_the_same_vectors(name, built):
    encoder, features, lengths = built(name)
    other = copy.deepcopy(encoder)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    assert not torch.equal(other(features, lengths), encoder(features, lengths))
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(features, lengths), encoder(features, lengths))


@each_encoder
def test_an_unknown_option_is_refused_by_name(name, spec_of):
    with pytest.raises(PaSEError, match=rf"^The {name} encoder of one has no option 'droput'; .*'dropout'\?$"):
        build_encoders({"one": spec_of(name, droput=0.1)}, WIDTH)


@each_encoder
def test_an_option_of_the_wrong_type_is_refused(name, spec_of):
    with pytest.raises(PaSEError, match=rf"^The {name} encoder of one was given an option of the wrong type"):
        build_encoders({"one": spec_of(name, dropout="much")}, WIDTH)
