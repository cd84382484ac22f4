"""MMIN (Zhao, Li, Jin 2021, "Missing Modality Imagination Network for Emotion Recognition with Uncertain Missing
Modalities", ACL).

From the vectors of the modalities that are left, side by side with zeros for the others (h), a cascade of B residual
autoencoders imagines those that are not; a second cascade goes back. The prediction reads the bottlenecks l_b of the
first one:

    x_b = h + sum of out_j over j < b,   l_b = down_b(x_b),   out_b = up_b(l_b),   h' = MLP(x_B + out_B)
    L = L_task(l_1 ... l_B) + imagination |h' - target|^2 + cycle |h'' - h|^2,   h'' of the second cascade from h'

In the first `warm_up` epochs the network learns from all modalities. Then its encoders are copied, modalities of the
training utterances are hidden, and what the copy gives for a hidden one is the target.

Ours, where the paper or its code goes another way:

- The encoders are the library's, and the warm-up trains cascade and head, too; the paper trains another network first.
  The optimiser goes on.
- The vector of an absent modality is zero, and not what an encoder makes of zeros. So a target is compared at the
  hidden modalities alone, h'' at those left, and both only for utterances of which something was hidden.
- All modalities are a pattern like any other (`complete`); in the paper at least one is always hidden.
- A modality that the data lack, or that `training.modality_dropout` masks, is no target, since it was never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.models.missing import WarmUp, frozen_encoders, frozen_vectors, masked_mse, with_hidden
from pase_msa.objective import Losses
from pase_msa.ranges import COUNT, NOT_NEGATIVE, SIZE, Range, check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors; 128 in the paper.
        blocks: B, autoencoders of a cascade.
        latent: size of a bottleneck; 64 in the paper.
        hidden: size of the layers of the head.
        dropout: in the head.
        imagination: weight of the imagined vectors' error.
        cycle: weight of the error on the way back.
        warm_up: epochs before modalities are hidden.
        complete: whether the pattern of all modalities is drawn as often as any other; never if False.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mmin"
    width: int = 64
    blocks: int = 5
    latent: int = 32
    hidden: int = 128
    dropout: float = 0.5
    imagination: float = 4.0
    cycle: float = 2.0
    warm_up: int = 5
    complete: bool = True
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, blocks=Range(1, 64, whole=True), latent=SIZE, hidden=SIZE, warm_up=COUNT)
        check_model(self, imagination=NOT_NEGATIVE, cycle=NOT_NEGATIVE)


class Cascade(nn.Module):
    """Residual autoencoders, each of which reads the input plus what those before it gave.

    Args:
        wide: size of the input.
        latent: size of the bottlenecks.
        blocks: number of autoencoders.
    """

    def __init__(self, wide: int, latent: int, blocks: int) -> None:
        super().__init__()
        sizes = [wide, max(2 * wide // 3, 1), max(wide // 3, 1), latent]
        self.down = nn.ModuleList(_layers(sizes) for _ in range(blocks))
        self.up = nn.ModuleList(_layers(sizes[::-1]) for _ in range(blocks))
        self.output = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide))

    def forward(self, x: Float[Tensor, "n w"]) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n l"]]:
        """What is imagined, and the bottlenecks side by side."""
        codes = []
        for down, up in zip(self.down, self.up, strict=True):
            codes.append(down(x))
            x = x + up(codes[-1])
        return self.output(x), torch.cat(codes, dim=1)


def _layers(sizes: list[int]) -> nn.Sequential:
    """Linear maps from size to size, with ReLU between them."""
    parts = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


class MMIN(FusedModel):
    """Encoders, the cascade and the way back, and a head over the bottlenecks."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        wide = config.width * len(task.modalities)
        self.imagine = Cascade(wide, config.latent, config.blocks)
        self.back = Cascade(wide, config.latent, config.blocks)
        self.head = nn.Sequential(
            nn.Linear(config.blocks * config.latent, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, task.num_classes),
        )
        self.warm_up = WarmUp(config.warm_up)
        self.targets = frozen_encoders(self)

    def begin_epoch(self) -> None:
        """Count the epochs, and copy the encoders when the warm-up is over."""
        if self.warm_up.begin_epoch():
            for name, copy in self.targets.items():
                copy.take(self.encoders[name])  # type: ignore[operator]

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """Vectors and presence; in training, once the warm-up is over, of the modalities that were not hidden."""
        if self.training and self.warm_up.over:
            batch = with_hidden(batch, self.task.modalities, complete=self.config.complete)
        return self.encode(batch)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The bottlenecks of the cascade; beside them h' ("imagined") and h'' ("back"), [N, k D]."""
        imagined, codes = self.imagine(torch.cat([parts[name] for name in self.task.modalities], dim=1))
        return codes, {"imagined": imagined, "back": self.back(imagined)[0]}

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, "imagination" and "cycle"; the latter are zero in the warm-up."""
        losses, tensors, names = super().losses(outputs, batch), self.tensors(outputs), self.task.modalities
        left = torch.stack([outputs.present[name] for name in names], dim=1)
        hidden = torch.stack([batch.present[name] for name in names], dim=1) & ~left
        vectors = {name: outputs.vectors[name].detach() for name in names}
        targets = frozen_vectors(self, self.targets, batch) if self.training and self.warm_up.over else vectors

        def error(guess: Tensor, wanted: Mapping[str, Tensor], where: Tensor) -> Tensor:
            slots = guess.unflatten(1, (len(names), self.width)).flatten(0, 1)  # type: ignore[no-untyped-call]
            return masked_mse(slots, torch.stack([wanted[n] for n in names], dim=1).flatten(0, 1), where.flatten())

        losses["imagination"] = self.config.imagination * error(tensors["imagined"], targets, hidden)
        losses["cycle"] = self.config.cycle * error(tensors["back"], vectors, left & hidden.any(1, keepdim=True))
        return losses


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MMIN:
    """The plug-in's entry point."""
    return MMIN(task, inputs, config)
