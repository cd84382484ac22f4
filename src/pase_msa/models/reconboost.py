"""ReconBoost (Hua, Xu, Bao, Yang, Huang 2024, "ReconBoost: Boosting Can Achieve Modality Reconcilement", ICML).

Modalities are the learners of a boosted ensemble, trained in turn on what the others leave unexplained. One classifier
makes logits f_m of modality m, and the prediction is softmax(F), F = rho sum_m f_m, where rho is learned. With
p_m = softmax(f_m), and with p_-m = softmax(rho sum_{n != m} f_n) as a constant, the loss of a stage is

    -1/K sum_k y_k (own - rest p_-m,k) log p_m,k  +  alignment / 2 MSE(p_m, p_prev)

for one modality m alone, during `stage_epochs` epochs. Then all are trained by the loss of F, for `rectify_epochs`
epochs, and the next modality has its turn. So a row that the others get right counts less. `prev` is the modality whose
turn was before; it is a constant, too.

Ours, where the published code goes another way: the second term has a gradient, to p_m. In the code both sides are
constants, so that the published results do not rest on it; its weight is our choice. Optimisers go on from phase to
phase, and phases are one epoch long by default, not four. A modality that is absent adds nothing to F; a row that has
no other modality counts in full. y is the soft membership of a score, where the code divides scores into three classes,
and F is trained by L_task. The vectors are those of the library's encoders. Before the first epoch all are trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.objective import Losses, present_mean
from pase_msa.ranges import COUNT, NOT_NEGATIVE, POSITIVE, check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        dropout: on the input of the classifier.
        own: weight of the cross-entropy of the modality in its stage.
        rest: how much of that weight a row loses where the other modalities are right; at most `own`.
        alignment: weight of the distance to the predictions of the modality before.
        stage_epochs: epochs in a row in which one modality is trained.
        rectify_epochs: epochs after that in which all are trained.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression), while all are trained.
    """

    name: str = "reconboost"
    width: int = 128
    dropout: float = 0.2
    own: float = 1.0
    rest: float = 0.25
    alignment: float = 1.0
    stage_epochs: int = 1
    rectify_epochs: int = 1
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(
            self,
            own=POSITIVE,
            rest=NOT_NEGATIVE,
            alignment=NOT_NEGATIVE,
            stage_epochs=COUNT,
            rectify_epochs=COUNT,
        )
        if self.rest > self.own:  # a row could count less than nothing
            raise PaSEError(f"model.rest is at most model.own ({self.own}), found {self.rest}; make it smaller.")


def stage_of(epoch: int, modalities: Sequence[str], stage_epochs: int, rectify_epochs: int) -> str | None:
    """The modality that is trained in an epoch; None where all are.

    Args:
        epoch: its number, from 1 on; 0 is before the first.
        modalities: in the order of their turns.
        stage_epochs: epochs of one modality.
        rectify_epochs: epochs of all, after them.
    """
    if epoch < 1:
        return None
    turn, place = divmod(epoch - 1, stage_epochs + rectify_epochs)
    return modalities[turn % len(modalities)] if place < stage_epochs else None


def stage_losses(
    logits: Float[Tensor, "n k"],
    explained: Float[Tensor, "n k"],
    membership: Float[Tensor, "n k"],
    own: float,
    rest: float,
) -> Float[Tensor, " n"]:
    """The weighted cross-entropy of each row, see the module.

    Args:
        logits: f_m of the modality.
        explained: p_-m, the probabilities of the others; zero where there is none.
        membership: y, (soft) classes of the labels.
        own: weight of a row that the others do not explain.
        rest: what it loses where they do.
    """
    return -(membership * (own - rest * explained) * logits.log_softmax(1)).mean(1)


class ReconBoost(FusedModel):
    """Encoders, one classifier for every vector, and the scaled sum of its logits."""

    config: Config
    epoch: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.classifier = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.width, task.num_classes))
        self.scale = nn.Parameter(torch.ones(()))  # rho
        self.head = nn.Identity()  # what is fused are logits
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self._stage: str | None = None

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """F, and the logits of each modality, zero where it is absent."""
        logits = {n: self.classifier(parts[n]) * present[n].unsqueeze(1) for n in self.task.modalities}
        return self.scale * torch.stack(list(logits.values())).sum(0), logits

    def begin_epoch(self) -> None:
        """Count the epochs, and find whose turn it is."""
        self.epoch += 1
        # read once per epoch, since reading it at every step would make a GPU wait
        config = self.config
        self._stage = stage_of(int(self.epoch), self.task.modalities, config.stage_epochs, config.rectify_epochs)

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task of F; in the stage of a modality "stage/NAME", and "alignment" if there are several modalities."""
        if self._stage is None:
            return super().losses(outputs, batch)
        assert batch.labels is not None
        name, config = self._stage, self.config
        logits, present, names = self.tensors(outputs), outputs.present, self.task.modalities
        rows = stage_losses(
            logits[name],
            self._explained(name, logits, present),
            self.task.membership(batch.labels),
            config.own,
            config.rest,
        )
        # rho has no part in a stage, but a gradient like every parameter outside the encoders
        value = config.class_weight * present_mean(rows, present[name]) + 0.0 * self.scale
        losses = {f"stage/{name}": value}
        if len(names) > 1 and config.alignment:
            before = names[names.index(name) - 1]
            difference = logits[name].softmax(1) - logits[before].detach().softmax(1)
            distance = present_mean(difference.square().mean(1), present[name] & present[before])
            losses["alignment"] = config.alignment / 2 * distance
        return losses

    @torch.no_grad()
    def _explained(
        self, name: str, logits: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Float[Tensor, "n k"]:
        """p_-m; zero in rows that have no other modality."""
        rest = [other for other in logits if other != name]
        if not rest:
            return torch.zeros_like(logits[name])
        joint = self.scale * torch.stack([logits[other] for other in rest]).sum(0)
        return joint.softmax(1) * torch.stack([present[other] for other in rest]).any(0).unsqueeze(1)


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> ReconBoost:
    """The plug-in's entry point."""
    return ReconBoost(task, inputs, config)
