"""What every fusion on disk keeps to, and the gated one against eq. 12 and 13."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from pase_msa import plugins
from pase_msa.fusion.base import Mixes, Stacked
from tests.toys import NAMES

FUSIONS = plugins.names("fusion")
WIDTH = 5
each_fusion = pytest.mark.parametrize("name", FUSIONS)
each_size = pytest.mark.parametrize("k", [1, 2, 3])


def made(name, k=3):
    torch.manual_seed(0)
    return plugins.load("fusion", name).build(NAMES[:k], WIDTH, 0.0).eval()


def arguments(k=3, n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def drawn():
        return {name: torch.randn(n, WIDTH, generator=generator, requires_grad=True) for name in NAMES[:k]}

    weights = dict(zip(NAMES[:k], torch.arange(1.0, k + 1).softmax(0).unbind(), strict=True))
    return drawn(), weights, drawn(), {name: torch.ones(n, dtype=torch.bool) for name in NAMES[:k]}


def test_there_are_the_fusions_of_the_paper():
    assert {"gated", "sum", "concat", "attention"} <= set(FUSIONS)


@each_fusion
@each_size
def test_the_fused_vector_has_the_width_and_gates_one_row_per_utterance(name, k):
    fused = made(name, k)(*arguments(k))
    assert fused.vector.shape == (6, WIDTH)
    assert fused.vector.isfinite().all()
    for modality, gate in fused.gates.items():
        assert modality in NAMES[:k]
        assert gate.shape in ((6, WIDTH), (6, 1))


@each_fusion
@each_size
def test_the_gradient_reaches_every_modality_and_every_parameter(name, k):
    fusion = made(name, k)
    given = arguments(k)
    fusion(*given).vector.square().sum().backward()
    assert all((vector.grad.norm(dim=1) > 1e-6).all() for vector in given[0].values())
    silent = [n for n, p in fusion.named_parameters() if p.grad is None]
    assert silent == []


@each_fusion
def test_utterances_do_not_depend_on_each_other(name):
    vectors, weights, prototypes, present = arguments()

    def first(group):
        return {modality: value[:1] for modality, value in group.items()}

    whole = made(name)(vectors, weights, prototypes, present).vector
    alone = made(name)(first(vectors), weights, first(prototypes), first(present)).vector
    assert torch.allclose(whole[:1], alone, atol=1e-6)


@each_fusion
def test_a_saved_fusion_fuses_the_same(name):
    fusion, other = made(name), plugins.load("fusion", name).build(NAMES, WIDTH, 0.0).eval()
    other.load_state_dict(fusion.state_dict())
    assert torch.equal(fusion(*arguments()).vector, other(*arguments()).vector)


@each_fusion
def test_dropout_acts_in_training_only(name):
    fusion = plugins.load("fusion", name).build(NAMES, WIDTH, 0.5)
    assert not torch.equal(fusion.train()(*arguments()).vector, fusion(*arguments()).vector)
    assert torch.equal(fusion.eval()(*arguments()).vector, fusion(*arguments()).vector)


def test_gates_lie_between_zero_and_one():
    vectors, weights, prototypes, present = arguments()
    large = {name: 5 * value for name, value in vectors.items()}
    for gate in made("gated")(large, weights, prototypes, present).gates.values():
        assert ((gate > 0) & (gate < 1)).all()


def test_the_gated_fusion_agrees_with_eq_12_and_13():
    fusion, (vectors, weights, prototypes, present) = made("gated"), arguments()
    fused = fusion(vectors, weights, prototypes, present)
    state = {name: value.numpy() for name, value in fusion.state_dict().items()}
    blocks = []
    for name in NAMES:
        h, c, alpha = vectors[name].detach().numpy(), prototypes[name].detach().numpy(), float(weights[name])
        read = np.concatenate([alpha * h, c], axis=1)
        logit = read @ state[f"gates.{name}.weight"].T + state[f"gates.{name}.bias"]
        gate = 1 / (1 + np.exp(-logit))  # eq. 12
        np.testing.assert_allclose(fused.gates[name].detach().numpy(), gate, atol=1e-6)
        blocks.append(gate * h)
    hidden = np.concatenate(blocks, axis=1) @ state["mix.0.weight"].T + state["mix.0.bias"]  # eq. 13
    expected = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    np.testing.assert_allclose(fused.vector.detach().numpy(), expected, atol=1e-5)


def test_gates_are_saved_as_one_linear_layer_per_modality():
    fusion, linear = made("gated"), torch.nn.Linear(2 * WIDTH, WIDTH)
    state = fusion.state_dict()
    layers = {f"gates.{name}.{part}" for name in NAMES for part in ("weight", "bias")}
    assert set(state) == layers | {"mix.0.weight", "mix.0.bias"}
    state |= {f"gates.audio.{part}": value for part, value in linear.state_dict().items()}
    fusion.load_state_dict(state)
    assert all(torch.equal(value, state[name]) for name, value in fusion.state_dict().items())
    vectors, weights, prototypes, present = arguments()
    read = torch.cat([weights["audio"] * vectors["audio"], prototypes["audio"]], dim=1)
    gate = fusion(vectors, weights, prototypes, present).gates["audio"]
    assert torch.allclose(gate, linear(read).sigmoid(), atol=1e-6)


def test_a_state_without_a_gate_is_refused():
    fusion = made("gated")
    state = fusion.state_dict()
    del state["gates.audio.bias"]
    with pytest.raises(RuntimeError, match="Missing key"):
        fusion.load_state_dict(state)


def test_gates_begin_open_and_like_a_linear_layer():
    torch.manual_seed(0)
    state = plugins.load("fusion", "gated").build(NAMES, 64, 0.0).state_dict()
    usual = torch.nn.Linear(128, 64).weight
    for name in NAMES:
        weight = state[f"gates.{name}.weight"]
        assert weight.abs().max() <= 128**-0.5
        assert weight.std().item() == pytest.approx(usual.std().item(), rel=0.05)
        assert torch.equal(state[f"gates.{name}.bias"], torch.full((64,), 2.0))


@each_fusion
@each_size
def test_mixes_and_stacked_tensors_fuse_like_plain_ones(name, k):
    fusion, names = made(name, k), NAMES[:k]
    vectors, weights, _, present = arguments(k)
    shares = torch.randn(k, 6, 4).softmax(2)
    mixes = Mixes(names, shares, torch.randn(k, 4, WIDTH))
    assert list(mixes) == list(names)
    assert torch.allclose(mixes[names[-1]], shares[-1] @ mixes.prototypes[-1], atol=1e-6)
    with pytest.raises(KeyError):
        mixes["smell"]
    whole = [Stacked(names, torch.stack(list(group.values()))) for group in (vectors, weights)]
    found = fusion(*whole, mixes, present)
    expected = fusion(vectors, weights, dict(mixes), present)
    assert torch.allclose(found.vector, expected.vector, atol=1e-6)


@pytest.mark.parametrize("what", ["weights", "prototypes"])
def test_the_gate_depends_on_weights_and_prototypes(what):
    fusion, given = made("gated"), list(arguments())
    before = fusion(*given).vector
    index = 1 if what == "weights" else 2
    given[index] = {name: value * 2 for name, value in given[index].items()}
    assert not torch.allclose(fusion(*given).vector, before)


def test_the_attention_that_modalities_receive_adds_up_to_one():
    gates = made("attention")(*arguments()).gates
    assert torch.allclose(torch.stack([gates[name] for name in NAMES]).sum(0), torch.ones(6, 1), atol=1e-6)
