"""Information acquisition regulation, InfoReg (Huang, Wei, Yang, Hu 2025, "Adaptive Unimodal Regulation for Balanced
Multimodal Information Acquisition", CVPR).

What a network learns early it learns fast, and the modality that is ahead then leaves the others little to learn. While
that time lasts, its encoder is pulled back to where it was when the epoch began. Beside the model's own head there is a
linear head per modality, on that modality's vector:

    L       = L_model + unimodal sum_m L_task(head_m)
    Tr_m(t) = sum of the squared gradients of modality m over the steps of epoch t      (the trace of its Fisher matrix)
    P_m     = (A(t) - A(t - 1)) / A(t),   A(t) = sum of Tr_m over the last `window` epochs up to t
    gap_m   = s_m - mean over the others of s_n,   s_m = mean probability of the truth by head_m
    g_m    += beta exp(tanh(gap_m)) (w_m - w_m at the start of the epoch)      where gap_m > 0 and P_m > threshold

In the first epoch there is no trace, and the pull acts; while fewer epochs than `window` have passed P_m is large.

Where the public code has errors, this is what it means: its branch for the second modality repeats the condition of the
first, so that only audio is ever pulled; the window is that of audio for both; and its s_m are sums over a batch, which
saturate the tanh, so that the pull is beta e or nothing. It has a second strength for the branch that is never taken;
here there is one for all.

Ours: any number of modalities, each with a window of its own. The trace has every parameter of the modality, before the
pull, and not the mean of each layer's. A label between two ordered classes counts for both by its membership, and an
utterance counts for the modalities that it has. Traces are those of epochs in which the method is active. Made for SGD:
Adam divides a gradient by its own size and undoes part of the pull, and `training.gradient_clip` bounds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.epochs import EpochMeans
from pase_msa.balancing.heads import UnimodalHeads
from pase_msa.balancing.rates import owners
from pase_msa.balancing.responses import PresentMeans
from pase_msa.batch import Batch, Outputs
from pase_msa.objective import present_mean
from pase_msa.ranges import COUNT, NOT_NEGATIVE, check_ranges


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        beta: strength of the pull; 0 does not pull.
        threshold: growth of the trace above which a modality is still learning fast.
        window: epochs that the growth is taken over.
        unimodal: weight of the losses of the modalities' heads.
    """

    name: str = "inforeg"
    beta: float = 0.95
    threshold: float = 0.04
    window: int = 10
    unimodal: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", beta=NOT_NEGATIVE, threshold=NOT_NEGATIVE, window=COUNT, unimodal=NOT_NEGATIVE)


def growth(traces: Sequence[float], window: int) -> float:
    """P_m from the traces of all epochs so far; 1 before the first."""
    now, before = sum(traces[-window:]), sum(traces[-window - 1 : -1])
    if not traces:
        return 1.0
    return (now - before) / now if now > 0 else 0.0


def pulls(scores: Mapping[str, float], growths: Mapping[str, float], beta: float, threshold: float) -> dict[str, float]:
    """Strength of the pull by modality; 0 for those that are not ahead, or no longer learn fast."""
    total, others = sum(scores.values()), len(scores) - 1
    result = dict.fromkeys(scores, 0.0)
    for name, score in scores.items():
        gap = score - (total - score) / others if others else 0.0
        if gap > 0 and growths[name] > threshold:
            result[name] = beta * math.exp(math.tanh(gap))
    return result


class InformationRegulation(EpochMeans):
    """See the module.

    Attributes:
        auxiliary_heads: the heads, by modality.
        traces: Tr_m of the last `window` + 1 epochs, by modality.
        history: one entry per epoch, {"epoch", "active", "score/...", "pull/...", "growth/..."}: means over its steps.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.heads: UnimodalHeads | None = None
        self.traces: dict[str, list[float]] = {}
        self._growths: dict[str, float] = {}
        self._scores: PresentMeans | None = None
        self._squares: dict[str, Tensor] = {}
        self._start: dict[str, list[tuple[nn.Parameter, Tensor]]] = {}

    def prepare(self, preparation: Preparation) -> None:
        """Make the heads."""
        self.auxiliary_heads = self.heads = UnimodalHeads("inforeg", preparation.task, preparation.model)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that every parameter belongs to one modality at most."""
        names = pl_module.modalities
        owners(names, pl_module.modality_parameters)  # type: ignore[arg-type]
        self._scores = PresentMeans(names) if len(names) > 1 else None  # type: ignore[arg-type]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights that the epoch begins with."""
        self._start, self._squares = {}, {}
        if not self.active or self._scores is None:
            return
        for name in self._scores.names:
            own = [p for p in pl_module.modality_parameters(name) if p.requires_grad]  # type: ignore[operator]
            self._start[name] = [(parameter, parameter.detach().clone()) for parameter in own]
            self._growths[name] = growth(self.traces.get(name, []), self.config.window)

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses and "alone/NAME", those of the heads, whose predictions are scored."""
        if not self.active or self._scores is None:
            return dict(losses)
        assert self.heads is not None
        assert batch.labels is not None
        membership = self.heads.task.membership(batch.labels)
        logits = self.heads.logits(outputs, detached=True)
        truth = [(logits[name].detach().softmax(1) * membership).sum(1) for name in self._scores.names]
        self._scores.add(torch.stack(truth), batch)
        own = {
            f"alone/{name}": self.config.unimodal * present_mean(values, batch.present[name])
            for name, values in self.heads.utterance_losses(outputs, batch).items()
        }
        return dict(losses) | own

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Add to the traces, and pull."""
        if not self.active or self._scores is None or not self._start:
            return
        for name, own in self._start.items():
            squares = [parameter.grad.square().sum() for parameter, _ in own if parameter.grad is not None]
            if squares:
                self._squares[name] = self._squares.get(name, 0.0) + torch.stack(squares).sum()
        scores = self._scores.take(trainer)
        strengths = pulls(scores, self._growths, self.config.beta, self.config.threshold)
        for name, strength in strengths.items():
            if strength:
                for parameter, start in self._start[name]:
                    if parameter.grad is not None:
                        parameter.grad.add_(parameter - start, alpha=strength)
        self.count({f"score/{n}": v for n, v in scores.items()} | {f"pull/{n}": v for n, v in strengths.items()})
        self.count({f"growth/{n}": self._growths[n] for n in scores})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the traces of the epoch, and add it to the history."""
        for name, total in self._squares.items():
            self.traces[name] = [*self.traces.get(name, []), float(total)][-self.config.window - 1 :]
        super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return super().state_dict() | {"traces": self.traces}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        super().load_state_dict(state_dict)
        self.traces = {name: list(values) for name, values in state_dict["traces"].items()}


def build(config: Config) -> InformationRegulation:
    """The plug-in's entry point."""
    return InformationRegulation(config)
