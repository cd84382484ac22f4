"""Cross-modal alignment of class prototypes by entropic transport (CAL), equations 4 to 9 of He et al., "PaSE".

`alignment_loss` is the loss, `alignment_terms` what it is made of, and `PrototypeAligner` what a training run calls at
every step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.errors import PaSEError
from pase_msa.transport import Marginals, entropic_plan


@dataclass(frozen=True)
class AlignmentTerms:
    """The parts of the alignment loss; every tensor is a scalar.

    `pairs` holds eq. 9's summand of each unordered pair of modalities, in the order of the mapping. The loss of
    a coalition of modalities is the sum over its pairs, without another solve. `match`, `consistency` and
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
    """The alignment loss of every pair of modalities and of every term (PaSE, eq. 4-9).

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
            marginal only; the two plans differ, and eq. 7 is not zero.
        relaxation: the penalty on the target marginal with `"source"`; see `entropic_plan`.
        potentials: of an earlier result, as a warm start.

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
    pairs = match + consistency * disagreement + structure * distance  # eq. 9, of each pair
    return AlignmentTerms(
        loss=pairs.sum(),
        pairs=dict(zip(names, pairs.unbind(), strict=True)),
        match=match.sum(),
        consistency=disagreement.sum(),
        structure=distance.sum(),
        potentials=solved.potentials,
        converged=solved.converged,
    )


class PrototypeAligner(nn.Module):
    """Eq. 9 from step to step of a training run: each transport problem starts from its last solution.

    Only modalities that occur in the batch are aligned, and only classes that each of these has a prototype of.

    Args:
        modalities: names, M of them.
        num_classes: K.
        regularization, consistency, structure, marginals, relaxation: see `alignment_terms`.

    Attributes:
        pairs: the unordered pairs of modalities, P of them.
        row_potentials, column_potentials: buffers [S, K], the last solutions; S is P, or 2 P with `marginals="source"`.
            They are saved, so that a resumed run starts from the same ones.
    """

    row_potentials: Tensor
    column_potentials: Tensor

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        regularization: float = 0.01,
        consistency: float = 0.1,
        structure: float = 0.05,
        *,
        marginals: Marginals = "balanced",
        relaxation: float = 1.0,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pairs = list(combinations(self.modalities, 2))
        self.weights = (regularization, consistency, structure)
        self.marginals, self.relaxation = marginals, relaxation
        solves = len(self.pairs) * (2 if marginals == "source" else 1)
        self.register_buffer("row_potentials", torch.zeros(solves, num_classes, dtype=torch.float64))
        self.register_buffer("column_potentials", torch.zeros(solves, num_classes, dtype=torch.float64))

    def forward(
        self,
        prototypes: Float[Tensor, "m k d"],
        initialised: Bool[Tensor, "m k"] | None = None,
        present: Float[Tensor, "m n"] | None = None,
    ) -> AlignmentTerms:
        """Align; `potentials` of the result are for `take` (None where nothing was solved with all classes).

        A modality that does not occur is left out. Its prototypes stand still, and the others must not follow them: an
        excluded modality, for example, keeps prototypes of an encoder that was never trained.

        Args:
            prototypes: [M, K, D].
            initialised: [M, K], whether a class has a prototype; None where every class has one.
            present: [M, N], 1.0 where an utterance has the modality; None where nothing is absent.
        """
        complete = initialised is None or bool(initialised.all())
        chosen = list(range(len(self.modalities)))
        if present is not None:
            chosen = present.any(1).nonzero().flatten().tolist()
        common = prototypes[chosen]
        if initialised is not None and not complete:
            common = common[:, initialised[chosen].all(0)]
        if len(chosen) < 2 or common.shape[1] < 2:
            zero = prototypes.sum() * 0.0
            return AlignmentTerms(zero, {}, zero, zero, zero, None, True)
        solves = self._solves([self.modalities[index] for index in chosen])
        terms = alignment_terms(
            {self.modalities[index]: part for index, part in zip(chosen, common.unbind(), strict=True)},
            *self.weights,
            marginals=self.marginals,
            relaxation=self.relaxation,
            potentials=(self.row_potentials[solves], self.column_potentials[solves]) if complete else None,
        )
        # with some classes only, the problems have another size than those in the buffers
        potentials = self._with(solves, *terms.potentials) if complete and terms.potentials is not None else None
        return dataclasses.replace(terms, potentials=potentials)

    def take(self, potentials: tuple[Tensor, Tensor]) -> None:
        """Keep the solutions that `forward` returned as `potentials`."""
        self.row_potentials, self.column_potentials = potentials

    def _with(self, solves: Sequence[int], rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers with the solutions of some problems replaced."""
        index = torch.tensor(solves, device=self.row_potentials.device)
        return self.row_potentials.index_copy(0, index, rows), self.column_potentials.index_copy(0, index, columns)

    def _solves(self, names: Sequence[str]) -> list[int]:
        """Indices of the transport problems between the modalities named."""
        indices = [index for index, pair in enumerate(self.pairs) if set(pair) <= set(names)]
        if self.marginals == "source":
            indices += [index + len(self.pairs) for index in indices]
        return indices


def _stack(prototypes: Mapping[str, Tensor]) -> Float[Tensor, "m k d"]:
    """All prototypes as one tensor of at least single precision."""
    if not prototypes:
        raise PaSEError("the alignment needs prototypes of at least one modality, and the mapping is empty: pass some.")
    first = next(iter(prototypes.values()))
    for name, value in prototypes.items():
        if value.ndim != 2 or 0 in value.shape or not value.is_floating_point():
            raise PaSEError(
                f"prototypes must be floating-point [K, D], and those of {name!r} are {value.dtype} of shape "
                f"{list(value.shape)}: pass one row per class."
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
