"""Learning rates by modality: who owns what, how groups are split, and that nothing is left behind after a step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pase_msa.balancing.rates import factor_of, owners, scale_rates, split_group
from pase_msa.errors import PaSEError

steady = settings(derandomize=True, deadline=None, max_examples=40)
each_optimizer = pytest.mark.parametrize("kind", ["adam", "sgd"])
SHARED = nn.Parameter(torch.zeros(1))


class Parts(nn.Module):
    """Two branches and a head that is nobody's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 1)

    def forward(self, x, z):
        return self.head(torch.tanh(self.a(x)) + torch.tanh(self.b(z))).square().mean()

    def owner(self):
        return owners(["a", "b"], lambda name: getattr(self, name).parameters())


def made(kind, module, rate=0.1):
    parts = [{"params": [*module.a.parameters(), *module.head.parameters()]}, {"params": [*module.b.parameters()]}]
    parts[1]["lr"] = rate / 2
    return {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[kind](parts, lr=rate)


def stepped(kind, factors=None, steps=1):
    """The module after some steps, and its optimiser; with factors, at scaled rates."""
    module = Parts()
    optimizer = made(kind, module)
    if factors is not None:
        scale_rates(optimizer, module.owner(), factors if callable(factors) else lambda: factors)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(8, 3, generator=generator), torch.randn(8, 2, generator=generator)).backward()
        optimizer.step()
    return module, optimizer


def flat(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def moved(module, part):
    return flat(getattr(module, part)) - flat(getattr(Parts(), part))


def test_every_parameter_of_a_modality_is_its_own_and_the_rest_is_nobodys():
    module = Parts()
    owner = module.owner()
    assert {owner[id(p)] for p in module.a.parameters()} == {"a"}
    assert {owner[id(p)] for p in module.b.parameters()} == {"b"}
    assert not any(id(p) in owner for p in module.head.parameters())


def test_a_parameter_that_a_modality_names_twice_is_its_own_once():
    module = Parts()
    assert len(owners(["a"], lambda name: [*module.a.parameters()] * 2)) == 2


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (lambda name: [], "'a' has no parameters"),
        (lambda name: [SHARED], "belongs to both 'a' and 'b'"),
    ],
)
def test_what_cannot_be_owned_is_refused_in_a_sentence(parameters, words):
    with pytest.raises(PaSEError, match=words):
        owners(["a", "b"], parameters)


@steady
@given(st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=8))
def test_a_group_is_split_by_owner_and_loses_nothing(kinds):
    parameters = [nn.Parameter(torch.zeros(1)) for _ in kinds]
    owner = {id(p): kind for p, kind in zip(parameters, kinds, strict=True) if kind is not None}
    result = split_group({"params": parameters, "lr": 0.1, "betas": (0.9, 0.99)}, owner)
    assert len(result) == len(set(kinds))
    assert sorted(id(p) for part in result for p in part["params"]) == sorted(map(id, parameters))
    for part in result:
        assert len({owner.get(id(p)) for p in part["params"]}) == 1
        assert (part["lr"], part["betas"]) == (0.1, (0.9, 0.99))


def test_the_factor_of_a_group_is_its_owners_and_one_where_none_is_known():
    module = Parts()
    owner = module.owner()
    assert factor_of([*module.a.parameters()], owner, {"a": 0.5}) == 0.5
    assert factor_of([*module.b.parameters()], owner, {"a": 0.5}) == 1.0
    assert factor_of([*module.head.parameters()], owner, {"a": 0.5}) == 1.0
    assert factor_of([], owner, {"a": 0.5}) == 1.0


@each_optimizer
def test_a_step_of_a_modality_is_scaled_by_its_factor_and_the_rest_is_not(kind):
    plain, scaled = stepped(kind)[0], stepped(kind, {"a": 0.25, "b": 0.0})[0]
    assert moved(plain, "a").abs().max() > 1e-4
    assert torch.allclose(moved(scaled, "a"), 0.25 * moved(plain, "a"), atol=1e-6)
    assert not moved(scaled, "b").any()
    assert torch.equal(moved(scaled, "head"), moved(plain, "head"))


@each_optimizer
@pytest.mark.parametrize("factors", [{}, {"a": 1.0, "b": 1.0}])
def test_a_factor_of_one_leaves_every_step_bit_for_bit(kind, factors):
    assert torch.equal(flat(stepped(kind, steps=5)[0]), flat(stepped(kind, factors, steps=5)[0]))


@each_optimizer
def test_factors_are_asked_for_at_every_step(kind):
    asked = iter([{"a": 0.5}, {"a": 1.0}, {}])
    stepped(kind, lambda: next(asked), steps=3)
    assert next(asked, None) is None


@each_optimizer
def test_groups_are_the_same_after_a_step_as_before(kind):
    module = Parts()
    optimizer = made(kind, module)
    scale_rates(optimizer, module.owner(), lambda: {"a": 0.5, "b": 0.1})
    groups = optimizer.param_groups
    module(torch.ones(2, 3), torch.ones(2, 2)).backward()
    optimizer.step()
    assert optimizer.param_groups is groups
    assert [group["lr"] for group in groups] == [0.1, 0.05]
    assert [len(group["params"]) for group in groups] == [4, 2]


@each_optimizer
def test_the_state_of_the_optimizer_is_shared_with_what_a_checkpoint_holds(kind):
    plain, scaled = stepped(kind, steps=2)[1].state_dict(), stepped(kind, {"a": 0.5}, steps=2)[1].state_dict()
    assert plain["param_groups"] == scaled["param_groups"]
    assert plain["state"].keys() == scaled["state"].keys()


@each_optimizer
def test_the_step_after_one_that_failed_is_scaled_once(kind):
    module = Parts()
    optimizer = made(kind, module)
    scale_rates(optimizer, module.owner(), lambda: {"a": 0.5})

    def fails():
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        optimizer.step(fails)
    module(torch.ones(2, 3), torch.ones(2, 2)).backward()
    before = flat(module.a)
    optimizer.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]
    if kind == "sgd":
        gradient = torch.cat([p.grad.flatten() for p in module.a.parameters()])
        assert torch.allclose(flat(module.a) - before, -0.05 * gradient, atol=1e-7)
