"""What a model receives and what it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pase_msa.errors import PaSEError


@dataclass
class Batch:
    """N utterances, keyed by modality name.

    Attributes:
        features: a modality's padded sequences, [N, T_m, D_m] real, or token ids [N, T_m] where its encoder reads text.
        lengths: valid steps a sequence, [N]; 0 where the modality is absent.
        present: whether an utterance has the modality, [N].
        labels: real scores or class numbers [N], or None where unknown.
        rows: row of the utterance in its feature table, [N]; for models that keep a state a training row.
        videos: number of the utterance's video, [N].
    """

    features: dict[str, Tensor]
    lengths: dict[str, Int[Tensor, " n"]]
    present: dict[str, Bool[Tensor, " n"]]
    labels: Tensor | None = None
    rows: Int[Tensor, " n"] | None = None
    videos: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.features)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on another device (Lightning calls this)."""

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device, non_blocking=non_blocking)

        def moved(group: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.to(device, non_blocking=non_blocking) for name, value in group.items()}

        return Batch(
            moved(self.features),
            moved(self.lengths),
            moved(self.present),
            move(self.labels),
            move(self.rows),
            move(self.videos),
        )

    def only(self, modalities: Iterable[str]) -> Batch:
        """The batch with every other modality withheld (marked absent; the features stay where they are)."""
        kept = set(modalities)
        if unknown := kept - set(self.features):
            raise PaSEError(
                f"The batch has the modalities {list(self.features)}, not {sorted(unknown)}; name some of these."
            )
        present = {name: flag if name in kept else torch.zeros_like(flag) for name, flag in self.present.items()}
        return dataclasses.replace(self, present=present)


@dataclass
class Outputs:
    """What a model says about N utterances.

    Attributes:
        logits: [N, K].
        probabilities: softmax of the logits, eq. 14, [N, K].
        score: expectation of the class values, [N] (regression), else None.
        fused: the representation that the head reads, [N, F].
        vectors: one pooled feature a modality, h_m, [N, D]; imputed where absent.
        present: as in the batch.
        posteriors: prototype posterior a modality, [N, K].
        gates: gate values a modality, [N, D] or [N, 1].
        weights: modality weights, eq. 11, each a scalar.
        details: parts of the losses to log, and to grade coalitions by: "intra/text", "inter/text+audio"; scalars.
        state: what the model wants to find again in `losses` and `update`.
    """

    logits: Float[Tensor, "n k"]
    probabilities: Float[Tensor, "n k"]
    score: Float[Tensor, " n"] | None
    fused: Float[Tensor, "n f"]
    vectors: dict[str, Float[Tensor, "n d"]] = field(default_factory=dict)
    present: dict[str, Bool[Tensor, " n"]] = field(default_factory=dict)
    posteriors: dict[str, Float[Tensor, "n k"]] = field(default_factory=dict)
    gates: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    details: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
