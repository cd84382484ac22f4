import logging
import math

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pase_msa.errors import PaSEError
from pase_msa.transport import entropic_plan
from tests.reference.transport import sinkhorn

SHAPES = [(1, 1), (1, 4), (4, 1), (2, 2), (3, 5), (5, 3), (7, 7), (13, 2)]


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def hard_costs(rows, columns):
    """One batch a kind: smooth, tied, flat, near a permutation, on a line, large, one cheap column."""
    uniform = random(2, rows, columns)
    source = torch.linspace(-3, 3, rows, dtype=torch.float64).view(-1, 1)
    cheap = torch.ones(2, rows, columns, dtype=torch.float64)
    cheap[..., 0] = 0.0
    return {
        "uniform": uniform,
        "ties": (3 * uniform).floor(),
        "zeros": torch.zeros_like(uniform),
        "permutation": 1 - torch.eye(max(rows, columns)).double().flip(0)[None, :rows, :columns],
        "line": (source - 3 * random(2, 1, columns, seed=1) + 1).square(),
        "large": 1e3 * uniform,
        "offset": 1e4 + uniform,
        "cheap column": cheap,
        "cheap column, nearly": cheap + 1e-3 * uniform,
        "ties, nearly": 8 * (2 * uniform).floor() + 1e-5 * random(2, rows, columns, seed=2),
    }


@pytest.mark.parametrize("marginals", ["balanced", "source"])
@pytest.mark.parametrize("regularization", [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0])
def test_every_cost_has_a_finite_plan_with_its_marginals(marginals, regularization):
    for rows, columns in SHAPES:
        for name, cost in hard_costs(rows, columns).items():
            solved = entropic_plan(cost.requires_grad_(), regularization, marginals)
            assert solved.converged, (name, rows, columns)
            assert solved.plan.isfinite().all()
            assert (solved.plan >= 0).all()
            assert (solved.plan.sum(-1) - 1).abs().max() < 1e-12
            _, g = solved.potentials
            wanted = rows / columns * (torch.exp(-g) if marginals == "source" else torch.ones_like(g))
            assert (solved.plan.sum(-2) - wanted).abs().max() <= 1.01e-6, (name, rows, columns)
            solved.plan.square().sum().backward()
            assert cost.grad.isfinite().all(), (name, rows, columns)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relaxation", [math.inf, 1.0, 0.1])
def test_agrees_with_sinkhorn_loops(shape, relaxation):
    cost = random(2, *shape, seed=3)
    for regularization in (0.1, 1.0):
        solved = entropic_plan(cost, regularization, "source", relaxation=relaxation, tolerance=1e-12)
        for plan, single in zip(solved.plan, cost, strict=True):
            oracle = sinkhorn(single.tolist(), regularization, relaxation)
            np.testing.assert_allclose(plan.numpy(), oracle, atol=1e-9)


def test_agrees_with_pot():
    cost = random(5, 7, seed=4)
    rows, columns = np.ones(5), np.full(7, 5 / 7)
    balanced = entropic_plan(cost, 0.1, tolerance=1e-10).plan
    theirs = ot.sinkhorn(rows, columns, cost.numpy(), 0.1, method="sinkhorn_log", numItermax=5000, stopThr=1e-12)
    np.testing.assert_allclose(balanced.numpy(), theirs, atol=1e-8)
    relaxed = entropic_plan(cost, 0.1, "source", relaxation=0.5, tolerance=1e-10).plan
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        rows, columns, cost.numpy(), 0.1, (math.inf, 0.5), c=np.ones((5, 7)), numItermax=5000, stopThr=1e-13
    )
    np.testing.assert_allclose(relaxed.numpy(), theirs, atol=1e-8)


def test_two_by_two_has_a_closed_form():
    cost = torch.tensor([[0.0, 0.3], [0.5, 0.1]], dtype=torch.float64)
    plan = entropic_plan(cost, 0.1, tolerance=1e-12).plan
    gap = (cost[0, 1] + cost[1, 0] - cost[0, 0] - cost[1, 1]) / (2 * 0.1)
    assert torch.allclose(plan[0, 0], torch.sigmoid(gap))


def test_plan_satisfies_its_own_potentials():
    cost = random(2, 3, 4, 5)  # any number of batch dimensions
    solved = entropic_plan(cost, 0.05)
    f, g = solved.potentials
    assert torch.allclose(solved.plan, torch.exp((f.unsqueeze(-1) + g.unsqueeze(-2) - cost) / 0.05))


def test_reverse_problem_gives_the_transpose():
    cost = random(3, 7, 7)
    forth, back = (entropic_plan(c, 0.01, tolerance=1e-11).plan for c in (cost, cost.mT))
    assert torch.allclose(forth, back.mT, atol=1e-9)
    # With only the source fixed the two directions differ.
    forth, back = (entropic_plan(c, 0.01, "source", relaxation=0.1).plan for c in (cost, cost.mT))
    assert (forth - back.mT).abs().max() > 0.1


@pytest.mark.parametrize("marginals", ["balanced", "source"])
def test_permuting_the_cost_permutes_the_plan(marginals):
    cost = random(6, 4)
    rows, columns = torch.tensor([3, 1, 5, 0, 2, 4]), torch.tensor([2, 0, 3, 1])
    plan = entropic_plan(cost, 0.02, marginals, tolerance=1e-11).plan
    permuted = entropic_plan(cost[rows][:, columns], 0.02, marginals, tolerance=1e-11).plan
    assert torch.allclose(permuted, plan[rows][:, columns], atol=1e-9)


def test_limits_of_the_regularisation():
    cost = random(2, 7, 7)
    assert torch.allclose(entropic_plan(cost, 1e4).plan, torch.full_like(cost, 1 / 7), atol=1e-4)
    for plan, single in zip(entropic_plan(cost, 1e-4).plan, cost, strict=True):
        rows, columns = linear_sum_assignment(single.numpy())
        assignment = torch.zeros_like(single)
        assignment[rows, columns] = 1.0
        assert torch.allclose(plan, assignment, atol=1e-4)


def test_limits_of_the_relaxation():
    cost = random(5, 6)
    balanced = entropic_plan(cost, 0.05).plan
    assert torch.allclose(entropic_plan(cost, 0.05, "source", relaxation=1e6).plan, balanced, atol=1e-4)
    free = torch.softmax(-cost / 0.05, -1)
    assert torch.allclose(entropic_plan(cost, 0.05, "source", relaxation=1e-6).plan, free, atol=1e-4)


@pytest.mark.parametrize("marginals", ["balanced", "source"])
@pytest.mark.parametrize("shape", [(2, 4, 4), (3, 5), (5, 3), (1, 4), (4, 1)])
def test_gradient(marginals, shape):
    cost = random(*shape).requires_grad_()
    for regularization in (1.0, 0.1, 0.03):
        assert torch.autograd.gradcheck(
            lambda c, r=regularization: entropic_plan(c, r, marginals, relaxation=0.3, tolerance=1e-13).plan,
            cost,
            eps=1e-6 * regularization**0.5,
            rtol=1e-3,
            atol=1e-5,
        )


def test_envelope_theorem():
    cost = random(7, 7).requires_grad_()
    plan = entropic_plan(cost, 0.05, tolerance=1e-12).plan
    (plan * cost + 0.05 * torch.special.xlogy(plan, plan)).sum().backward()
    assert torch.allclose(cost.grad, plan, atol=1e-6)


def test_second_derivative_is_refused_not_wrong():
    cost = random(3, 3).requires_grad_()
    (grad,) = torch.autograd.grad(entropic_plan(cost, 0.1).plan.square().sum(), cost, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("marginals", ["balanced", "source"])
def test_warm_start_is_short_and_agrees(marginals):
    cost = random(3, 7, 7)
    first = entropic_plan(cost, 0.01, marginals)
    moved = cost + 1e-3 * random(3, 7, 7, seed=1)
    cold = entropic_plan(moved, 0.01, marginals)
    warm = entropic_plan(moved, 0.01, marginals, potentials=first.potentials)
    assert warm.converged
    assert warm.iterations <= 4 < cold.iterations
    assert torch.allclose(warm.plan, cold.plan, atol=1e-4)
    assert entropic_plan(cost, 0.01, marginals, potentials=first.potentials).iterations == 0


def test_bad_warm_start_falls_back():
    cost = random(3, 7, 7)
    good = entropic_plan(cost, 0.001)
    for value in (math.nan, math.inf, 1e6):
        potentials = tuple(torch.full_like(p, value) * torch.arange(7) for p in good.potentials)
        solved = entropic_plan(cost, 0.001, potentials=potentials)
        assert solved.converged
        assert torch.allclose(solved.plan, good.plan, atol=1e-4)


def test_result_has_the_type_of_the_cost():
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        cost = random(2, 3, 3).to(dtype).requires_grad_()
        solved = entropic_plan(cost, 0.05)
        assert solved.plan.dtype == dtype
        assert not any(p.requires_grad for p in solved.potentials)
        assert all(p.dtype == torch.float64 for p in solved.potentials)
        solved.plan[..., 0].sum().backward()
        assert cost.grad.dtype == dtype


def test_a_matrix_does_not_depend_on_its_batch():
    cost = random(4, 5, 5)
    together = entropic_plan(cost, 0.01, tolerance=1e-10).plan
    alone = torch.stack([entropic_plan(c, 0.01, tolerance=1e-10).plan for c in cost])
    assert torch.allclose(together, alone, atol=1e-8)


def test_failure_to_converge_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        solved = entropic_plan(random(7, 7), 1e-3, max_iterations=2)
    assert not solved.converged
    assert solved.iterations == 2
    assert solved.plan.isfinite().all()
    assert "no convergence" in caplog.text


@pytest.mark.parametrize(
    ("cost", "arguments", "words"),
    [
        (torch.tensor([[0.0, math.nan]]), {}, "finite"),
        (torch.tensor([[0.0, math.inf]]), {}, "finite"),
        (torch.zeros(3), {}, r"\[\.\.\., K, L\]"),
        (torch.zeros(2, 0, 3), {}, r"\[2, 0, 3\]"),
        (torch.zeros(2, 2, dtype=torch.long), {}, "floating-point"),
        (torch.zeros(2, 2), {"regularization": 0.0}, "regularization"),
        (torch.zeros(2, 2), {"regularization": -1.0}, "regularization"),
        (torch.zeros(2, 2), {"regularization": math.nan}, "regularization"),
        (torch.zeros(2, 2), {"marginals": "both"}, "'both'"),
        (torch.zeros(2, 2), {"relaxation": 0.0}, "relaxation"),
        (torch.zeros(2, 2), {"tolerance": 0.0}, "tolerance"),
        (torch.zeros(2, 2), {"max_iterations": 0}, "max_iterations"),
        (torch.zeros(2, 2), {"potentials": (torch.zeros(2), torch.zeros(3))}, "potentials"),
    ],
)
def test_mistakes_are_named(cost, arguments, words):
    with pytest.raises(PaSEError, match=words):
        entropic_plan(cost, **{"regularization": 0.1, **arguments})
