"""Entropic optimal transport between two small sets, solved by Newton's method (PaSE, eq. 4-5).

The plan minimises `<Q, C> - lambda H(Q)` with `H(Q) = -sum Q (log Q - 1)`: the paper prints `+ lambda H`,
which would minimise the entropy. Its solution is `Q = exp((f_i + g_j - C_ij) / lambda)`; eliminating `f`
makes every row sum to one exactly, and what remains is smooth and convex in `g` alone, with the Schur
complement of the dual's Hessian as its own.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from pase_msa.errors import PaSEError

Marginals = Literal["balanced", "source"]

_RIDGE = 1e-12  # near a permutation the Schur complement is singular to machine precision
_ANNEALING = 4.0  # each stage divides the regularisation by this
_ROUGH, _STAGE_STEPS = 0.1, 10  # where a stage before the last one ends: column error, Newton steps
_WARM_STEPS = 8  # a warm start that needs more steps than this is given up
_CANDIDATES = 5  # step lengths tried at once by the line search

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransportPlan:
    """A solved transport problem: `plan` `[..., K, L]` has rows that sum to 1 and columns that sum to K / L.

    With `marginals="source"` the column sums follow from the relaxation. `converged` holds for the
    whole batch, `iterations` counts Newton steps over all stages, and `potentials` are the dual variables `(f
    [..., K], g [..., L])` in the cost's unit, detached, float64; they warm-start the next call on a
    similar cost.
    """

    plan: Float[Tensor, "*batch k l"]
    converged: bool
    iterations: int
    potentials: tuple[Float[Tensor, "*batch k"], Float[Tensor, "*batch l"]]


def entropic_plan(
    cost: Float[Tensor, "*batch k l"],
    regularization: float,
    marginals: Marginals = "balanced",
    *,
    relaxation: float = 1.0,
    potentials: tuple[Tensor, Tensor] | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> TransportPlan:
    """Solve `min <Q, C> - lambda H(Q)` for every matrix of a batch (PaSE, eq. 5).

    Works in float64 whatever the cost's type, and is finite and accurate for `lambda` from 1e-4 up. The plan
    is differentiable with respect to the cost by the implicit function theorem: nothing is unrolled.

    Args:
        cost: `[..., K, L]`, finite; any unit.
        regularization: `lambda` > 0, in the cost's unit.
        marginals: `"balanced"`: rows sum to 1 and columns to K / L. `"source"`: only the rows are fixed, and
            `rho KL(column sums | K / L)` is added to the objective.
        relaxation: `rho` > 0, in the cost's unit; used by `"source"` only, which tends to `"balanced"` as it
            grows.
        potentials: of an earlier result on a similar cost. A good start skips the annealing; a bad one costs
            a few steps and is then ignored.
        tolerance: largest error of a column sum, relative to `min(1, K / L)`.
        max_iterations: Newton steps over all stages; after them the result has `converged=False` and a
            warning is logged.

    Raises:
        PaSEError: the cost is not a non-empty batch of finite floating-point matrices, a parameter is not
            positive, `marginals` is unknown, or the shapes of `potentials` do not fit the cost.
    """
    _check(cost, regularization, marginals, relaxation, potentials, tolerance, max_iterations)
    *batch, rows, columns = cost.shape
    device = "cpu" if cost.device.type == "mps" else cost.device  # MPS has no float64
    with torch.no_grad():
        exact = cost.detach().to(device, torch.float64).reshape(-1, rows, columns)
        floor = exact.amin(-1, keepdim=True)
        exact = exact - floor  # the rows' potentials absorb it, so that a common offset costs no precision
        spread = float(exact.amax())
        if not math.isfinite(spread):
            raise PaSEError("entropic_plan needs a finite cost and found NaN or infinity: mend the features behind it.")
        problem = _Problem(exact, rows / columns, 0.0 if marginals == "balanced" else 1.0 / relaxation)
        start = None if potentials is None else potentials[1].to(device, torch.float64).reshape(-1, columns)
        state, iterations, converged = _solve(
            problem, regularization, spread, start, tolerance * min(1.0, rows / columns), max_iterations
        )
        g = state.potential * regularization
        f = floor.squeeze(-1) - regularization * torch.logsumexp(
            state.potential.unsqueeze(-2) - exact / regularization, -1
        )
    if not converged:
        _log.warning("entropic_plan: no convergence in %d steps at regularization %g", iterations, regularization)
    plan: Tensor = _ImplicitPlan.apply(cost, state, regularization, problem.relaxed)  # type: ignore[no-untyped-call]
    return TransportPlan(plan, converged, iterations, (f.view(*batch, rows), g.view(*batch, columns)))


def _check(
    cost: Tensor,
    regularization: float,
    marginals: str,
    relaxation: float,
    potentials: tuple[Tensor, Tensor] | None,
    tolerance: float,
    max_iterations: int,
) -> None:
    if cost.ndim < 2 or cost.numel() == 0 or not cost.is_floating_point():
        raise PaSEError(
            f"entropic_plan needs a cost of floating-point matrices [..., K, L] and found {cost.dtype} of "
            f"shape {list(cost.shape)}: pass one row per source and one column per target."
        )
    if marginals not in ("balanced", "source"):
        raise PaSEError(
            f"marginals must be 'balanced' or 'source', and {marginals!r} was found: choose one of the two."
        )
    if not (0 < regularization < math.inf):
        raise PaSEError(f"regularization must be a positive number, and {regularization} was found: try 0.01.")
    if not relaxation > 0:
        raise PaSEError(f"relaxation must be a positive number, and {relaxation} was found: try 1.0.")
    if not (tolerance > 0 and max_iterations >= 1):
        raise PaSEError(
            f"a positive tolerance and max_iterations of at least 1 were wanted, and {tolerance} and "
            f"{max_iterations} were found: leave them out to get the defaults."
        )
    if potentials is not None:
        expected = (cost.shape[:-1], cost.shape[:-2] + cost.shape[-1:])
        shapes = (potentials[0].shape, potentials[1].shape)
        if shapes != expected:
            raise PaSEError(
                f"potentials of shapes {[list(shape) for shape in expected]} were wanted, and "
                f"{[list(shape) for shape in shapes]} were found: pass those of a cost of this shape, or none."
            )


@dataclass(frozen=True)
class _Problem:
    """Cost [b, K, L], the columns' mass K / L, and 1 / rho (0 where the columns are fixed)."""

    cost: Tensor
    mass: float
    relaxed: float


@dataclass(frozen=True)
class _State:
    """An iterate of the dual: potential = g / lambda [b, L]; residual = target - column sums of plan, 0 at the end."""

    potential: Tensor
    plan: Tensor
    target: Tensor
    residual: Tensor


def _solve(
    problem: _Problem,
    regularization: float,
    spread: float,
    start: Tensor | None,
    tolerance: float,
    budget: int,
) -> tuple[_State, int, bool]:
    """Newton from a warm start if there is one, else at a regularisation that falls stage by stage."""
    used = 0
    if start is not None:
        limit = min(_WARM_STEPS, budget)
        state, used, converged = _newton(problem, regularization, start / regularization, tolerance, limit)
        if converged:
            return state, used, True
    potential = problem.cost.new_zeros(problem.cost.shape[0], problem.cost.shape[2])
    stages = max(0, math.ceil(math.log(max(spread / regularization, 1.0), _ANNEALING)))
    for stage in range(stages, 0, -1):
        limit = min(_STAGE_STEPS, budget - used)
        rough = max(_ROUGH * min(1.0, problem.mass), tolerance)
        state, steps, _ = _newton(problem, regularization * _ANNEALING**stage, potential, rough, limit)
        used += steps
        potential = state.potential * _ANNEALING  # the same g, in units of the next lambda
    state, steps, converged = _newton(problem, regularization, potential, tolerance, budget - used)
    return state, used + steps, converged


def _newton(
    problem: _Problem, regularization: float, potential: Tensor, tolerance: float, limit: int
) -> tuple[_State, int, bool]:
    """Damped Newton on `lambda sum_i logsumexp_j((g_j - C_ij) / lambda) - <g, s>`, or its relaxation."""
    ratio = regularization * problem.relaxed
    scaled = problem.cost / regularization
    state = _evaluate(scaled, potential, problem.mass, ratio)
    for step in range(limit + 1):
        error = float(state.residual.abs().amax())
        if error <= tolerance:
            return state, step, True
        if step == limit or math.isnan(error):
            break
        matrix = _schur(state.plan, state.target, state.residual, ratio)
        direction = torch.linalg.solve_ex(matrix, state.residual)[0]
        # The dual is self-concordant in the sense of Sun and Tran-Dinh (2019): this length descends.
        lowest, highest = torch.aminmax(direction, dim=-1, keepdim=True)
        reach = highest - lowest
        if ratio > 0.0:
            reach = torch.maximum(reach, torch.maximum(highest, -lowest) * ratio)
        reach = reach.clamp_min(1e-12)
        safe = torch.log1p(reach) / reach
        if ratio > 0.0 and float(safe.amin()) < 0.5:  # where rho >> lambda, `safe` alone would crawl
            safe = _line_search(scaled, state, direction, safe, problem.mass, ratio)
        state = _evaluate(scaled, state.potential + safe * direction, problem.mass, ratio)
    return state, step, False


def _evaluate(scaled: Tensor, potential: Tensor, mass: float, ratio: float) -> _State:
    plan = torch.softmax(potential.unsqueeze(-2) - scaled, dim=-1)  # the potentials of the rows are eliminated
    # the target of a relaxed column is s exp(-g / rho)
    target = torch.exp(potential * -ratio) * mass if ratio > 0.0 else torch.full_like(potential, mass)
    return _State(potential, plan, target, target - plan.sum(-2))


def _line_search(
    scaled: Tensor, state: _State, direction: Tensor, safe: Tensor, mass: float, ratio: float
) -> Float[Tensor, "batch 1"]:
    """The longest of a few lengths from `safe` to a full step at which the slope has not turned by half."""
    exponents = torch.linspace(0.0, 1.0, _CANDIDATES, dtype=safe.dtype, device=safe.device).view(-1, 1, 1)
    lengths = safe**exponents  # [candidates, b, 1], from 1 down to the safe one
    trial = _evaluate(scaled, state.potential + lengths * direction, mass, ratio)
    fine = (trial.residual * direction).sum(-1) >= -0.5 * (state.residual * direction).sum(-1)
    fine[-1] = True
    first = fine.to(torch.uint8).argmax(0)
    return lengths.gather(0, first.view(1, -1, 1)).squeeze(0)


def _schur(plan: Tensor, target: Tensor, residual: Tensor, ratio: float) -> Float[Tensor, "batch l l"]:
    """Schur complement of `[diag(r), Q; Q^T, diag(c + ratio t)]` with `r = 1`, and a ridge.

    With fixed columns a constant added to g changes nothing; adding 1 / L to every entry makes the matrix regular.
    """
    columns = plan.shape[-1]
    pin = plan.new_full((), 1.0 / columns if ratio == 0.0 else 0.0)
    matrix = torch.baddbmm(pin, plan.mT, plan, alpha=-1.0)
    diagonal = torch.sub(target * (1.0 + ratio) if ratio > 0.0 else target, residual).add_(_RIDGE)
    matrix.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return matrix


class _ImplicitPlan(torch.autograd.Function):
    """The plan as a function of its cost, differentiated through its optimality conditions.

    `grad_C = -(1 / lambda) Q * (G - u_i - v_j)` where `M [u; v] = [(Q * G) 1; (Q * G)^T 1]`, and M is
    Newton's matrix.
    """

    @staticmethod
    def forward(ctx: Any, cost: Tensor, state: _State, regularization: float, relaxed: float) -> Tensor:
        ctx.save_for_backward(state.plan, state.target, state.residual)
        ctx.constants = regularization, relaxed
        return state.plan.view(cost.shape).to(cost)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        plan, target, residual = ctx.saved_tensors
        regularization, relaxed = ctx.constants
        grad = grads[0].to(plan).reshape(plan.shape)
        weighted = plan * grad
        u = weighted.sum(-1, keepdim=True)
        right = weighted.sum(-2).unsqueeze(-1) - plan.mT @ u
        v = torch.linalg.solve_ex(_schur(plan, target, residual, regularization * relaxed), right)[0]
        u = u - plan @ v
        result = (weighted - plan * (u + v.mT)) / -regularization
        return result.view(grads[0].shape).to(grads[0]), None, None, None
