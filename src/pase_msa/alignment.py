"""Cross-modal alignment of class prototypes by entropic transport (PaSE, eq. 4-9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from pase_msa.errors import PaSEError
from pase_msa.transport import Marginals, entropic_plan


@dataclass(frozen=True)
class AlignmentTerms:
    """What the alignment loss is made of; every tensor is a scalar.

    `pairs` holds eq. 9's summand of each unordered pair of modalities, in the order of the mapping, so that
    the loss of any coalition is a sum over its pairs without another solve. `match`, `consistency` and
    `structure` are the sums over pairs of eq. 6 (divided by K), 7 and 8 before their weights. `potentials`
    warm-start the next call with the same modalities and marginals; they are None where there is no pair.
    """

    loss: Float[Tensor, ""]
    pairs: dict[tuple[str, str], Float[Tensor, ""]]
    match: Float[Tensor, ""]
    consistency: Float[Tensor, ""]
    structure: Float[Tensor, ""]
    potentials: tuple[Tensor, Tensor] | None
    converged: bool


def alignment_loss(
    prototypes: Mapping[str, Float[Tensor, "k d"]],
    regularization: float = 0.01,
    consistency: float = 0.1,
    structure: float = 0.05,
    *,
    marginals: Marginals = "balanced",
    relaxation: float = 1.0,
    potentials: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """The alignment loss alone (PaSE, eq. 9): `alignment_terms(...).loss`, same arguments and errors."""
    return alignment_terms(
        prototypes,
        regularization,
        consistency,
        structure,
        marginals=marginals,
        relaxation=relaxation,
        potentials=potentials,
    ).loss


def alignment_terms(
    prototypes: Mapping[str, Float[Tensor, "k d"]],
    regularization: float = 0.01,
    consistency: float = 0.1,
    structure: float = 0.05,
    *,
    marginals: Marginals = "balanced",
    relaxation: float = 1.0,
    potentials: tuple[Tensor, Tensor] | None = None,
) -> AlignmentTerms:
    """Align the prototypes of every pair of modalities; say what each pair and term cost (PaSE, eq. 4-9).

    The cost is the squared Euclidean distance between L2-normalised prototypes, in [0, 4]. A prototype of
    zeros has no direction and counts as the origin. With one modality there is no pair, and every term is a
    zero that can be differentiated.

    Args:
        prototypes: modality name -> `[K, D]`, the same K and D for all.
        regularization: eq. 5's lambda > 0, in the unit of the cost.
        consistency: eq. 9's alpha, the weight of eq. 7.
        structure: eq. 9's beta, the weight of eq. 8, which is averaged over both directions.
        marginals: `"balanced"` (eq. 5): the plan back is the transpose of the plan forth, so it is solved
            once, eq. 7 is zero and eq. 6 counts one plan. `"source"`: each direction fixes its own source
            marginal only, and eq. 7 has something to do.
        relaxation: the penalty on the target marginal with `"source"`; see `entropic_plan`.
        potentials: those of an earlier result.

    Raises:
        PaSEError: no modality, prototypes that are not finite floating-point matrices of one shape, or what
            `entropic_plan` refuses.
    """
    stacked = _stack(prototypes)
    norm = stacked.norm(dim=-1, keepdim=True)
    stacked = stacked / norm.where(norm > 0, 1.0)  # a class not seen yet is a zero: it stays one
    names = list(combinations(prototypes, 2))
    if not names:
        zero = (stacked * 0.0).sum()
        return AlignmentTerms(zero, {}, zero, zero, zero, None, True)
    classes = stacked.shape[1]
    first, second = torch.triu_indices(len(stacked), len(stacked), offset=1, device=stacked.device)
    # eq. 4. A difference, not a product: exact for equal prototypes, and untouched by mixed precision.
    sources, targets = stacked.index_select(0, first), stacked.index_select(0, second)
    cost = (sources.unsqueeze(2) - targets.unsqueeze(1)).square().sum(-1)  # [P, K, K]
    both = cost if marginals == "balanced" else torch.cat([cost, cost.mT])
    # eq. 5, all pairs at once
    solved = entropic_plan(both, regularization, marginals, relaxation=relaxation, potentials=potentials)
    identity = torch.eye(classes, dtype=cost.dtype, device=cost.device)
    if marginals == "balanced":  # one plan is both: eq. 6 and 8 are means of two equal terms, eq. 7 is zero
        match = (solved.plan * cost).sum((-2, -1)) / classes
        distance = (solved.plan - identity).square().sum((-2, -1))
        disagreement = torch.zeros_like(distance)
    else:
        forth, back = solved.plan[: len(cost)], solved.plan[len(cost) :].mT  # both as [source m, target n]
        match = ((forth + back) * cost).sum((-2, -1)) / (2 * classes)  # eq. 6
        disagreement = (forth - back).square().sum((-2, -1))  # eq. 7
        distance = ((forth - identity).square() + (back - identity).square()).sum((-2, -1)) / 2  # eq. 8
    pairs = match + consistency * disagreement + structure * distance  # eq. 9, a pair
    return AlignmentTerms(
        loss=pairs.sum(),
        pairs=dict(zip(names, pairs.unbind(), strict=True)),
        match=match.sum(),
        consistency=disagreement.sum(),
        structure=distance.sum(),
        potentials=solved.potentials,
        converged=solved.converged,
    )


def _stack(prototypes: Mapping[str, Tensor]) -> Float[Tensor, "m k d"]:
    """All prototypes as one tensor of at least single precision."""
    if not prototypes:
        raise PaSEError("the alignment wants prototypes of at least one modality, and the mapping is empty: pass some.")
    first = next(iter(prototypes.values()))
    for name, value in prototypes.items():
        if value.ndim != 2 or 0 in value.shape or not value.is_floating_point():
            raise PaSEError(
                f"prototypes must be floating-point [K, D], and those of {name!r} are {value.dtype} of shape "
                f"{list(value.shape)}: pass one row a class."
            )
        if value.shape != first.shape:
            raise PaSEError(
                f"prototypes of all modalities must have one shape, and {name!r} has {list(value.shape)} "
                f"where {list(first.shape)} was wanted: project them to one width, with the same classes."
            )
    stacked = torch.stack(list(prototypes.values()))
    stacked = stacked.to(torch.promote_types(stacked.dtype, torch.float32))
    if not bool(stacked.isfinite().all()):
        wrong = [name for name, value in prototypes.items() if not bool(value.isfinite().all())]
        raise PaSEError(f"prototypes must be finite, and {wrong[0]!r} holds NaN or infinity: mend its features first.")
    return stacked
