"""Models that encode each modality, fuse once, and are trained by the task's loss alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs, TensorState
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.base import Encoder
from pase_msa.errors import PaSEError
from pase_msa.models.base import Model, of_coalitions
from pase_msa.models.unimodal import unimodal_loss
from pase_msa.objective import Losses, task_losses
from pase_msa.task import Task

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
        return [self._outputs(*each) for each in of_coalitions(*self.encode_parts(batch), coalitions)]

    def _outputs(self, parts: dict[str, Tensor], present: dict[str, Bool[Tensor, " n"]]) -> Outputs:
        result = self.fuse(parts, present)
        fused, tensors = result if isinstance(result, tuple) else (result, None)
        state = None if tensors is None else TensorState(tensors)
        vectors = self.modality_vectors(parts, tensors or {})
        return self.outputs(self.head(fused), fused, present, vectors=vectors, state=state)

    def modality_vectors(
        self, parts: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "n d"]]:
        """The vector of each modality, zero where it is absent: the parts that are no frames.

        Args:
            parts: what `encode_parts` returned.
            tensors: what `fuse` returned beside the fused vector.
        """
        return {name: part for name, part in parts.items() if part.ndim == 2}

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

    def branch_loss(self, logits: Float[Tensor, "n k"], batch: Batch, here: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
        """L_task of a further head of the model, as a mean over the utterances marked by `here`; 0 without any."""
        assert batch.labels is not None
        weights = {"class_weight": self.config.class_weight, "score_weight": self.config.score_weight}
        return unimodal_loss(self.task, logits, batch.labels, here, **weights)


def tapering_head(inputs: int, sizes: Sequence[int], num_classes: int, dropout: float) -> nn.Sequential:
    """Layers that taper off to no fewer than four units, GELU between them: a fused vector [N, inputs] to logits."""
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    for size in sizes:
        layers += [nn.Linear(inputs, max(size, 4)), nn.GELU()]
        inputs = max(size, 4)
    return nn.Sequential(*layers, nn.Linear(inputs, num_classes))


def anchor_of(task: Task, wanted: str | None, model: str) -> str:
    """The modality that the others are joined to: the one asked for, or text, or else the first.

    Errors:
        PaSEError: the task lacks the one asked for.
    """
    if wanted is None:
        return "text" if "text" in task.modalities else task.modalities[0]
    if wanted not in task.modalities:
        raise PaSEError(
            f"The anchor of {model} is to be {wanted!r}, which the task lacks ({', '.join(task.modalities)}); name "
            "one of these with --model.anchor."
        )
    return wanted


def check_frames(model: str, encoders: nn.ModuleDict, inputs: Mapping[str, InputSpec]) -> None:
    """Refuse encoders without frames.

    Errors:
        PaSEError: the first encoder that has none.
    """
    for name, encoder in encoders.items():
        if not (isinstance(encoder, Encoder) and encoder.has_frames):
            raise PaSEError(
                f"The model {model} needs frames, and the encoder {inputs[name].encoder!r} of {name} gives a vector "
                "only; leave that encoder out, or give it a method `frames`."
            )
