"""Self-MM (Yu, Xu, Yuan, Wu 2021, "Learning Modality-Specific Representations with Self-Supervised Multi-Task
Learning", AAAI).

Beside the fused branch there is a branch per modality, trained on a pseudo label per training row. It is the label,
moved by how much nearer the modality's feature is to the positive than to the negative centre, compared with the fused
feature. With features f, centres C+ and C- (means over all training rows by the sign of the branch's own pseudo label),
and y the label less the middle of its range, H being half of the range:

    d(s) = (|f_s - C_s-| - |f_s - C_s+|) / |f_s - C_s+|
    new  = clip(.5 y d(s) / d(fused) + .5 (y + d(s) - d(fused)), -H, H)
    l_s <- (n - 1) / (n + 1) l_s + 2 / (n + 1) new          after epoch n >= 2

The branches' loss is the mean of tanh(|l_s - y|) |y_s - l_s|, so that it is zero until the pseudo labels first move, at
the end of a row's turn in epoch 2.

Ours, where the published code goes another way: features enter the centres once they were seen (not zeros before),
labels of exactly the middle belong to no centre, and a branch whose centres do not both exist keeps its labels. An
absent modality has no loss, no new label and no part in the centres. The vectors are those of the library's encoders,
and a branch's score is the expectation over its K classes, as for every model here.

Classes without order have no positive and negative side. The branches then learn the true class, which is multi-task
learning; nothing is self-supervised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.models.row_state import RowState
from pase_msa.objective import Losses, soft_cross_entropy
from pase_msa.ranges import SIZE, check_model
from pase_msa.task import Task

FUSED = "+"  # the fused branch; no modality's name, since those are words
_EPSILON = 1e-8


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        hidden: size of the fused feature.
        unimodal: size of the features of the modalities' branches.
        dropout: on the input of each branch.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "self_mm"
    width: int = 128
    hidden: int = 128
    unimodal: int = 32
    dropout: float = 0.1
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, hidden=SIZE, unimodal=SIZE)


class Branch(nn.Module):
    """A vector becomes a feature, f_s, and the feature logits."""

    def __init__(self, inputs: int, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.feature = nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, width), nn.ReLU())
        self.output = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, num_classes))


def relative_distance(
    feature: Float[Tensor, "n d"], positive: Float[Tensor, " d"], negative: Float[Tensor, " d"]
) -> Float[Tensor, " n"]:
    """d(s): how much nearer a feature is to the positive centre, relative to its distance from it; above -1."""
    near, far = (feature - positive).norm(dim=1), (feature - negative).norm(dim=1)
    distance: Tensor = (far - near) / (near + _EPSILON)
    return distance


def pseudo_label(
    label: Float[Tensor, " n"], distance: Float[Tensor, " n"], fused: Float[Tensor, " n"], half_range: float
) -> Float[Tensor, " n"]:
    """The label of a modality from that of the utterance, both less the middle of the range; see the module."""
    moved = 0.5 * label * distance / (fused + _EPSILON) + 0.5 * (label + distance - fused)
    # where the fused feature is as near to both centres, the ratio is not finite
    return torch.where(moved.isfinite(), moved, label).clamp(-half_range, half_range)


class SelfMM(FusedModel):
    """A fused branch, which predicts, and one branch per modality, which is trained only."""

    config: Config
    epoch: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        classes, joint = task.num_classes, config.width * len(task.modalities)
        self.branches = nn.ModuleDict(
            {name: Branch(config.width, config.unimodal, classes, config.dropout) for name in task.modalities}
        )
        fused = Branch(joint, config.hidden, classes, config.dropout)
        self.feature, self.head = fused.feature, fused.output
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The fused feature, and those of the modalities' branches."""
        fused: Tensor = self.feature(torch.cat([parts[name] for name in self.task.modalities], dim=1))
        return fused, {n: self.branches[n].feature(parts[n]) for n in self.task.modalities}  # type: ignore[operator]

    def fit_rows(self, rows: Int[Tensor, " r"], labels: Float[Tensor, " r"]) -> None:
        """Lay out features and pseudo labels of the training rows; the first pseudo label is the label."""
        if self.task.kind != "regression":
            return
        state, sizes = RowState(rows), {FUSED: self.config.hidden}
        for name in (FUSED, *self.task.modalities):
            state.register_buffer(f"label_{name}", (labels - self.task.center)[rows.argsort()].float())
            state.register_buffer(f"feature_{name}", torch.zeros(len(rows), sizes.get(name, self.config.unimodal)))
            state.register_buffer(f"seen_{name}", torch.zeros(len(rows), dtype=torch.bool))
        self.keep_row_state(state)

    def begin_epoch(self) -> None:
        """Count the epochs."""
        self.epoch += 1

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task of the fused branch, and "unimodal/NAME" of the others."""
        assert batch.labels is not None
        losses = super().losses(outputs, batch)
        for name, feature in self.tensors(outputs).items():
            here = outputs.present[name]
            if not bool(here.any()):
                continue
            logits = self.branches[name].output(feature[here])  # type: ignore[operator]
            if self.row_state is None:
                value = soft_cross_entropy(logits, self.task.membership(batch.labels[here])).mean()
            else:
                label = batch.labels[here] - self.task.center
                pseudo = self._stored("label", name)[self.row_state.positions(batch.rows)][here]
                error = (self.task.score(logits.softmax(1)) - self.task.center - pseudo).abs()
                value = ((pseudo - label).abs().tanh() * error).mean()
            losses[f"unimodal/{name}"] = value
        return losses

    @torch.no_grad()
    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Move the pseudo labels of the batch's rows, then store their features."""
        state = self.row_state
        if state is None:
            return
        positions = state.positions(batch.rows)
        features = {FUSED: outputs.fused, **self.tensors(outputs)}
        here = {FUSED: torch.ones_like(positions, dtype=torch.bool), **outputs.present}
        if self.epoch >= 2:
            self._move_labels(features, here, positions)
        for name, feature in features.items():
            rows = positions[here[name]]
            self._stored("feature", name)[rows] = feature[here[name]].to(self._stored("feature", name).dtype)
            self._stored("seen", name)[rows] = True

    def _move_labels(
        self, features: Mapping[str, Tensor], here: Mapping[str, Tensor], positions: Int[Tensor, " n"]
    ) -> None:
        centres = {name: self._centres(name) for name in features}
        joint = centres[FUSED]
        if joint is None:
            return
        fused = relative_distance(features[FUSED], *joint)
        label, n = self._stored("label", FUSED)[positions], self.epoch
        low, high = self.task.values[0], self.task.values[-1]  # type: ignore[index]
        for name in self.task.modalities:
            pair = centres[name]
            if pair is None:
                continue
            new = pseudo_label(label, relative_distance(features[name], *pair), fused, (high - low) / 2)
            stored, rows = self._stored("label", name), positions[here[name]]
            stored[rows] = (n - 1) / (n + 1) * stored[rows] + 2 / (n + 1) * new[here[name]]

    def _centres(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Means of a branch's features over the rows with positive and with negative pseudo label, if both exist."""
        seen, label, feature = (self._stored(part, name) for part in ("seen", "label", "feature"))
        positive, negative = seen & (label > 0), seen & (label < 0)
        if not (bool(positive.any()) and bool(negative.any())):
            return None
        return feature[positive].mean(0), feature[negative].mean(0)

    def _stored(self, part: str, name: str) -> Tensor:
        stored: Tensor = getattr(self.row_state, f"{part}_{name}")
        return stored

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and branch."""
        return [*self.encoders[modality].parameters(), *self.branches[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> SelfMM:
    """The plug-in's entry point."""
    return SelfMM(task, inputs, config)
