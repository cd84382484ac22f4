"""What every fusion on disk keeps to, and the gated one against eq. 12 and 13."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from pase_msa import plugins
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
def test_the_fused_vector_has_the_width_and_gates_one_row_an_utterance(name, k):
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
def test_utterances_do_not_see_each_other(name):
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


@pytest.mark.parametrize("what", ["weights", "prototypes"])
def test_the_gate_reads_weights_and_prototypes(what):
    fusion, given = made("gated"), list(arguments())
    before = fusion(*given).vector
    index = 1 if what == "weights" else 2
    given[index] = {name: value * 2 for name, value in given[index].items()}
    assert not torch.allclose(fusion(*given).vector, before)


def test_the_attention_that_modalities_receive_adds_up_to_one():
    gates = made("attention")(*arguments()).gates
    assert torch.allclose(torch.stack([gates[name] for name in NAMES]).sum(0), torch.ones(6, 1), atol=1e-6)
