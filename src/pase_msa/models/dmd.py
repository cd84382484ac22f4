"""DMD (Li, Wang, Cui 2023, "Decoupled Multimodal Distilling for Emotion Recognition", CVPR), after the authors' code.

A vector h_m is split into a common part c_m, by one map for all modalities, and a private part s_m, by its own map.
A private part attends to those of the other modalities. Both spaces have a classifier per modality, and a graph over
ordered pairs of modalities decides who teaches whom. With z_m of logits and feature f_m, y_m being the score or the
class probabilities:

    weight_ji = softmax over pairs of W [z_j; z_i] / 8  +  prior_ji
    distillation = mean of weight_ji |y_j - sg(y_i)|  (+ weight_ji (1 - cos(f_j, sg(f_i))) in the private space)
                   + 10 sum over pairs of (mean over utterances of softmax - prior)^2

L_task counts for the prediction, for each classifier, and for the common parts together. Of the split ("decoupling"):
h_m is rebuilt from both parts, and s_m found again in what was rebuilt; parts of a modality are drawn apart; and common
parts of the same class but different modalities are nearer than those of the same modality but different classes, by
a margin that grows with the distance of the labels.

Ours, where the paper's code goes another way:

- The parts are of vectors and not of sequences. Only private parts attend, to other modalities, in one layer for each.
- An absent modality has no pair, no loss, and zeros in the fused vector. One modality alone has no pair at all.
- The prior is uniform, or favours the lessons of `teacher`; in the code two tables by hand favour those of text.
- The code pushes a student's private feature away from its teacher's; here they are drawn together.
- Two labels are the same if they have the same nearest class. Classes without order have the distance 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.models.missing import masked_mse
from pase_msa.models.mult import Layer, ResidualHead
from pase_msa.objective import Losses, soft_cross_entropy
from pase_msa.ranges import NOT_NEGATIVE, check_model, one_of
from pase_msa.task import Task

# size of each half of z_m; scales of the pairs' scores and of the prior; weight of the drift
_GRAPH, _SCALE, _TEMPERATURE, _NEAR = 32, 8.0, 0.25, 10.0


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of vectors and parts.
        dropout: in the attention between private parts and in the classifiers.
        distillation: weight of both graphs.
        decoupling: weight of the losses of the split.
        contrast: of those, the weight of margin and distance of the parts.
        margin: by unit of the labels' distance.
        teacher: the modality that the prior favours; "" for none.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "dmd"
    width: int = 64
    dropout: float = 0.1
    distillation: float = 0.05
    decoupling: float = 0.1
    contrast: float = 0.1
    margin: float = 0.15
    teacher: str = ""
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, distillation=NOT_NEGATIVE, decoupling=NOT_NEGATIVE)
        check_model(self, contrast=NOT_NEGATIVE, margin=NOT_NEGATIVE)


def distilled(
    scores: Float[Tensor, "n e"], prior: Float[Tensor, " e"], distance: Float[Tensor, "n e"], here: Bool[Tensor, "n e"]
) -> Float[Tensor, ""]:
    """What E pairs of N utterances differ by (`distance`), weighted, and the drift of the weights from the prior.

    Scores are those before the softmax, of which the prior has one row for all; `here` says which pairs there are.
    """
    lowest = torch.finfo(scores.dtype).min
    # an utterance without a pair has a weight of zero everywhere
    learned, given = (part.masked_fill(~here, lowest).softmax(1) * here for part in (scores, prior.expand_as(scores)))
    drift = ((learned - given).sum(0) / here.sum(0).clamp(min=1)).square().sum()
    return ((learned + given) * distance).sum() / here.sum().clamp(min=1) + _NEAR * drift


def triplet_margin(
    parts: Float[Tensor, "n m d"],
    here: Bool[Tensor, "n m"],
    same: Bool[Tensor, "n n"],
    distance: Float[Tensor, "n n"],
    margin: float,
) -> Float[Tensor, ""]:
    """Mean of max(0, margin distance_il - cos(c_i, c_j) + cos(c_i, c_l)) over triplets of N utterances, M modalities.

    The positive j is of another modality than the anchor i and of the `same` class, the negative l of the same modality
    and another class; `here` says whether an utterance has a modality.
    """
    unit = F.normalize(parts, dim=2)
    total, count = parts.new_zeros(()), parts.new_zeros(())
    for anchor, other in permutations(range(parts.shape[1]), 2):
        one, two = unit[:, anchor], unit[:, other]
        positive = same & here[:, anchor].unsqueeze(1) & here[:, other]
        negative = ~same & here[:, anchor].unsqueeze(1) & here[:, anchor]
        hinge = (margin * distance + one @ one.T).unsqueeze(1) - (one @ two.T).unsqueeze(2)
        both = positive.unsqueeze(2) & negative.unsqueeze(1)
        total, count = total + (hinge.relu() * both).sum(), count + both.sum()
    return total / count.clamp(min=1)


class Graph(nn.Module):
    """Scores of ordered pairs of modalities, [N, E], from the logits [N, M, K] and features [N, M, D] of both."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.logit, self.feature = nn.Linear(num_classes, _GRAPH), nn.Linear(width, _GRAPH)
        self.pair = nn.Linear(4 * _GRAPH, 1, bias=False)

    def forward(self, logits: Tensor, features: Tensor, students: list[int], teachers: list[int]) -> Tensor:
        """The scores; pairs are given as numbers of modalities."""
        node = torch.cat([self.logit(logits), self.feature(features)], dim=2)
        scores: Tensor = self.pair(torch.cat([node[:, students], node[:, teachers]], dim=2)).squeeze(2)
        return scores / _SCALE


class DMD(FusedModel):
    """The split, the classifiers of both spaces, their graphs, and a head over all features."""

    config: Config
    prior: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names, width, classes, dropout = task.modalities, config.width, task.num_classes, config.dropout
        wide, pairs = width * len(names), list(permutations(range(len(names)), 2))
        self.students, self.teachers = [j for j, _ in pairs], [i for _, i in pairs]
        prior = torch.zeros(len(pairs))
        if config.teacher:
            number = names.index(one_of(config.teacher, names, "model.teacher of dmd"))
            prior[[place for place, (_, teacher) in enumerate(pairs) if teacher == number]] = 1 / _TEMPERATURE
        self.register_buffer("prior", prior)
        self.common = nn.Linear(width, width, bias=False)

        def each(make: Callable[[], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({name: make() for name in names})

        self.private = each(lambda: nn.Linear(width, width, bias=False))
        self.rebuild = each(lambda: nn.Linear(2 * width, width))
        self.common_feature = each(lambda: nn.Linear(width, width))
        self.attend = each(lambda: Layer(width, 1, dropout, dropout)) if pairs else nn.ModuleDict()
        self.common_classes = each(lambda: ResidualHead(width, classes, dropout))
        self.private_classes = each(lambda: ResidualHead(width, classes, dropout))
        self.gates = each(lambda: nn.Linear(width, width))
        self.joint_classes, self.joint_gate = nn.Linear(wide, classes), nn.Linear(wide, wide)
        self.graphs = nn.ModuleDict({space: Graph(width, classes) for space in ("common", "private") if pairs})
        self.head = ResidualHead(2 * wide, classes, dropout)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """Gated features; beside them, [N, M, D]: "common" and "private" parts, and the private features "attended"."""
        names = self.task.modalities
        here = torch.stack([present[name] for name in names], dim=1)
        common = torch.stack([self.common(parts[name]) for name in names], dim=1)
        private = torch.stack([self.private[name](parts[name]) for name in names], dim=1)
        attended = []
        for number, name in enumerate(names):
            others = [other for other in range(len(names)) if other != number]
            own = private[:, number : number + 1]
            own = self.attend[name](own, private[:, others], here[:, others]) if others else own
            attended.append(own.squeeze(1) * present[name].unsqueeze(1))
        gated = [self.gates[n](a).sigmoid() * present[n].unsqueeze(1) for n, a in zip(names, attended, strict=True)]
        tensors = {"common": common, "private": private, "attended": torch.stack(attended, dim=1)}
        return torch.cat([*gated, self.joint_gate(common.flatten(1)).sigmoid()], dim=1), tensors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, "joint", "common" and "private" of the classifiers, "distillation/SPACE", and "decoupling"."""
        assert batch.labels is not None
        losses, tensors, names = super().losses(outputs, batch), self.tensors(outputs), self.task.modalities
        here = torch.stack([outputs.present[name] for name in names], dim=1)
        joint = self.joint_classes(tensors["common"].flatten(1)).unsqueeze(1)
        losses["joint"] = self._task_loss(joint, batch.labels, here.any(1, keepdim=True))
        features = {"common": self._each(self.common_feature, tensors["common"]), "private": tensors["attended"]}
        for space, heads in (("common", self.common_classes), ("private", self.private_classes)):
            logits = self._each(heads, features[space])
            losses[space] = self._task_loss(logits, batch.labels, here)
            if space in self.graphs:
                taught = self._taught(space, logits, features[space], here)
                losses[f"distillation/{space}"] = self.config.distillation * taught
        losses["decoupling"] = self.config.decoupling * self._decoupling(outputs, batch.labels, here)
        return losses

    def _each(self, modules: nn.ModuleDict, values: Float[Tensor, "n m d"]) -> Float[Tensor, "n m e"]:
        """What each modality's module gives for its values."""
        return torch.stack([modules[name](values[:, i]) for i, name in enumerate(self.task.modalities)], dim=1)

    def _task_loss(self, logits: Float[Tensor, "n m k"], labels: Tensor, here: Bool[Tensor, "n m"]) -> Tensor:
        """L_task of every modality over the utterances that have it, summed over the modalities."""
        membership = self.task.membership(labels).unsqueeze(1).expand_as(logits)
        value = self.config.class_weight * soft_cross_entropy(logits, membership)
        if self.task.kind == "regression":
            value = value + self.config.score_weight * (self.task.score(logits.softmax(2)) - labels.unsqueeze(1)).abs()
        return ((value * here).sum(0) / here.sum(0).clamp(min=1)).sum()

    def _taught(self, space: str, logits: Tensor, features: Tensor, here: Tensor) -> Float[Tensor, ""]:
        """What the pairs of a space differ by, weighted, and the drift of the weights."""
        students, teachers = self.students, self.teachers
        scores = self.graphs[space](logits, features, students, teachers)
        answers = logits.softmax(2)
        if self.task.kind == "regression":
            answers = self.task.score(answers).unsqueeze(2)
        distance = (answers[:, students] - answers[:, teachers].detach()).abs().sum(2)
        if space == "private":
            distance = distance + 1 - F.cosine_similarity(features[:, students], features[:, teachers].detach(), dim=2)
        return distilled(scores, self.prior, distance, here[:, students] & here[:, teachers])

    def _decoupling(self, outputs: Outputs, labels: Tensor, here: Bool[Tensor, "n m"]) -> Float[Tensor, ""]:
        """The errors of what is rebuilt and found again, the margin, and the cosine of both parts where positive."""
        common, private = (self.tensors(outputs)[part] for part in ("common", "private"))
        rebuilt = self._each(self.rebuild, torch.cat([private, common], dim=2))
        vectors = torch.stack([outputs.vectors[name] for name in self.task.modalities], dim=1)
        total = masked_mse(rebuilt.flatten(0, 1), vectors.flatten(0, 1), here.flatten())
        again = self._each(self.private, rebuilt).flatten(0, 1)
        total = total + masked_mse(again, private.flatten(0, 1), here.flatten())
        alike = (F.cosine_similarity(private, common, dim=2).relu() * here).sum() / here.sum().clamp(min=1)
        nearest = self.task.membership(labels).argmax(1)
        same, ordered = nearest.unsqueeze(0) == nearest.unsqueeze(1), self.task.kind == "regression"
        distance = (labels.unsqueeze(0) - labels.unsqueeze(1)).abs() if ordered else (~same).float()
        return total + self.config.contrast * (triplet_margin(common, here, same, distance, self.config.margin) + alike)

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, private map, rebuilding, features, attention, classifiers and gate."""
        parts = [self.encoders, self.private, self.rebuild, self.common_feature, self.common_classes, self.gates]
        parts += [self.private_classes, *([self.attend] if len(self.attend) else [])]
        return [parameter for part in parts for parameter in part[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> DMD:
    """The plug-in's entry point."""
    return DMD(task, inputs, config)
