"""Gates between the vectors of modalities, and the re-balancing of greedy learning (Wu, Jastrzebski, Cho, Geras 2022,
"Characterizing and Overcoming the Greedy Nature of Learning in Multi-modal Deep Neural Networks", ICML), on vectors.

What is missing: the paper has multimodal transfer modules (MMTM, Joze et al. 2020) after several layers of
convolutional networks for two modalities, and this has one unit, on the vectors that encoders make. Each modality keeps
a branch of its own, encoder and head, and the unit gates its vector by what all modalities show:

    z = relu(W [h_1, ..., h_k]),   e_m = sigmoid(W_m z),   logits_m = head_m(e_m h_m)
    logits = mean of logits_m over the modalities present,   L = sum_m L_task(logits_m)

Where the gates of a branch learn faster, relative to the branch itself, than in the other branches, it leans on them
before it has learned its own. With mu(group) = |gradient|^2 / |parameters|^2, summed up over the steps:

    r_m = log10(M(W_m) / M(encoder_m, head_m))
    if r_m - mean over the others of r_n > epsilon:  in the next `steps` steps e_m is the mean of its past values

so that nothing of other modalities reaches the branch in these steps. Predictions always have their gates.

Ours: any number of modalities (for two, the comparison is the paper's). An absent modality is zero in z and has no part
in the mean, a loss or a mean gate. W serves all branches and is in no group. The means of past gates are those of their
own modality; the public code feeds one of them from the other. Gradients are read when the next batch has gone through
the network, just before they are cleared: they are those after clipping, and those of an epoch's last step are left
out, so that a resumed run goes on the same. A training loop that clears them earlier never cuts anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs, TensorState
from pase_msa.data.inputs import InputSpec
from pase_msa.models.base import Model, head, of_coalitions
from pase_msa.models.unimodal import unimodal_loss
from pase_msa.objective import Losses
from pase_msa.ranges import COUNT, NOT_NEGATIVE, SIZE, check_model
from pase_msa.task import Task

REDUCED = "one unit on vectors"


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        squeeze: size of z.
        dropout: in the heads.
        rebalance: whether gates are cut; without it the gates are all there is.
        epsilon: lead in r_m from which on a branch's gates are cut.
        steps: for how many steps.
        start: first epoch, counted from 1, whose gradients count.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mmtm"
    width: int = 128
    squeeze: int = 64
    dropout: float = 0.4
    rebalance: bool = True
    epsilon: float = 0.01
    steps: int = 5
    start: int = 2
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, squeeze=SIZE, epsilon=NOT_NEGATIVE, steps=COUNT, start=COUNT)


def leaders(cross: Float[Tensor, " m"], own: Float[Tensor, " m"], epsilon: float) -> Bool[Tensor, " m"]:
    """Modalities whose r_m = log10(cross / own) exceeds the mean of the others by more than epsilon."""
    if len(own) < 2:
        return torch.zeros_like(own, dtype=torch.bool)
    rates = (cross / own).log10()
    others = (rates.sum() - rates) / (len(own) - 1)
    # before a modality was seen, its rate is not finite, and nothing can be compared
    return (rates - others > epsilon) & rates.isfinite().all()


def next_cut(
    cut: Bool[Tensor, " m"], left: Int[Tensor, ""], ahead: Bool[Tensor, " m"], steps: int
) -> tuple[Bool[Tensor, " m"], Int[Tensor, ""]]:
    """What is cut in the next step, and for how many steps from it on.

    Args:
        cut: in this step.
        left: steps for which this holds, this one counted; 0 where nothing is cut.
        ahead: what would be cut now.
        steps: for how long.
    """
    left = (left - 1).clamp(min=0)
    free = left == 0
    cut = torch.where(free, ahead, cut)
    return cut, torch.where(free, cut.any() * steps, left)


class GatedBranches(Model):
    """See the module."""

    config: Config
    epoch: Tensor
    sums: Tensor
    mean_gates: Tensor
    gated: Tensor
    cut: Tensor
    left: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names = task.modalities
        self.squeeze = nn.Sequential(nn.Linear(config.width * len(names), config.squeeze), nn.ReLU())
        self.gates = nn.ModuleDict({name: nn.Linear(config.squeeze, config.width) for name in names})
        self.heads = nn.ModuleDict({name: head(config.width, task.num_classes, config.dropout) for name in names})
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.register_buffer("sums", torch.zeros(2, len(names)))  # M of the gates and of the branches
        self.register_buffer("mean_gates", torch.zeros(len(names), config.width))
        self.register_buffer("gated", torch.zeros(len(names)))  # utterances in these means
        self.register_buffer("cut", torch.zeros(len(names), dtype=torch.bool))
        self.register_buffer("left", torch.zeros((), dtype=torch.long))
        self._first_step = True

    def begin_epoch(self) -> None:
        """Count the epochs; gradients of the last one's last step do not count."""
        self.epoch += 1
        self._first_step = True

    def network(self, batch: Batch) -> Outputs:
        """One pass with every modality of the batch."""
        return self._gated(*self.encode(batch))

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities; each utterance is encoded once."""
        return [self._gated(*each) for each in of_coalitions(*self.encode(batch), coalitions)]

    def _gated(self, vectors: dict[str, Tensor], present: dict[str, Bool[Tensor, " n"]]) -> Outputs:
        names = self.task.modalities
        squeezed = self.squeeze(torch.cat([vectors[name] for name in names], dim=1))
        gates = {name: self.gates[name](squeezed).sigmoid() for name in names}
        branches, opened = {}, []
        cut = self.cut.clone()  # which `update` moves before the backward step reads it
        for number, name in enumerate(names):
            gate = gates[name]
            if self.training:
                gate = torch.where(cut[number], self.mean_gates[number], gate)
            opened.append(gate * vectors[name])
            branches[name] = self.heads[name](opened[-1])
        flags = torch.stack([present[name] for name in names]).unsqueeze(2)
        logits = (torch.stack([branches[name] for name in names]) * flags).sum(0) / flags.sum(0).clamp(min=1)
        fused = torch.cat(opened, dim=1)
        return self.outputs(logits, fused, present, vectors=vectors, gates=gates, state=TensorState(branches))

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """ "branch/NAME": L_task of each branch, over the utterances that have its modality."""
        assert batch.labels is not None
        assert isinstance(outputs.state, TensorState)
        weights = {"class_weight": self.config.class_weight, "score_weight": self.config.score_weight}
        losses = {}
        for name, logits in outputs.state.tensors.items():
            here = outputs.present[name]
            losses[f"branch/{name}"] = unimodal_loss(self.task, logits, batch.labels, here, **weights)
        return losses

    @torch.no_grad()
    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Move the mean gates, add the newest gradients to the sums, and decide what the next step cuts."""
        flags = torch.stack([outputs.present[name] for name in self.task.modalities])
        gates = torch.stack([outputs.gates[name] for name in self.task.modalities])
        here = (flags & ~self.cut.unsqueeze(1)).to(gates.dtype)
        self.gated += here.sum(1)
        moved = ((gates - self.mean_gates.unsqueeze(1)) * here.unsqueeze(2)).sum(1)
        self.mean_gates += moved / self.gated.clamp(min=1).unsqueeze(1)
        first, self._first_step = self._first_step, False
        if first or not self.config.rebalance:
            return
        counts = self.epoch >= self.config.start
        self.sums += self._speeds() * counts
        cut, left = next_cut(
            self.cut, self.left, leaders(self.sums[0], self.sums[1], self.config.epsilon), self.config.steps
        )
        self.cut.copy_(cut & counts)
        self.left.copy_(left * counts)

    def _speeds(self) -> Float[Tensor, "2 m"]:
        """mu of the gates and of the branch of each modality, from the gradients that are there."""
        names = self.task.modalities
        groups = [[[*self.gates[n].parameters()] for n in names], [self.modality_parameters(n) for n in names]]
        return torch.stack([torch.stack([_speed(group, self.sums) for group in row]) for row in groups])

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and head; gates belong to no modality."""
        return [*self.encoders[modality].parameters(), *self.heads[modality].parameters()]


def _speed(parameters: Sequence[nn.Parameter], like: Tensor) -> Float[Tensor, ""]:
    """mu: squared norm of the gradient over that of the parameters."""
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    if not trained:
        return like.new_zeros(())
    gradient = torch.stack([parameter.grad.square().sum() for parameter in trained]).sum()  # type: ignore[union-attr]
    return gradient / torch.stack([parameter.square().sum() for parameter in trained]).sum()


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> GatedBranches:
    """The plug-in's entry point."""
    return GatedBranches(task, inputs, config)
