"""The mixture over coalitions of modalities that a prediction is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pase_msa.batch import Outputs
from pase_msa.errors import PaSEError
from pase_msa.heldout.weights import MOST_COALITIONS
from pase_msa.task import Task

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
    """

    coalition_weights: dict[frozenset[str], float]
    reference: float
    cross_fitted: Float[Tensor, "n k"]
    progress: float | None = None


class CoalitionMixture(nn.Module):
    """Weights of coalitions of modalities, part of a model's state.

    A prediction is `(1 - r) sum_S w_S p_S + r q`: p_S is what the network predicts from the modalities of S alone, q
    what the model's closed-form reference predicts, if it has one. A modality that is in no coalition with a weight is
    excluded: nothing of it reaches a prediction. Without any weights, the network predicts with all modalities.

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
        """Replace the weights. Negligible ones are left out and the others scaled to add up to one.

        Args:
            weights: by coalition; none at all switches the mixture off.
            reference: r, the weight of the closed-form reference, in [0, 1].

        Errors:
            PaSEError: an unknown modality, a negative weight, or more coalitions than there is room for.
        """
        used = {coalition: float(weight) for coalition, weight in weights.items() if weight > _NEGLIGIBLE}
        if unknown := {name for coalition in used for name in coalition} - set(self.modalities):
            raise PaSEError(
                f"CoalitionMixture names {sorted(unknown)[0]!r}; the modalities are {', '.join(self.modalities)}."
            )
        if not 0 <= reference <= 1:
            raise PaSEError(f"The weight of the reference lies in [0, 1], found {reference}.")
        if not all(weight >= 0 for weight in weights.values()) or len(used) > MOST_COALITIONS:
            raise PaSEError(
                f"CoalitionMixture wants up to {MOST_COALITIONS} coalitions with weights of 0 or more, found "
                f"{len(used)} with {min(weights.values())} as the least."
            )
        self.members.zero_()
        self.weights.zero_()
        self.reference.fill_(reference if reference > _NEGLIGIBLE else 0.0)
        total = sum(used.values())
        for row, (coalition, weight) in enumerate(sorted(used.items(), key=lambda item: -item[1])):
            self.members[row] = torch.tensor([name in coalition for name in self.modalities])
            self.weights[row] = weight / total

    @property
    def coalition_weights(self) -> dict[frozenset[str], float]:
        """Weight of each coalition that has one, the heaviest first; empty where the mixture is off."""
        return {
            frozenset(name for name, flag in zip(self.modalities, row, strict=True) if flag): weight
            for row, weight in zip(self.members.tolist(), self.weights.tolist(), strict=True)
            if weight > 0
        }

    def prediction_weight(self, modality: str) -> float:
        """Part of the network's prediction that uses a modality, in [0, 1]; 1 where the mixture is off."""
        weights = self.coalition_weights
        return sum(weight for coalition, weight in weights.items() if modality in coalition) if weights else 1.0


def mix_outputs(
    task: Task, parts: Sequence[tuple[float, Outputs]], reference: Tensor | None = None, weight: float = 0.0
) -> Outputs:
    """The outputs of a mixture: probabilities and scores are averaged; vectors and gates are the heaviest part's.

    Args:
        task: what is predicted.
        parts: weights, which add up to one, and outputs.
        reference: class probabilities of the closed-form reference, [n, k].
        weight: of these in the mixture, r.
    """
    main = max(parts, key=lambda part: part[0])[1]
    if len(parts) == 1 and reference is None:
        return main
    probabilities = torch.stack([part * output.probabilities for part, output in parts]).sum(0)
    if reference is not None:
        probabilities = torch.lerp(probabilities, reference.to(probabilities), weight)
    tiny = torch.finfo(probabilities.dtype).tiny
    score = task.score(probabilities) if task.kind == "regression" else None
    return dataclasses.replace(
        main, logits=probabilities.clamp(min=tiny).log(), probabilities=probabilities, score=score
    )
