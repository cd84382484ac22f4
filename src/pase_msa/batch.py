"""What a model receives and what it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pase_msa.errors import PaSEError


@dataclass
class Batch:
    """N utterances, keyed by modality name.

    Attributes:
        features: padded sequences per modality: [N, T_m, D_m] real, or token ids [N, T_m] where the encoder reads text.
        lengths: valid steps per sequence, [N]; 0 where the modality is absent.
        present: whether an utterance has the modality, [N].
        labels: real scores or class numbers [N], or None where unknown.
        rows: row of the utterance in its feature table, [N]; for models that keep a state per training row.
        videos: number of the utterance's video, [N].
        speakers: number of who speaks, comparable within a video, [N]; -1 where unknown. None where the data name
            nobody.
        encoded: vectors of modalities, [N, D], where encoders that several models share have read the batch already;
            a mask acts on them as on features. None where each model encodes.
    """

    features: dict[str, Tensor]
    lengths: dict[str, Int[Tensor, " n"]]
    present: dict[str, Bool[Tensor, " n"]]
    labels: Tensor | None = None
    rows: Int[Tensor, " n"] | None = None
    videos: Int[Tensor, " n"] | None = None
    speakers: Int[Tensor, " n"] | None = None
    encoded: dict[str, Float[Tensor, "n d"]] | None = None

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
            move(self.speakers),
            None if self.encoded is None else moved(self.encoded),
        )

    def take(self, index: Tensor) -> Batch:
        """The batch of some utterances: by number, or those that a flag marks, [N]."""

        def picked(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: picked(part) for name, part in value.items()}
            return None if value is None else value[index]

        return Batch(*(picked(getattr(self, field.name)) for field in dataclasses.fields(self)))

    def only(self, modalities: Iterable[str]) -> Batch:
        """The batch with every other modality masked: marked absent, while its features stay where they are."""
        members = set(modalities)
        if unknown := members - set(self.features):
            raise PaSEError(
                f"The batch has the modalities {list(self.features)}, not {sorted(unknown)}; name some of these."
            )
        present = {name: flag if name in members else torch.zeros_like(flag) for name, flag in self.present.items()}
        return dataclasses.replace(self, present=present)


@runtime_checkable
class OutputState(Protocol):
    """What a model keeps of a pass of its network for `losses` and `update`."""

    def split(self, count: int) -> Sequence[OutputState]:
        """The states of `count` batches of the same size that went through the network as one."""


@dataclass
class TensorState:
    """An `OutputState` of tensors by name, each [N, ...].

    Attributes:
        tensors: of the pass.
    """

    tensors: dict[str, Tensor]

    def split(self, count: int) -> list[TensorState]:
        """The states of `count` batches of the same size."""
        pieces = {name: split_rows(value, count) for name, value in self.tensors.items()}
        return [TensorState({name: values[index] for name, values in pieces.items()}) for index in range(count)]


def split_rows(value: Tensor, count: int, dim: int = 0) -> list[Tensor]:
    """`count` equal pieces along a dimension, as views."""
    # not `chunk`: its number of pieces is unknown where the number of rows is a symbol of an exported graph
    return list(value.unflatten(dim, (count, -1)).unbind(dim))  # type: ignore[no-untyped-call]


@dataclass
class Outputs:
    """What a model predicts for N utterances, and what it computed on the way.

    Attributes:
        logits: [N, K].
        probabilities: softmax of the logits, eq. 14, [N, K].
        score: expectation of the class values, [N] (regression), else None.
        fused: the input of the prediction head, [N, F].
        vectors: one pooled feature per modality, h_m, [N, D]; imputed where absent.
        present: as in the batch.
        posteriors: prototype posterior per modality, [N, K].
        gates: gate values per modality, [N, D] or [N, 1].
        weights: modality weights, eq. 11, each a scalar.
        details: scalar parts of the losses, to log and for eq. 19: "intra/text", "inter/text+audio".
        state: what the model's `losses` and `update` need of the pass, in a type of the model's own.
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
    state: OutputState | None = None

    def split(self, count: int) -> list[Outputs]:
        """The outputs of `count` batches of the same size that went through the model as one, in their order.

        `weights` are those of all; `details` are left out, since they were computed over all rows.
        """

        def of_each(group: dict[str, Tensor]) -> list[dict[str, Tensor]]:
            pieces = {name: split_rows(value, count) for name, value in group.items()}
            return [{name: values[index] for name, values in pieces.items()} for index in range(count)]

        logits, probabilities, fused = (split_rows(v, count) for v in (self.logits, self.probabilities, self.fused))
        scores = [None] * count if self.score is None else split_rows(self.score, count)
        states = [None] * count if self.state is None else self.state.split(count)
        vectors, present = of_each(self.vectors), of_each(self.present)
        posteriors, gates = of_each(self.posteriors), of_each(self.gates)
        return [
            Outputs(
                logits[index],
                probabilities[index],
                scores[index],
                fused[index],
                vectors=vectors[index],
                present=present[index],
                posteriors=posteriors[index],
                gates=gates[index],
                weights=dict(self.weights),
                state=states[index],
            )
            for index in range(count)
        ]
