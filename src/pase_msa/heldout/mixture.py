"""Which coalitions of modalities a prediction is made of, and the mixture of their outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pase_msa.batch import Outputs
from pase_msa.errors import PaSEError
from pase_msa.heldout.weights import MOST_COALITIONS
from pase_msa.task import Task

_NEGLIGIBLE = 1e-3  # a smaller share is not worth a pass


class CoalitionMixture(nn.Module):
    """Weights of coalitions of modalities, part of a model's state. Without any, a model reads all modalities.

    A prediction is `(1 - r) sum_S w_S p_S + r q`, where p_S is what the model says with only the modalities of S, and q
    what its closed-form reference says, if it has one. A modality that is in no coalition with a weight is closed:
    nothing of it reaches a prediction.

    Args:
        modalities: names, in the task's order.
    """

    members: Tensor
    weights: Tensor
    reference: Tensor

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.register_buffer("members", torch.zeros(MOST_COALITIONS, len(self.modalities), dtype=torch.bool))
        self.register_buffer("weights", torch.zeros(MOST_COALITIONS))
        self.register_buffer("reference", torch.zeros(()))

    def set(self, weights: Mapping[frozenset[str], float], reference: float = 0.0) -> None:
        """Replace the weights; negligible ones are left out and the others scaled to add up to one. None: no trust.

        Args:
            weights: of coalitions.
            reference: r, the share of the closed-form reference, in [0, 1].

        Errors:
            PaSEError: an unknown modality, a negative weight, or more coalitions than there is room for.
        """
        kept = {coalition: float(weight) for coalition, weight in weights.items() if weight > _NEGLIGIBLE}
        if unknown := {name for coalition in kept for name in coalition} - set(self.modalities):
            raise PaSEError(
                f"CoalitionMixture names {sorted(unknown)[0]!r}; the modalities are {', '.join(self.modalities)}."
            )
        if not 0 <= reference <= 1:
            raise PaSEError(f"The share of the reference lies in [0, 1], found {reference}.")
        if not all(weight >= 0 for weight in weights.values()) or len(kept) > MOST_COALITIONS:
            raise PaSEError(
                f"CoalitionMixture wants up to {MOST_COALITIONS} coalitions with weights of 0 or more, found {len(kept)} with "
                f"{min(weights.values())} as the least."
            )
        self.members.zero_()
        self.weights.zero_()
        self.reference.fill_(reference if reference > _NEGLIGIBLE else 0.0)
        total = sum(kept.values())
        for row, (coalition, weight) in enumerate(sorted(kept.items(), key=lambda item: -item[1])):
            self.members[row] = torch.tensor([name in coalition for name in self.modalities])
            self.weights[row] = weight / total

    @property
    def coalitions(self) -> dict[frozenset[str], float]:
        """Coalitions with a weight, the heaviest first; empty where all modalities are read."""
        return {
            frozenset(name for name, flag in zip(self.modalities, row, strict=True) if flag): weight
            for row, weight in zip(self.members.tolist(), self.weights.tolist(), strict=True)
            if weight > 0
        }

    def prediction_weight(self, modality: str) -> float:
        """Share of the network's part of the prediction that a modality has a say in, in [0, 1]."""
        weights = self.coalitions
        return sum(weight for coalition, weight in weights.items() if modality in coalition) if weights else 1.0


def mix_outputs(
    task: Task, parts: Sequence[tuple[float, Outputs]], other: Tensor | None = None, share: float = 0.0
) -> Outputs:
    """The outputs of a mixture: probabilities and scores are averaged; vectors and gates are the heaviest part's.

    Args:
        task: what is predicted.
        parts: weights, which add up to one, and outputs.
        other: class probabilities from elsewhere, [n, k].
        share: theirs in the mixture.
    """
    main = max(parts, key=lambda part: part[0])[1]
    if len(parts) == 1 and other is None:
        return main
    probabilities = torch.stack([weight * output.probabilities for weight, output in parts]).sum(0)
    if other is not None:
        probabilities = torch.lerp(probabilities, other.to(probabilities), share)
    tiny = torch.finfo(probabilities.dtype).tiny
    score = task.score(probabilities) if task.kind == "regression" else None
    return dataclasses.replace(
        main, logits=probabilities.clamp(min=tiny).log(), probabilities=probabilities, score=score
    )
