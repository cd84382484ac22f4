"""MLA (Zhang, Yoon, Bansal, Yao 2024, "Multimodal Representation Learning by Alternating Unimodal Adaptation", CVPR).

Each modality learns by itself through one classifier (W, b) for all, and what W learns from one modality is kept out of
the directions that the modalities before it use. A projector P, at first the identity, loses the direction of the mean
vector r of a modality after each of its turns, and multiplies the gradient of W:

    grad W <- grad W P,     then    P <- P - (P r)(P r)^T / (alpha + r^T P r),     alpha = 0.1^(1 + share of the epoch)

A prediction is the mean of the logits of the modalities present, weighted by softmax(-H_m), where H_m is the entropy of
what modality m predicts: the surer one counts more.

Ours, where the published code goes another way:

- The projection acts (in the code it looks for the classifier under a name that it does not have, and never runs), with
  the scalar r^T P r in the denominator, and P is not divided by its norm.
- P multiplies first and takes in r afterwards, so that a modality is kept from those before it and not from itself.
- The turns of a batch are one step of the optimiser: its gradient is the sum of theirs, each of them projected in its
  turn. The encoders have the gradients that they would have in turns.
- The share of the epoch is counted in steps of the epoch before, and is 0 in the first. An absent modality has no loss
  and no part in r. Each modality is trained by L_task. Weights of modalities fixed by hand are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.distributed import sum_over_processes
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.objective import Losses
from pase_msa.ranges import check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size D of the modality vectors.
        dropout: on the modality vectors.
        projection: whether the gradient of the classifier is projected.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mla"
    width: int = 128
    dropout: float = 0.2
    projection: bool = True
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self)


def without_direction(
    projector: Float[Tensor, "d d"], direction: Float[Tensor, " d"], alpha: float | Float[Tensor, ""]
) -> Float[Tensor, "d d"]:
    """P after r, see the module: symmetric, with eigenvalues in [0, 1], as P is; for alpha = 0 it maps r to zero."""
    image = projector @ direction
    return projector - torch.outer(image, image) / (alpha + direction @ image)


def projected_linear(
    vectors: Float[Tensor, "n d"],
    weight: Float[Tensor, "k d"],
    bias: Float[Tensor, " k"],
    projector: Float[Tensor, "d d"],
) -> Float[Tensor, "n k"]:
    """Logits W z + b, whose gradient is projected for W and as usual for z and b."""
    # the second term is zero; it carries the gradient of W, for which it takes P z in place of z
    inner = F.linear(vectors, weight.detach(), bias)
    return inner + F.linear(vectors.detach() @ projector, weight - weight.detach())


def entropy_weights(logits: Float[Tensor, "m n k"], present: Bool[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Weights of the modalities of each utterance, softmax(-H) over those that it has; zero for the others."""
    log = logits.log_softmax(2)
    entropy = -(log.exp() * log).sum(2)
    weights = (-entropy).masked_fill(~present, torch.finfo(entropy.dtype).min).softmax(0)
    return weights * present  # an utterance without any modality has no weights


class MLA(FusedModel):
    """Encoders, one classifier for every vector, and the mean of its logits by their entropies."""

    config: Config
    projector: Tensor
    step: Tensor
    steps_per_epoch: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.width, task.num_classes)
        self.head = nn.Identity()  # what is fused are logits
        self.register_buffer("projector", torch.eye(config.width))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))  # of this epoch
        self.register_buffer("steps_per_epoch", torch.zeros((), dtype=torch.long))  # in the epoch before

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """The vectors, after dropout, which the losses need as the prediction had them."""
        vectors, present = self.encode(batch)
        return {name: self.dropout(vector) for name, vector in vectors.items()}, present

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The weighted mean of the logits of the modalities, and these."""
        names = self.task.modalities
        logits = torch.stack([self.classifier(parts[name]) for name in names])
        weights = entropy_weights(logits, torch.stack([present[name] for name in names]))
        return (weights.unsqueeze(2) * logits).sum(0), dict(zip(names, logits.unbind(), strict=True))

    def begin_epoch(self) -> None:
        """Count the steps anew."""
        self.steps_per_epoch.copy_(self.step)
        self.step.zero_()

    @torch.no_grad()
    def projectors(self, outputs: Outputs) -> list[Float[Tensor, "d d"]]:
        """P at the turn of each modality in this batch, and, as the last entry, after the batch."""
        names, present = self.task.modalities, outputs.present
        sums = torch.stack([(outputs.vectors[n] * present[n].unsqueeze(1)).sum(0) for n in names])
        counts = torch.stack([present[n].sum() for n in names]).to(sums.dtype).unsqueeze(1)
        joint = sum_over_processes(torch.cat([sums, counts], dim=1))
        means = joint[:, :-1] / joint[:, -1:].clamp(min=1)  # zero for a modality that nobody has: P stays
        share = (self.step / self.steps_per_epoch.clamp(min=1)).clamp(max=1) * (self.steps_per_epoch > 0)
        alpha = 0.1 ** (1 + share)
        result = [self.projector]
        for mean in means.unbind():
            result.append(without_direction(result[-1], mean, alpha))
        return result

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task of each modality by itself, as "unimodal/NAME"."""
        assert batch.labels is not None
        config, names = self.config, self.task.modalities
        logits = self.tensors(outputs)
        if config.projection:
            weight, bias = self.classifier.weight, self.classifier.bias
            turns = zip(names, self.projectors(outputs), strict=False)
            logits = {n: projected_linear(outputs.vectors[n], weight, bias, turn) for n, turn in turns}
        return {f"unimodal/{n}": self.branch_loss(logits[n], batch, outputs.present[n]) for n in names}

    @torch.no_grad()
    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Take the directions of the batch out of P."""
        if self.config.projection:
            self.projector.copy_(self.projectors(outputs)[-1])
        self.step += 1


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MLA:
    """The plug-in's entry point."""
    return MLA(task, inputs, config)
