"""DI-MML (Fan, Xu, Wang, Liu, Guo 2024, "Detached and Interactive Multimodal Learning", ACM MM).

Modalities do not compete where no gradient crosses from one to another. Each encoder learns from what its modality
predicts alone, by a classifier of its own and by one that all share. They meet in two places only. A fusion classifier
reads the vectors as constants. And from epoch `start` on a modality learns from another in the dimensions where that
one is the better: with sep_m[j] the share of training rows whose nearest class mean, in coordinate j of z_m alone, is
that of the right class, dimension j is effective in m if sep_m[j] is above the mean of sep_m. In the set of dimensions
that are effective in m and not in n, with z_m as a constant, the student n is drawn to its teacher m by

    -mean_i log( exp(z_n,i z_m,i / t) / sum_j exp(z_n,i z_m,j / t) )

A prediction is the mean of the logits of the modalities present and of the fusion, weighted by
softmax(largest probability / certainty).

Ours, where the paper goes another way: the fusion classifier is trained along from the first epoch, on constants as in
the paper's second stage. The class means are those of epoch start - 2, and sep is counted over the rows of the epoch
after it, so that neither needs a pass of its own. With k modalities a student's losses are averaged over its k - 1
teachers. Rows take part where both modalities are present, and an empty set of dimensions has no loss. The right class
of a score is the nearest one, and every classifier is trained by L_task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.distributed import sum_over_processes
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.objective import Losses, present_mean
from pase_msa.ranges import NOT_NEGATIVE, POSITIVE, Range, check_model
from pase_msa.task import Task

FUSION = "+"  # the fusion classifier; no modality's name, since those are words


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size D of the modality vectors.
        dropout: on the input of each classifier.
        start: epoch from which on modalities learn from one another, 3 or later.
        shared: weight of the loss of the shared classifier.
        contrast: weight of the loss of students towards teachers.
        temperature: t of that loss.
        certainty: temperature of the weights of a prediction.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "di_mml"
    width: int = 128
    dropout: float = 0.2
    start: int = 5
    shared: float = 1.0
    contrast: float = 1.0
    temperature: float = 10.0
    certainty: float = 1.0
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(
            self,
            start=Range(3, 2**31 - 1, whole=True),
            shared=NOT_NEGATIVE,
            contrast=NOT_NEGATIVE,
            temperature=POSITIVE,
            certainty=POSITIVE,
        )


def nearest_is_right(
    vectors: Float[Tensor, "n d"], means: Float[Tensor, "k d"], seen: Bool[Tensor, " k"], right: Int[Tensor, " n"]
) -> Bool[Tensor, "n d"]:
    """Whether, in one coordinate alone, the nearest class mean is that of the right class.

    Args:
        vectors: z, [N, D].
        means: of the classes, [K, D].
        seen: whether a class has a mean, [K].
        right: numbers of the right classes, [N].
    """
    distance = (vectors.unsqueeze(1) - means).abs().masked_fill(~seen.view(1, -1, 1), torch.inf)
    return distance.argmin(1) == right.unsqueeze(1)


def one_way_contrast(
    student: Float[Tensor, "n d"],
    teacher: Float[Tensor, "n d"],
    dimensions: Bool[Tensor, " d"],
    rows: Bool[Tensor, " n"],
    temperature: float,
) -> Float[Tensor, ""]:
    """The loss of the student, see the module: over some rows and some dimensions; zero without dimensions."""
    scores = (student * dimensions) @ teacher.detach().T / temperature
    scores = scores.masked_fill(~rows, torch.finfo(scores.dtype).min)  # columns
    values = scores.logsumexp(1) - scores.diagonal()
    return present_mean(values, rows) * dimensions.any()


def certainty_weights(
    logits: Float[Tensor, "s n k"], present: Bool[Tensor, "s n"], temperature: float
) -> Float[Tensor, "s n"]:
    """Weights of predictions by their largest probability; zero for absent ones."""
    certainty = logits.softmax(2).amax(2) / temperature
    weights = certainty.masked_fill(~present, torch.finfo(certainty.dtype).min).softmax(0)
    return weights * present  # an utterance without any modality has no weights


class DIMML(FusedModel):
    """Encoders, a classifier per modality, one for every vector, and one for all vectors together."""

    config: Config
    epoch: Tensor
    class_sums: Tensor
    class_counts: Tensor
    right: Tensor
    rows: Tensor
    effective: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        count, classes, width = len(task.modalities), task.num_classes, config.width

        def classifier(inputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Dropout(config.dropout), nn.Linear(inputs, classes))

        self.own = nn.ModuleDict({name: classifier(width) for name in task.modalities})
        self.shared, self.fusion = classifier(width), classifier(count * width)
        self.head = nn.Identity()  # what is fused are logits
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.register_buffer("class_sums", torch.zeros(count, classes, width))
        self.register_buffer("class_counts", torch.zeros(count, classes))
        self.register_buffer("right", torch.zeros(count, width))  # rows whose nearest class mean is the right one
        self.register_buffer("rows", torch.zeros(count))
        self.register_buffer("effective", torch.zeros(count, width, dtype=torch.bool))
        self._epoch = 0  # of the buffer, read once per epoch, since reading it at every step would make a GPU wait

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The weighted mean of the logits; and these, of each modality by its own classifier and of the fusion."""
        names = self.task.modalities
        logits = {name: self.own[name](parts[name]) for name in names}
        logits[FUSION] = self.fusion(torch.cat([parts[name].detach() for name in names], dim=1))
        stacked = torch.stack(list(logits.values()))
        flags = [present[name] for name in names]
        here = torch.stack([*flags, torch.stack(flags).any(0)])
        weights = certainty_weights(stacked, here, self.config.certainty)
        return (weights.unsqueeze(2) * stacked).sum(0), logits

    def begin_epoch(self) -> None:
        """Count the epochs, and find the effective dimensions at epoch `start`."""
        self.epoch += 1
        self._epoch = int(self.epoch)
        if self._epoch == self.config.start:
            separation = self.right / self.rows.clamp(min=1).unsqueeze(1)
            self.effective.copy_(separation > separation.mean(1, keepdim=True))

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task of each classifier, as "unimodal/NAME", "shared/NAME" and "fusion"; from `start` on "contrast"."""
        assert batch.labels is not None
        config, names = self.config, self.task.modalities
        vectors, present, logits = outputs.vectors, outputs.present, self.tensors(outputs)
        losses = {f"unimodal/{name}": self.branch_loss(logits[name], batch, present[name]) for name in names}
        for name in names:
            shared = self.branch_loss(self.shared(vectors[name]), batch, present[name])
            losses[f"shared/{name}"] = config.shared * shared
        losses["fusion"] = self.branch_loss(logits[FUSION], batch, torch.stack(list(present.values())).any(0))
        if self._epoch >= config.start and len(names) > 1:
            values = []
            for one, two in permutations(range(len(names)), 2):
                teacher, student = names[one], names[two]
                dimensions = self.effective[one] & ~self.effective[two]
                rows = present[teacher] & present[student]
                values.append(
                    one_way_contrast(vectors[student], vectors[teacher], dimensions, rows, config.temperature)
                )
            losses["contrast"] = config.contrast / (len(names) - 1) * torch.stack(values).sum()
        return losses

    @torch.no_grad()
    def update(self, outputs: Outputs, batch: Batch) -> None:
        """In the two epochs before `start`, add the batch to the class means, and to what is right by them."""
        start, names = self.config.start, self.task.modalities
        if self._epoch not in (start - 2, start - 1):
            return
        assert batch.labels is not None
        right = self.task.membership(batch.labels).argmax(1)
        vectors = torch.stack([outputs.vectors[name] for name in names])
        present = torch.stack([outputs.present[name] for name in names]).to(vectors.dtype)
        if self._epoch == start - 2:
            classes = F.one_hot(right, self.task.num_classes).to(vectors.dtype) * present.unsqueeze(2)  # [M, N, K]
            self.class_sums += sum_over_processes(classes.transpose(1, 2) @ vectors)
            self.class_counts += sum_over_processes(classes.sum(1))
            return
        means, seen = self.class_sums / self.class_counts.clamp(min=1).unsqueeze(2), self.class_counts > 0
        found = torch.stack([nearest_is_right(*each, right) for each in zip(vectors, means, seen, strict=True)])
        self.right += sum_over_processes((found * present.unsqueeze(2)).sum(1))
        self.rows += sum_over_processes(present.sum(1))

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and own classifier."""
        return [*self.encoders[modality].parameters(), *self.own[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> DIMML:
    """The plug-in's entry point."""
    return DIMML(task, inputs, config)
