"""MAG-BERT: the gate against NumPy, how far it shifts, and where it stands."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.data.transcripts import TextConfig, resolve_text
from pase_msa.encoders.layout import resample
from pase_msa.errors import PaSEError
from pase_msa.models.base import build_model
from pase_msa.models.mag_bert import Gate
from tests.reference import systems
from tests.toys import NAMES, WORDS, make_bert, toy_batch, toy_model, toy_task, train_steps


def weights(layer):
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


@pytest.mark.parametrize("beta", [1.0, 1e-2, 0.0])
def test_the_gate_is_that_of_a_naive_loop(beta):
    torch.manual_seed(0)
    gate = Gate({"audio": 2, "vision": 3}, 4, beta, 0.0).double()
    states, frames = torch.randn(1, 5, 4).double(), {"audio": torch.randn(1, 5, 2), "vision": torch.randn(1, 5, 3)}
    frames = {name: part.double() for name, part in frames.items()}
    ours = gate(states, frames, {name: torch.ones(1, 5, dtype=torch.bool) for name in frames})
    expected = systems.adaptation_gate(
        states[0].numpy(),
        {name: part[0].numpy() for name, part in frames.items()},
        {name: weights(layer) for name, layer in gate.gates.items()},
        {name: weights(layer) for name, layer in gate.shifts.items()},
        beta,
    )
    np.testing.assert_allclose(ours[0].detach(), expected, atol=1e-9)


@pytest.mark.parametrize(("beta", "length", "expected"), [(1.0, 10.0, 0.5), (1e-3, 10.0, 5e-4), (1.0, 2.0, 1.0)])
def test_a_shift_is_never_longer_than_beta_times_the_state(beta, length, expected):
    gate = Gate({"audio": 1}, 2, beta, 0.0)
    gate.norm = torch.nn.Identity()
    with torch.no_grad():
        gate.gates["audio"].weight.zero_()
        gate.gates["audio"].bias.fill_(1.0)
        gate.shifts["audio"].weight.copy_(torch.tensor([[length], [0.0]]))
        gate.shifts["audio"].bias.zero_()
    state = torch.tensor([[[3.0, 4.0]]])
    shifted = gate(state, {"audio": torch.ones(1, 1, 1)}, {"audio": torch.ones(1, 1, dtype=torch.bool)})
    torch.testing.assert_close(shifted - state, torch.tensor([[[expected * length, 0.0]]]), rtol=1e-5, atol=1e-6)


def test_without_others_the_states_are_normed_and_the_gradient_is_finite():
    gate, states = Gate({"audio": 2}, 4, 1.0, 0.0), torch.randn(1, 3, 4, requires_grad=True)
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    result = gate(states, {"audio": torch.randn(1, 3, 2)}, {"audio": nothing})
    torch.testing.assert_close(result, gate.norm(states))
    result.square().sum().backward()
    assert states.grad.isfinite().all()


def test_frames_are_averaged_to_the_tokens_of_their_own_utterance():
    frames = torch.tensor([[[1.0], [3.0], [5.0], [7.0]], [[2.0], [0.0], [0.0], [0.0]]])
    placed = resample(frames, torch.tensor([4, 1]), torch.tensor([2, 3]), 3)[..., 0]
    assert placed.tolist() == [[2.0, 6.0, 0.0], [2.0, 2.0, 2.0]]
    nothing = resample(frames, torch.tensor([0, 0]), torch.tensor([2, 1]), 3)
    assert not nothing.any()


def inside(tmp_path, **options):
    """A model whose gate stands in a BERT of two layers, and a batch of token ids."""
    text = resolve_text(TextConfig(model=str(make_bert(tmp_path / "bert"))), [" ".join(WORDS)])
    inputs = {
        "text": InputSpec(0, "language_model", {"dropout": 0.0}, text),
        "audio": InputSpec(4, options={"hidden": 8, "dropout": 0.0}),
    }
    torch.manual_seed(0)
    options = {"width": 6, "dropout": 0.0, **options}
    model = build_model("mag_bert", toy_task(modalities=("text", "audio")), inputs, options).eval()
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0], [0, 0, 0, 0]])
    lengths = {"text": torch.tensor([4, 3, 0]), "audio": torch.tensor([2, 5, 3])}
    features = {"text": ids, "audio": torch.randn(3, 5, 4)}
    return model, Batch(features, lengths, {name: n > 0 for name, n in lengths.items()})


@pytest.mark.parametrize("layer", [0, 1])
def test_inside_a_language_model_the_sound_changes_what_the_text_becomes(layer, tmp_path):
    model, batch = inside(tmp_path, layer=layer)
    both, text, audio = model.network_coalitions(
        batch, [frozenset(["text", "audio"]), frozenset(["text"]), frozenset(["audio"])]
    )
    assert (both.probabilities[:2] - text.probabilities[:2]).abs().max() > 1e-4
    # where there is no text, the sound shifts an empty token
    torch.testing.assert_close(both.probabilities[2], audio.probabilities[2])
    torch.testing.assert_close(text.probabilities[2], model.class_prior)


def test_a_layer_that_the_language_model_lacks_is_refused(tmp_path):
    model, batch = inside(tmp_path, layer=7)
    with pytest.raises(PaSEError, match="has the layers 0 to 1, not 7"):
        model(batch)


def test_a_task_without_the_text_is_refused():
    with pytest.raises(PaSEError, match=r"shifts the states of 'text', which the task lacks \(audio, vision\)"):
        toy_model("mag_bert", modalities=("audio", "vision"))


def test_another_modality_can_carry_the_others():
    model = toy_model("mag_bert", modalities=("audio", "vision"), text="audio").eval()
    assert model(toy_batch(modalities=("audio", "vision"))).probabilities.isfinite().all()


def test_a_sound_that_turns_the_word_beside_it_is_learned():
    """The label is the product of a word and the sound at it, which no sum of both tells."""
    torch.manual_seed(0)
    batch = toy_batch(modalities=NAMES[:2], n=64, missing=False)
    words, sounds = (torch.randint(0, 2, (64, 1, 1)) * 2.0 - 1 for _ in range(2))
    features = {name: torch.zeros_like(value) for name, value in batch.features.items()}
    features["text"][..., :1], features["audio"][..., :1] = words, sounds
    batch = dataclasses.replace(batch, features=features, labels=2.0 * (words * sounds).view(-1))
    model = toy_model("mag_bert", modalities=NAMES[:2], width=16)
    train_steps(model, [batch] * 150)
    with torch.no_grad():
        error = (model.eval()(batch).score - batch.labels).abs().mean()
    assert error < 0.5
