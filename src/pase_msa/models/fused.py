"""Models that encode each modality, fuse once, and are trained by the task's loss alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs, TensorState
from pase_msa.models.base import Model
from pase_msa.objective import Losses, task_losses

Fused = Float[Tensor, "n f"] | tuple[Float[Tensor, "n f"], dict[str, Float[Tensor, "n ..."]]]


class TaskWeights(Protocol):
    """The options that such a model has.

    Attributes:
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    class_weight: float
    score_weight: float


class FusedModel(Model):
    """`encode_parts`, `fuse`, head: such models differ in the fusion only, and so does a comparison of them.

    Attributes:
        config: options.
        head: maps the fused vector to logits [N, K].
    """

    config: TaskWeights
    head: nn.Module

    @abstractmethod
    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """One vector per utterance from the parts of its modalities, [N, F].

        It may come with tensors [N, ...] by name, which `losses` and `update` then find in `outputs.state.tensors`.

        Args:
            parts: what `encode_parts` returned; zero where a modality is absent.
            present: whether the utterance has the modality, [N].
        """

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """The part of each modality (its vector, [N, D]) and presence, in the task's order."""
        return self.encode(batch)

    def network(self, batch: Batch) -> Outputs:
        """One pass with every modality of the batch."""
        return self._outputs(*self.encode_parts(batch))

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities; each utterance is encoded once."""
        parts, present = self.encode_parts(batch)
        outputs = []
        for coalition in coalitions:
            flags = {name: flag & (name in coalition) for name, flag in present.items()}
            masked = {name: part if name in coalition else part * 0.0 for name, part in parts.items()}
            outputs.append(self._outputs(masked, flags))
        return outputs

    def _outputs(self, parts: dict[str, Tensor], present: dict[str, Bool[Tensor, " n"]]) -> Outputs:
        result = self.fuse(parts, present)
        fused, tensors = result if isinstance(result, tuple) else (result, None)
        state = None if tensors is None else TensorState(tensors)
        vectors = {name: part for name, part in parts.items() if part.ndim == 2}  # frames are not vectors
        return self.outputs(self.head(fused), fused, present, vectors=vectors, state=state)

    @staticmethod
    def tensors(outputs: Outputs) -> dict[str, Float[Tensor, "n ..."]]:
        """What `fuse` returned beside the fused vector."""
        assert isinstance(outputs.state, TensorState)
        return outputs.state.tensors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, eq. 16, and nothing else."""
        assert batch.labels is not None
        return task_losses(
            outputs.logits,
            outputs.score,
            batch.labels,
            self.task.membership(batch.labels),
            class_weight=self.config.class_weight,
            score_weight=self.config.score_weight,
        )
