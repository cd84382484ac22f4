"""MSAmba (He, Liang, Peng, Xie, Khan, Song, Yu 2025, "MSAmba: Exploring Multimodal Sentiment Analysis with State Space
Models", AAAI) in plain PyTorch, with its cross-modal half approximated.

The authors' code was not to be had. The block within a modality follows a public derivative of it, the blocks between
modalities are a guess at the paper's, without its attention. So this is not the paper's system.

Every modality is averaged to S frames. A summary frame stands before them, and positions are added. Then, per block,

    r <- r + x,   u = norm(r),   x = scan(norm(u + G u + L u))

with G a linear map over the S + 1 steps, the same for all channels, and L a convolution of three steps by channel. The
scan is that of Mamba (Gu, Dao 2023), in both directions, see `pase_msa.models.state_space`.

Across modalities, each of them is the centre once: with H'_c = scan(norm(H_c)), another modality m gives

    stream_mc = P scan(norm([H_m; H_c])) + H'_c

The head reads, for each m, the summary of m itself plus those of stream_mc over the other centres c. Further heads, on
the summary of each modality and of each H'_c, have L_task too (`auxiliary`).

Ours: that scans run in both directions is inferred, and that L runs over time is a later correction of the derivative.
In the scan of a pair one half of its channels is scanned and the other half is the gate. Sizes are smaller than the
published ones (128 channels, states of 16, 4 blocks, 50 frames), since nothing here has a fused kernel. An absent
modality has no stream, is no centre, and has no loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.layout import resample
from pase_msa.models.ef_lstm import FrameEncoder
from pase_msa.models.fused import Fused, FusedModel, check_frames
from pase_msa.models.state_space import Scan, channel_convolution, scan_together
from pase_msa.objective import Losses
from pase_msa.ranges import COUNT, NOT_NEGATIVE, SIZE, check_model
from pase_msa.task import Task

REDUCED = "cross-modal half approximated"


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the frames.
        steps: S, frames that every modality is averaged to.
        layers: blocks per modality.
        state: numbers that a channel of a scan remembers.
        both_ways: whether scans run in both directions.
        dropout: on the frames and before the output.
        auxiliary: weight of the losses of the further heads.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "msamba"
    width: int = 32
    steps: int = 8
    layers: int = 2
    state: int = 8
    both_ways: bool = True
    dropout: float = 0.1
    auxiliary: float = 0.5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, steps=SIZE, layers=COUNT, state=SIZE, auxiliary=NOT_NEGATIVE)


class Block(nn.Module):
    """A block within a modality, over `steps` steps: gives what its scan reads."""

    def __init__(self, width: int, steps: int, state: int, both_ways: bool) -> None:
        super().__init__()
        self.norm, self.norm_scan = nn.RMSNorm(width, 1e-5), nn.RMSNorm(width, 1e-5)
        self.across = nn.Linear(steps, steps)
        self.near = nn.Conv1d(width, width, 3, groups=width)
        self.scan = Scan(width, 2 * width, state, both_ways)

    def forward(self, r: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """norm(u + G u + L u)."""
        u = self.norm(r)
        across = self.across(u.transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = self.norm_scan(u + across + channel_convolution(u, self.near, 1, 1))
        return mixed


class Stack(nn.Module):
    """The blocks of a modality: S frames become S + 1, the summary first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, steps = config.width, config.steps + 1
        self.summary = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.randn(steps, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, steps, config.state, config.both_ways) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width, 1e-5)

    def forward(self, frames: Float[Tensor, "n s d"]) -> Float[Tensor, "n t d"]:
        """What the first block reads."""
        return torch.cat([self.summary.expand(len(frames), 1, -1), frames], dim=1) + self.positions


class Pair(nn.Module):
    """A modality beside the centre: both have `width` channels, and so has what comes out."""

    def __init__(self, width: int, state: int, both_ways: bool) -> None:
        super().__init__()
        self.norm, self.scan = nn.RMSNorm(2 * width, 1e-5), Scan(2 * width, width, state, both_ways)
        self.output = nn.Linear(2 * width, width)


class Centre(nn.Module):
    """The blocks around one modality: its own, and one for each other modality beside it."""

    def __init__(self, others: list[str], config: Config) -> None:
        super().__init__()
        width, state, both_ways = config.width, config.state, config.both_ways
        self.norm, self.scan = nn.RMSNorm(width, 1e-5), Scan(width, 2 * width, state, both_ways)
        self.pairs = nn.ModuleDict({name: Pair(width, state, both_ways) for name in others})


class MSAmba(FusedModel):
    """Frames, blocks within and across modalities, summaries side by side, and the heads."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        check_frames("msamba", self.encoders, inputs)
        for name, spec in inputs.items():
            if spec.encoder == "sequence":  # the blocks are the encoder, and a linear map is before them
                self.encoders[name] = FrameEncoder(spec.dim, config.width)
        names, width = task.modalities, config.width
        self.stacks = nn.ModuleDict({name: Stack(config) for name in names})
        self.centres = nn.ModuleDict(
            {name: Centre([other for other in names if other != name], config) for name in names if len(names) > 1}
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width * len(names), task.num_classes))
        self.own_heads = nn.ModuleDict({name: nn.Linear(width, task.num_classes) for name in names})
        self.centre_heads = nn.ModuleDict({name: nn.Linear(width, task.num_classes) for name in self.centres})

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """H of each modality, [N, S + 1, D], and presence."""
        frames, valid, present = self.encode_frames(batch)
        stacks = {name: cast(Stack, stack) for name, stack in self.stacks.items()}
        averaged = {n: resample(self.dropout(frames[n]), valid[n].sum(1), self.config.steps) for n in stacks}
        r = {name: stack(averaged[name]) for name, stack in stacks.items()}
        for layer in range(self.config.layers):
            blocks = [cast(Block, stack.blocks[layer]) for stack in stacks.values()]
            given = [block(part) for block, part in zip(blocks, r.values(), strict=True)]
            scanned = scan_together([block.scan for block in blocks], given)
            r = {name: part + x for (name, part), x in zip(r.items(), scanned, strict=True)}
        return {n: stack.norm(r[n]) * present[n].view(-1, 1, 1) for n, stack in stacks.items()}, present

    def modality_vectors(
        self, parts: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "n d"]]:
        """The summary of each modality."""
        return {name: part[:, 0] for name, part in parts.items()}

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The summaries of each modality and its streams, side by side; and "own/NAME" and "centre/NAME" [N, D]."""
        sums = {name: parts[name][:, 0] for name in self.task.modalities}
        tensors = {f"own/{name}": summary for name, summary in sums.items()}
        centres = {name: cast(Centre, block) for name, block in self.centres.items()}
        if not centres:
            return sums[self.task.modalities[0]], tensors
        given = [block.norm(parts[name]) for name, block in centres.items()]
        scanned = scan_together([block.scan for block in centres.values()], given)
        own = {name: states[:, 0] for name, states in zip(centres, scanned, strict=True)}
        pairs = [(m, c, cast(Pair, pair)) for c, block in centres.items() for m, pair in block.pairs.items()]
        beside = [pair.norm(torch.cat([parts[m], parts[c]], dim=2)) for m, c, pair in pairs]
        for (m, c, pair), states in zip(pairs, scan_together([p.scan for *_, p in pairs], beside), strict=True):
            stream = pair.output(states[:, 0]) + own[c]
            sums[m] = sums[m] + stream * (present[m] & present[c]).unsqueeze(1)
        tensors |= {f"centre/{name}": summary for name, summary in own.items()}
        return torch.cat(list(sums.values()), dim=1), tensors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, and "auxiliary", the sum of the further heads' losses."""
        losses, tensors = super().losses(outputs, batch), self.tensors(outputs)
        further = [
            self.branch_loss(head(tensors[f"{kind}/{name}"]), batch, outputs.present[name])
            for kind, heads in (("own", self.own_heads), ("centre", self.centre_heads))
            for name, head in heads.items()
        ]
        losses["auxiliary"] = self.config.auxiliary * torch.stack(further).sum()
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, blocks and head of the modality itself."""
        modules = (self.encoders, self.stacks, self.own_heads)
        return [parameter for module in modules for parameter in module[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MSAmba:
    """The plug-in's entry point."""
    return MSAmba(task, inputs, config)
