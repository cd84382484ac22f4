"""The mixture over coalitions of modalities that a prediction is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Outputs
from pase_msa.errors import PaSEError
from pase_msa.heldout.presence import MOST_PATTERNS, pattern_rows
from pase_msa.heldout.weights import MOST_COALITIONS
from pase_msa.task import Task

#: weights of coalitions and of the reference, by the set of modalities that an utterance has
Given = Mapping[frozenset[str], tuple[Mapping[frozenset[str], float], float]]
_NEGLIGIBLE = 1e-3  # a coalition of a smaller weight is not worth a pass


@dataclasses.dataclass(frozen=True)
class MixtureWeights:
    """What predictions are to be made of, as a balancing method decides after an epoch.

    Attributes:
        coalition_weights: by coalition, for the model.
        reference: weight of the model's closed-form reference, in [0, 1].
        cross_fitted: class probabilities of the validation split, [n, k]. Each half of its videos is predicted with
            weights that were fitted on the other half, so that a metric of them can select the epoch.
        progress: how good the network is without the reference, larger is better, in nats per utterance; None where the
            method does not measure it. Training goes on while it rises.
        given: the first two for utterances that lack a modality, by the set of modalities that they have.
    """

    coalition_weights: dict[frozenset[str], float]
    reference: float
    cross_fitted: Float[Tensor, "n k"]
    progress: float | None = None
    given: Given = field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class MixtureValues:
    """What the buffers of a mixture hold.

    Attributes:
        coalitions: of every row of weights.
        used: whether anything gives a weight to it.
        weights: of the coalitions.
        reference: weight of the closed-form reference.
        given: both by the set of modalities of utterances that lack one.
    """

    coalitions: list[frozenset[str]]
    used: list[bool]
    weights: list[float]
    reference: float
    given: dict[frozenset[str], tuple[dict[frozenset[str], float], float]]


class CoalitionMixture(nn.Module):
    """Weights of coalitions of modalities, part of a model's state.

    A prediction is `(1 - r) sum_S w_S p_S + r q`: p_S is what the network predicts from the modalities of S alone, q
    what the model's closed-form reference predicts, if it has one. A modality that is in no coalition with a weight is
    excluded: nothing of it reaches a prediction. Without any weights, the network predicts with all modalities.

    Utterances that lack a modality may have weights w_S and r of their own, by what they have. Where they have none,
    each S is reduced to the modalities that the utterance has.

    Args:
        modalities: names, in the task's order.
    """

    members: Tensor
    weights: Tensor
    reference: Tensor
    patterns: Tensor
    pattern_weights: Tensor
    pattern_reference: Tensor

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        count = len(self.modalities)
        self.register_buffer("members", torch.zeros(MOST_COALITIONS, count, dtype=torch.bool))
        self.register_buffer("weights", torch.zeros(MOST_COALITIONS))
        self.register_buffer("reference", torch.zeros(()))
        self.register_buffer("patterns", torch.zeros(MOST_PATTERNS, count, dtype=torch.bool))
        self.register_buffer("pattern_weights", torch.zeros(MOST_PATTERNS, MOST_COALITIONS))
        self.register_buffer("pattern_reference", torch.zeros(MOST_PATTERNS))

    def set(self, weights: Mapping[frozenset[str], float], reference: float = 0.0, given: Given | None = None) -> None:
        """Replace the weights. Negligible ones are left out and the others scaled to add up to one.

        Args:
            weights: by coalition; none at all switches the mixture off.
            reference: r, the weight of the closed-form reference, in [0, 1].
            given: both for utterances that lack a modality, by the set of those that they have. Their coalitions lie
                within it.

        Errors:
            PaSEError: an unknown modality, a negative weight, or more coalitions or sets than there is room for.
        """
        common = _used(weights)
        others = {part: (_used(own), share) for part, (own, share) in (given or {}).items()} if common else {}
        listed = list(dict.fromkeys([*common, *(c for own, _ in others.values() for c in own)]))
        if unknown := {name for part in (*listed, *others) for name in part} - set(self.modalities):
            raise PaSEError(
                f"CoalitionMixture names {sorted(unknown)[0]!r}; the modalities are {', '.join(self.modalities)}."
            )
        shares = [reference, *(share for _, share in others.values())]
        if beyond := [share for share in shares if not 0 <= share <= 1]:
            raise PaSEError(f"The weight of the reference lies in [0, 1], found {beyond[0]}.")
        values = [*weights.values(), *(w for own, _ in (given or {}).values() for w in own.values())]
        if not all(weight >= 0 for weight in values) or len(listed) > MOST_COALITIONS:
            raise PaSEError(
                f"CoalitionMixture wants up to {MOST_COALITIONS} coalitions with weights of 0 or more, found "
                f"{len(listed)} with {min(values)} as the least."
            )
        if len(others) > MOST_PATTERNS or any(c - part for part, (own, _) in others.items() for c in own):
            raise PaSEError(
                f"CoalitionMixture wants weights for up to {MOST_PATTERNS} sets of modalities, of coalitions within "
                f"them, found {len(others)} sets with {sorted('+'.join(sorted(c)) for c in listed)}."
            )
        for buffer in self.buffers():
            buffer.zero_()
        self.reference.fill_(_share(reference))
        for row, coalition in enumerate(listed):
            self.members[row] = self._flags(coalition)
            self.weights[row] = common.get(coalition, 0.0)
        for place, (part, (own, share)) in enumerate(others.items()):
            self.patterns[place] = self._flags(part)
            self.pattern_weights[place] = torch.tensor(
                [own.get(c, 0.0) for c in listed] + [0.0] * (MOST_COALITIONS - len(listed))
            )
            self.pattern_reference[place] = _share(share)

    def _flags(self, part: frozenset[str]) -> Bool[Tensor, " m"]:
        return torch.tensor([name in part for name in self.modalities])

    @property
    def values(self) -> MixtureValues:
        """The buffers as plain values."""
        coalitions = [self._names(flags) for flags in self.members.tolist()]
        given = {
            self._names(flags): (_positive(coalitions, weights), share)
            for flags, weights, share in zip(
                self.patterns.tolist(), self.pattern_weights.tolist(), self.pattern_reference.tolist(), strict=True
            )
            if any(flags)
        }
        used = (self.weights > 0) | (self.pattern_weights > 0).any(0)
        return MixtureValues(coalitions, used.tolist(), self.weights.tolist(), float(self.reference), given)

    def _names(self, flags: Sequence[bool]) -> frozenset[str]:
        return frozenset(name for name, flag in zip(self.modalities, flags, strict=True) if flag)

    @property
    def coalition_weights(self) -> dict[frozenset[str], float]:
        """Weight of each coalition that has one, the heaviest first; empty where the mixture is off."""
        values = self.values
        return _positive(values.coalitions, values.weights)

    @property
    def given(self) -> dict[frozenset[str], tuple[dict[frozenset[str], float], float]]:
        """Weights of coalitions and of the reference, by the set of modalities of utterances that lack one."""
        return self.values.given

    def rows(self, present: Bool[Tensor, "n m"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, " n"]]:
        """Weights of the coalitions, in the order of `coalitions`, and of the reference, for each utterance.

        Args:
            present: what each utterance has.
        """
        own = torch.cat([self.pattern_weights, self.pattern_reference.unsqueeze(1)], dim=1)
        common = torch.cat([self.weights, self.reference.unsqueeze(0)])
        values = pattern_rows(present, self.patterns, own, common)
        return values[:, :-1], values[:, -1]

    def weigh(
        self, presences: Sequence[Bool[Tensor, "n m"]]
    ) -> list[tuple[list[tuple[frozenset[str], Any]], float | Float[Tensor, " n"]]]:
        """The coalitions that have a weight, each with it, and the weight of the reference.

        They are numbers where every utterance has everything, and [n] else.

        Args:
            presences: what each utterance has; there is one result for each of these.
        """
        values, compiled = self.values, torch.compiler.is_compiling()
        results: list[tuple[list[tuple[frozenset[str], Any]], Any]] = []
        for present in presences:
            rows: Sequence[Any]
            share: Any
            # a compiled graph cannot look at a tensor before it decides
            if not values.given or (not compiled and bool(present.all())):
                rows, share, used = values.weights, values.reference, [weight > 0 for weight in values.weights]
            else:
                weights, share = self.rows(present)
                rows, used = weights.unbind(1), values.used if compiled else weights.any(0).tolist()
            listed = zip(values.coalitions, rows, used, strict=True)
            results.append(([(coalition, weight) for coalition, weight, some in listed if some], share))
        return results

    def prediction_weight(self, modality: str) -> float:
        """Part of the network's prediction that uses a modality, in [0, 1]; 1 where the mixture is off."""
        weights = self.coalition_weights
        return sum(weight for coalition, weight in weights.items() if modality in coalition) if weights else 1.0


def _used(weights: Mapping[frozenset[str], float]) -> dict[frozenset[str], float]:
    """The weights that are not negligible, scaled to add up to one, the heaviest first."""
    used = {coalition: float(weight) for coalition, weight in weights.items() if weight > _NEGLIGIBLE}
    total = sum(used.values())
    return {coalition: weight / total for coalition, weight in sorted(used.items(), key=lambda item: -item[1])}


def _positive(coalitions: Sequence[frozenset[str]], weights: Sequence[float]) -> dict[frozenset[str], float]:
    return {coalition: weight for coalition, weight in zip(coalitions, weights, strict=True) if weight > 0}


def _share(reference: float) -> float:
    return reference if reference > _NEGLIGIBLE else 0.0


def mix_outputs(
    task: Task,
    parts: Sequence[tuple[float | Float[Tensor, " n"], Outputs]],
    reference: Tensor | None = None,
    weight: float | Float[Tensor, " n"] = 0.0,
) -> Outputs:
    """The outputs of a mixture: probabilities and scores are averaged; vectors and gates are the heaviest part's.

    Args:
        task: what is predicted.
        parts: weights, which add up to one, and outputs. A weight may differ between utterances, [n].
        reference: class probabilities of the closed-form reference, [n, k].
        weight: of these in the mixture, r.
    """
    main = _heaviest(parts)
    if len(parts) == 1 and reference is None:
        return main
    probabilities = torch.stack([_column(part) * output.probabilities for part, output in parts]).sum(0)
    if reference is not None:
        probabilities = torch.lerp(probabilities, reference.to(probabilities), _column(weight))
    tiny = torch.finfo(probabilities.dtype).tiny
    score = task.score(probabilities) if task.kind == "regression" else None
    return dataclasses.replace(
        main, logits=probabilities.clamp(min=tiny).log(), probabilities=probabilities, score=score
    )


def _heaviest(parts: Sequence[tuple[float | Float[Tensor, " n"], Outputs]]) -> Outputs:
    if torch.compiler.is_compiling():  # a compiled graph cannot compare values, and is asked for probabilities alone
        return parts[0][1]
    return max(parts, key=lambda part: float(torch.as_tensor(part[0]).mean()))[1]


def _column(weight: float | Float[Tensor, " n"]) -> Any:
    """A weight that multiplies rows."""
    return weight.unsqueeze(1) if isinstance(weight, Tensor) else weight
