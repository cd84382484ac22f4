"""CorrKD, reduced (after the description of Li, Yang, Lei and others 2024, "Correlation-Decoupled Knowledge
Distillation for Multimodal Sentiment Analysis with Incomplete Modalities", CVPR, of which no code was published).

Missing is the network that estimates mutual information between the responses of teacher and student: its form is not
known. The divergence that stands in its place here is the variant that the paper itself measures as weaker.

A frozen teacher, which saw all modalities, teaches a student from which frames and modalities are hidden. With the
joint vectors h^s and h^t of the same utterances, distances in the length of vectors, and cosines M_ik of h_i with the
mean c_k of class k in the batch, each network with its own means:

    "samples"     mean over i and j != i of |h_i^s - h_i^t|^2 + max(0, margin - |h_i^s - h_j^t|)^2
    "prototypes"  mean over i and k of |M_ik^s - M_ik^t|
    "responses"   KL of teacher and student on (target class, all others), and on the others among themselves

Ours, where the description goes another way or says nothing:

- The teacher is the network itself after `warm_up` epochs without hiding, copied; then the student goes on from it.
- The joint vector is the mean of a layer over each present modality's vector, which the library's encoder gives. So a
  prediction rests on the modalities that there are, in training as later.
- A hidden frame is a frame of zeros once standardised; token ids are never hidden. A modality that the data lack is
  hidden from the teacher, too.
- The class means of scores are weighted by (soft) memberships, a class without weight in the batch is left out, and the
  target class is that of the largest membership.
- The pairs of "samples" are averaged. Their sum would grow with the square of the batch, which no weight of 1 allows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.scaler import Standardizer
from pase_msa.models.base import head
from pase_msa.models.fused import FusedModel
from pase_msa.models.missing import FrozenCopy, WarmUp, frozen_encoders, frozen_vectors, with_hidden
from pase_msa.objective import Losses
from pase_msa.prototypes import class_centroids, cosine
from pase_msa.ranges import COUNT, NOT_NEGATIVE, PROPER_SHARE, check_model
from pase_msa.task import Task

REDUCED = "without its estimate of mutual information"
_EPSILON = 1e-6


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors and of the joint one.
        dropout: in the head.
        samples: weight of the contrast of samples.
        prototypes: weight of the similarities to class means.
        responses: weight of the responses.
        margin: distance that the vectors of different utterances have at least.
        frames: share of frames that are hidden from the student.
        warm_up: epochs of the teacher.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "corrkd"
    width: int = 64
    dropout: float = 0.4
    samples: float = 1.0
    prototypes: float = 1.0
    responses: float = 1.0
    margin: float = 1.2
    frames: float = 0.2
    warm_up: int = 5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, samples=NOT_NEGATIVE, prototypes=NOT_NEGATIVE, responses=NOT_NEGATIVE, margin=NOT_NEGATIVE)
        check_model(self, frames=PROPER_SHARE, warm_up=COUNT)


def sample_contrast(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], here: Bool[Tensor, " n"], margin: float
) -> Float[Tensor, ""]:
    """Each student's vector near its teacher's, and as far as the margin from those of the others.

    Over the pairs of rows that count; 0 where there is none.
    """
    difference = student.unsqueeze(1) - teacher.unsqueeze(0)
    squared = difference.square().sum(2)
    # the root has no slope at zero
    apart = (margin - (squared + _EPSILON**2).sqrt()).relu().square()
    other = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    pairs = other & here.unsqueeze(0) & here.unsqueeze(1)
    return ((squared.diagonal().unsqueeze(1) + apart) * pairs).sum() / pairs.sum().clamp(min=1)


def class_similarities(
    vectors: Float[Tensor, "n d"], membership: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "n k"], Bool[Tensor, " k"]]:
    """Cosines of vectors with the weighted means of the classes, and which classes have any weight."""
    means, counts = class_centroids(vectors, membership)
    return cosine(vectors, means), counts > _EPSILON


def decoupled_divergence(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"], target: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """KL(teacher || student) of logits: that of target against rest, plus that of the rest without the target."""
    own, classes = target.unsqueeze(1), student.shape[1]
    others = (own + torch.arange(1, classes, device=target.device)) % classes

    def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
        rest = logits.gather(1, others)
        both = torch.cat([logits.gather(1, own), rest.logsumexp(1, keepdim=True)], dim=1)
        return both.log_softmax(1), rest.log_softmax(1)

    pairs = zip(parts(student), parts(teacher), strict=True)
    return torch.stack([(t.exp() * (t - s)).sum(1) for s, t in pairs]).sum(0)


class CorrKD(FusedModel):
    """Encoders, a layer per modality, their mean over the modalities present, and the head; and a copy of it all."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        width = config.width
        self.project = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(width, width), nn.ReLU()) for name in task.modalities}
        )
        self.head = head(width, task.num_classes, config.dropout)
        self.warm_up = WarmUp(config.warm_up)
        self.teachers = frozen_encoders(self)
        self.teacher_layers = nn.ModuleDict({name: FrozenCopy(layer) for name, layer in self.project.items()})
        self.teacher_head = FrozenCopy(self.head)

    def begin_epoch(self) -> None:
        """Count the epochs, and copy the network when the warm-up is over."""
        if self.warm_up.begin_epoch():
            self.teacher_head.take(self.head)
            for name in self.task.modalities:
                self.teachers[name].take(self.encoders[name])  # type: ignore[operator]
                self.teacher_layers[name].take(self.project[name])  # type: ignore[operator]

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """Vectors and presence; in training, once the warm-up is over, of what was not hidden."""
        if self.training and self.warm_up.over:
            batch = self._without_frames(with_hidden(batch, self.task.modalities, complete=True))
        return self.encode(batch)

    def _without_frames(self, batch: Batch) -> Batch:
        """The batch with frames hidden: such a frame is the mean of the training frames, which is standardised to 0."""
        features = dict(batch.features)
        for name, scaler in self.scalers.items():
            assert isinstance(scaler, Standardizer)
            frames = features[name]
            kept = torch.rand(frames.shape[:2], device=frames.device) >= self.config.frames
            features[name] = torch.where(kept.unsqueeze(2), frames, scaler.mean)
        return dataclasses.replace(batch, features=features)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The joint vector."""
        return _mean({name: self.project[name](parts[name]) for name in self.task.modalities}, present)

    def teach(self, batch: Batch) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n k"]]:
        """The joint vectors and logits of the teacher, without a gradient."""
        vectors = frozen_vectors(self, self.teachers, batch)
        parts = {name: self.teacher_layers[name](self.project[name], vectors[name]) for name in self.task.modalities}
        joint = _mean(parts, batch.present)
        return joint, self.teacher_head(self.head, joint)

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, and once the warm-up is over "samples", "prototypes" and "responses"."""
        assert batch.labels is not None
        losses, config = super().losses(outputs, batch), self.config
        if not (self.training and self.warm_up.over):
            return losses
        joint, logits = self.teach(batch)
        here, student = torch.stack([batch.present[name] for name in self.task.modalities]).any(0), outputs.fused
        membership = self.task.membership(batch.labels)
        losses["samples"] = config.samples * sample_contrast(student, joint, here, config.margin)
        counted = membership * here.unsqueeze(1)
        own, seen = class_similarities(student, counted)
        other, _ = class_similarities(joint, counted)
        table = here.unsqueeze(1) & seen
        losses["prototypes"] = config.prototypes * ((own - other).abs() * table).sum() / table.sum().clamp(min=1)
        divergence = decoupled_divergence(outputs.logits, logits, membership.argmax(1))
        losses["responses"] = config.responses * (divergence * here).sum() / here.sum().clamp(min=1)
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and layer."""
        return [*self.encoders[modality].parameters(), *self.project[modality].parameters()]


def _mean(parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n d"]:
    """The mean over the modalities present; zero where there is none."""
    flags = torch.stack([present[name] for name in parts]).unsqueeze(2)
    return (torch.stack(list(parts.values())) * flags).sum(0) / flags.sum(0).clamp(min=1)


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> CorrKD:
    """The plug-in's entry point."""
    return CorrKD(task, inputs, config)
