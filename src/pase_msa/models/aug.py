"""AUG (Jiang, Huang, Yang 2025, "Rethinking Multimodal Learning from the Perspective of Mitigating Classification
Ability Disproportion", NeurIPS), sustained boosting.

Each modality has a chain of classifiers, and the modality that predicts worse gets a longer one. From the vector z_m,
classifier j has logits q_j = Shared(ReLU(A_mj z_m)), where Shared is one for all, and f_m = sum_j q_j. A new classifier
learns what the former ones leave. With n of them, y the (soft) classes and p_j = softmax(q_j), a modality's loss is

    CE(q_n, y~) + CE(sum_{j <= n} q_j, y) + CE(sum_{j < n} q_j, y),     y~ = y (1 - shrink sum_{j < n} p_j)

Every `every` epochs, with s_m the mean probability of the true class over the epoch, a modality gets one more if
s_best - sigma s_m > tau.

Ours, where the published code goes another way:

- New classifiers are trained (in the code they never reach the optimiser), and s are compared by their difference, as
  the paper has it, not by their ratio.
- All that a modality may get, `most`, are there from the beginning, and take no part before their turn.
- The loss of all modalities is one step of the optimiser, where theirs is one step each; only Shared sees a difference.
- y~ is a constant, and not below zero. With one classifier there are no former ones, and the last term is left out.
- The prediction is the mean of f_m over the modalities present (weights of .4 and .6 in the paper). An absent modality
  has no loss and no part in s_m. The second term is L_task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.distributed import sum_over_processes
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.objective import Losses, present_mean, soft_cross_entropy
from pase_msa.ranges import COUNT, NOT_NEGATIVE, SHARE, SIZE, check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        hidden: size of the hidden layer of each classifier.
        dropout: in the classifiers.
        most: classifiers that a modality may have.
        every: epochs between two comparisons of the modalities.
        shrink: by how much the true class of the newest classifier's target falls with what the former ones predict.
        sigma: factor of the weaker modality's probability in the comparison.
        tau: how far ahead the best modality must be.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "aug"
    width: int = 128
    hidden: int = 256
    dropout: float = 0.2
    most: int = 4
    every: int = 5
    shrink: float = 0.5
    sigma: float = 1.0
    tau: float = 0.01
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, hidden=SIZE, most=SIZE, every=COUNT, shrink=SHARE, sigma=NOT_NEGATIVE, tau=NOT_NEGATIVE)


def residual_target(
    former: Float[Tensor, "n j k"], active: Bool[Tensor, " j"], membership: Float[Tensor, "n k"], shrink: float
) -> Float[Tensor, "n k"]:
    """y~, the target of the newest classifier, see the module; it has no gradient.

    Args:
        former: logits of all classifiers, [N, J, K].
        active: which of them are former ones, [J].
        membership: y, [N, K].
        shrink: weight of what they predict.
    """
    predicted = (former.detach().softmax(2) * active.unsqueeze(1)).sum(1)
    return membership * (1 - shrink * predicted).clamp(min=0)


def lengthened(
    count: Int[Tensor, " m"],
    probability: Float[Tensor, " m"],
    seen: Bool[Tensor, " m"],
    sigma: float,
    tau: float,
    most: int,
) -> Int[Tensor, " m"]:
    """Classifiers per modality after a comparison: one more where s_best - sigma s_m > tau.

    Args:
        count: classifiers that they have, [M].
        probability: s, mean probability of the true class, [M].
        seen: whether any utterance had the modality; one without is not compared, [M].
        sigma: factor of s_m.
        tau: threshold.
        most: classifiers that a modality may have.
    """
    compared = probability * seen
    best = compared.max()
    behind = seen & (best - sigma * compared > tau) & (compared < best)
    return (count + behind.long()).clamp(max=most)


class AUG(FusedModel):
    """Encoders, chains of classifiers with a common last layer, and the mean of what the modalities predict."""

    config: Config
    epoch: Tensor
    count: Tensor
    probability: Tensor
    rows: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names = task.modalities
        # A_m1 to A_m,most side by side, which is the same as one layer each
        self.chains = nn.ModuleDict({name: nn.Linear(config.width, config.most * config.hidden) for name in names})
        self.shared = nn.Sequential(nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, task.num_classes))
        self.head = nn.Identity()  # what is fused are logits
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.register_buffer("count", torch.ones(len(names), dtype=torch.long))  # classifiers per modality
        # over the epoch so far: sums of the probability of the true class, and utterances that have the modality
        self.register_buffer("probability", torch.zeros(len(names)))
        self.register_buffer("rows", torch.zeros(len(names)))

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The mean of f_m over the modalities present, and the logits [N, most, K] of all classifiers."""
        names, config = self.task.modalities, self.config
        logits = {n: self.shared(self.chains[n](parts[n]).unflatten(1, (config.most, config.hidden))) for n in names}
        here = torch.stack([present[name] for name in names]).unsqueeze(2)
        unimodal = torch.stack([self._sum(logits[name], self._order < self.count[i]) for i, name in enumerate(names)])
        return (unimodal * here).sum(0) / here.sum(0).clamp(min=1), logits

    @property
    def _order(self) -> Int[Tensor, " j"]:
        """Numbers of the classifiers in their chain."""
        return torch.arange(self.config.most, device=self.count.device)

    @staticmethod
    def _sum(logits: Float[Tensor, "n j k"], chosen: Bool[Tensor, " j"]) -> Float[Tensor, "n k"]:
        # those left out have a gradient of zero and not none, like every parameter outside the encoders
        return (logits * chosen.unsqueeze(1)).sum(1)

    def begin_epoch(self) -> None:
        """Count the epochs; after each `every` of them, compare the modalities by the epoch that is over."""
        config = self.config
        done = int(self.epoch)
        if done and done % config.every == 0:
            probability = self.probability / self.rows.clamp(min=1)
            self.count.copy_(lengthened(self.count, probability, self.rows > 0, config.sigma, config.tau, config.most))
        self.epoch += 1
        self.probability.zero_()
        self.rows.zero_()

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """Per modality "newest/NAME", "unimodal/NAME" and "former/NAME", the three terms in their order."""
        assert batch.labels is not None
        config, order, losses = self.config, self._order, {}
        membership = self.task.membership(batch.labels)
        for index, (name, logits) in enumerate(self.tensors(outputs).items()):
            present, count = outputs.present[name], self.count[index]
            former = order < count - 1
            target = residual_target(logits, former, membership, config.shrink)
            newest = soft_cross_entropy(self._sum(logits, order == count - 1), target)
            before = soft_cross_entropy(self._sum(logits, former), membership) * (count > 1)
            losses[f"newest/{name}"] = config.class_weight * present_mean(newest, present)
            losses[f"former/{name}"] = config.class_weight * present_mean(before, present)
            losses[f"unimodal/{name}"] = self.branch_loss(self._sum(logits, order < count), batch, present)
        return losses

    @torch.no_grad()
    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Add the batch to the mean probability of the true class."""
        assert batch.labels is not None
        membership, sums = self.task.membership(batch.labels), []
        for index, (name, logits) in enumerate(self.tensors(outputs).items()):
            predicted = self._sum(logits, self._order < self.count[index]).softmax(1)
            present = outputs.present[name]
            sums.append(torch.stack([((predicted * membership).sum(1) * present).sum(), present.sum()]))
        joint = sum_over_processes(torch.stack(sums))
        self.probability += joint[:, 0]
        self.rows += joint[:, 1]

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and chain."""
        return [*self.encoders[modality].parameters(), *self.chains[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> AUG:
    """The plug-in's entry point."""
    return AUG(task, inputs, config)
