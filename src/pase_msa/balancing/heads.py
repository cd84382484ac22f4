"""Unimodal heads: a linear classifier per modality vector, for methods that watch or train modalities alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.errors import PaSEError
from pase_msa.objective import task_losses, utterance_losses
from pase_msa.task import Task


class UnimodalHeads(nn.Module):
    """A linear head per modality over `Outputs.vectors`; a method makes it its `auxiliary_heads`.

    Args:
        method: name of the balancing method, for the error sentence.
        task: what is predicted.
        model: the model whose vectors the heads read.

    Errors:
        PaSEError: the model has no vectors.
    """

    def __init__(self, method: str, task: Task, model: nn.Module) -> None:
        super().__init__()
        if not getattr(model, "has_vectors", False):
            raise PaSEError(
                f"{method} gives every modality a head over its vector, and {type(model).__name__} has no vectors; "
                "choose another model or balancing method."
            )
        width = int(model.width)  # type: ignore[arg-type]
        self.task = task
        self.linear = nn.ModuleDict({name: nn.Linear(width, task.num_classes) for name in task.modalities})

    def logits(self, outputs: Outputs, *, detached: bool = False) -> dict[str, Tensor]:
        """Logits by modality, [N, K]; `detached` keeps the gradient of the heads from the encoders.

        Rows without the modality have logits too, of the zero or imputed vector; leave them out by `batch.present`.
        """
        vectors = {name: vector.detach() if detached else vector for name, vector in outputs.vectors.items()}
        return {name: linear(vectors[name]) for name, linear in self.linear.items()}

    def utterance_losses(self, outputs: Outputs, batch: Batch) -> dict[str, Float[Tensor, " n"]]:
        """L_task of each head and utterance; those of utterances without the modality are of no account."""
        assert batch.labels is not None
        membership = self.task.membership(batch.labels)
        result = {}
        for name, logits in self.logits(outputs).items():
            score = self.task.score(logits.softmax(1)) if self.task.kind == "regression" else None
            result[name] = utterance_losses(logits, score, batch.labels, membership)
        return result

    def named_losses(self, outputs: Outputs, batch: Batch, *, detached: bool = False) -> dict[str, Tensor]:
        """`losses` under the names that they have among a model's losses, "alone/MODALITY"."""
        return {f"alone/{name}": value for name, value in self.losses(outputs, batch, detached=detached).items()}

    def losses(self, outputs: Outputs, batch: Batch, *, detached: bool = False) -> dict[str, Tensor]:
        """Loss L_task (eq. 16) of each head over the utterances that have its modality.

        A modality that no utterance of the batch has is left out.
        """
        assert batch.labels is not None
        membership = self.task.membership(batch.labels)
        result = {}
        for name, logits in self.logits(outputs, detached=detached).items():
            here = batch.present[name]
            if bool(here.any()):
                score = self.task.score(logits.softmax(1)) if self.task.kind == "regression" else None
                parts = task_losses(
                    logits[here], None if score is None else score[here], batch.labels[here], membership[here]
                )
                result[name] = torch.stack(list(parts.values())).sum()
        return result
