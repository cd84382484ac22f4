"""Semi-IIN, masks only (Lin, Wang, Xu, Liu 2025, "Semi-IIN: Semi-supervised Intra-inter modal Interaction Learning
Network for Multimodal Sentiment Analysis", AAAI).

What is missing: the self-training, in which pseudo labels of unlabelled meetings are learned as well. The paper's own
table has this reduced version as a row.

The frames of all modalities stand in one sequence, behind two summary tokens, `val` and `cls`. Two branches read it. In
the intra branch a frame attends to the frames of its own modality, in the inter branch to those of all others, and in
both to the summaries. The summaries attend to all frames, and not to each other. A branch is one unit, repeated:

    A = attention(LN(Z)) + LN(Z),   Z' = FFN(LN(A)) + LN(A)

and of each summary a gate of its own blends what the two branches give:

    z = G z_inter + (1 - G) z_intra,   G = sigmoid(W_1 z_intra + W_2 z_inter + b)

A head on `cls` gives the classes, one on `val` the score, trained by the squared error ("intensity").

Ours, where the paper or its code go another way:

- The frames are those of the library's encoders, which shorten long sequences; the paper's are of RoBERTa, HuBERT and
  FAb-Net. The prediction, also of a score, is that of the classes, by L_task as for every model here; the head on `val`
  is trained beside it, with its error counted in steps from class to class. Classes without order have no `val`.
- No padded frame is attended to. Positions are counted within a modality, and the last of `steps` stands for all that
  follow. The linear map that both heads share in the published code, with no activation behind it, is left out.
- The paper names neither the number of units nor that of heads. With one unit the summaries have not met a masked frame
  yet, so the branches differ from two on. From two on the intra branch is not pure either, since a frame attends to the
  summaries, which have seen all modalities.
- An absent modality has no frames. A single modality has the intra branch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.fused import Fused, FusedModel, check_frames
from pase_msa.objective import Losses
from pase_msa.ranges import COUNT, NOT_NEGATIVE, SIZE, Range, check_model
from pase_msa.task import Task

REDUCED = "masks only, without self-training"
_SUMMARY = -1  # owner of the tokens that are of no modality
_TYPE, _PLACE = 0.05, 0.02  # spread of learned types and positions at first


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size d of the frames; a multiple of the heads.
        heads: of the attention; 0 is the largest number up to 8 that divides the width.
        layers: how often the unit of a branch is repeated, with the same weights.
        steps: positions that are learned for each modality.
        dropout: in the units.
        intensity: weight of the squared error of the head on `val` (regression).
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "semi_iin"
    width: int = 128
    heads: int = 0
    layers: int = 2
    steps: int = 128
    dropout: float = 0.1
    intensity: float = 0.6
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, heads=Range(0, 2**16, whole=True), layers=COUNT, steps=SIZE, intensity=NOT_NEGATIVE)
        self.heads = self.heads or next(heads for heads in range(8, 0, -1) if not self.width % heads)
        if self.width % self.heads:
            raise PaSEError(f"model.width of semi_iin is a multiple of model.heads ({self.heads}), found {self.width}.")


def branch_masks(
    owner: Int[Tensor, " l"], valid: Bool[Tensor, "n l"]
) -> tuple[Bool[Tensor, "n l l"], Bool[Tensor, "n l l"]]:
    """Which tokens (columns) each token (row) attends to, in the intra and in the inter branch.

    Every row has a column. Where no frame is valid, the summaries attend to themselves.

    Args:
        owner: number of each token's modality; -1 for a summary.
        valid: whether a token is an utterance's frame, or a summary.
    """
    summary, same = owner == _SUMMARY, owner.unsqueeze(1) == owner.unsqueeze(0)
    frames = (valid & ~summary).unsqueeze(1)
    alone = ~frames.any(2, keepdim=True) & (summary.unsqueeze(1) & summary)
    from_summary, to_summary = summary.unsqueeze(1), summary & ~summary.unsqueeze(1)
    intra = (frames & (same | from_summary)) | to_summary | alone
    inter = (frames & (~same | from_summary)) | to_summary | alone
    return intra, inter


class Unit(nn.Module):
    """Attention among the tokens that a mask allows, and a feed-forward part; see the module."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.reduce = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def attention(self, z: Float[Tensor, "n l d"], allowed: Bool[Tensor, "n l l"]) -> Float[Tensor, "n l d"]:
        """What the attention gives each token."""
        # [3, N, heads, L, d / heads]
        query, key, value = self.project(z).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        share = self.dropout.p if self.training else 0.0
        given = F.scaled_dot_product_attention(query, key, value, allowed.unsqueeze(1), share)
        result: Tensor = self.output(given.transpose(1, 2).flatten(2))
        return result

    def forward(self, z: Float[Tensor, "n l d"], allowed: Bool[Tensor, "n l l"]) -> Float[Tensor, "n l d"]:
        """The tokens after the unit."""
        normed = self.norm(z)
        middle = self.norm_out(self.dropout(self.attention(normed, allowed)) + normed)
        result: Tensor = self.dropout(self.reduce(self.dropout(self.expand(middle).relu()))) + middle
        return result


class Gate(nn.Module):
    """G and the blend z of what two branches give."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.intra, self.inter = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, intra: Float[Tensor, "n d"], inter: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
        """z and G, both [N, d]; G is the share of the inter branch."""
        share = torch.sigmoid(self.intra(intra) + self.inter(inter))
        return share * inter + (1 - share) * intra, share


class Places(nn.Module):
    """What a modality adds to its frames: a vector of the modality, and one of the position."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(width) * _TYPE)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(steps, width), std=_PLACE))

    def forward(self, frames: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """The frames with what is added."""
        place = torch.arange(frames.shape[1], device=frames.device).clamp(max=len(self.table) - 1)
        return frames + self.kind + self.table[place]


class SemiIIN(FusedModel):
    """Frames in one sequence, the two branches, the gates, and the heads."""

    has_vectors = False
    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        check_frames("semi_iin", self.encoders, inputs)
        width, options = config.width, (config.width, config.heads, config.dropout)
        summaries = 1 if task.values is None else 2  # cls, and val where there is a score
        self.summaries = nn.Parameter(nn.init.trunc_normal_(torch.empty(summaries, width), std=_PLACE))
        self.places = nn.ModuleDict({name: Places(config.steps, width) for name in task.modalities})
        self.intra = Unit(*options)
        several = len(task.modalities) > 1
        self.inter = Unit(*options) if several else None
        self.gates = nn.ModuleList(Gate(width) for _ in range(summaries if several else 0))
        self.head = nn.Linear(width, task.num_classes)
        self.intensity = None if task.values is None else nn.Linear(width, 1)

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """Frames with a last column that is 1 at valid steps, [N, T, D + 1], and presence."""
        frames, valid, present = self.encode_frames(batch)
        return {name: torch.cat([part, valid[name].unsqueeze(2)], dim=2) for name, part in frames.items()}, present

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The blended `cls`; and the blended `val`, with G of both where there are two branches."""
        names, count = self.task.modalities, len(self.summaries)
        rows = len(parts[names[0]])
        tokens = [self.summaries.expand(rows, -1, -1), *(self.places[n](parts[n][..., :-1]) for n in names)]
        device = self.summaries.device
        owner = torch.cat([torch.full(part.shape[1:2], i, device=device) for i, part in enumerate(tokens, _SUMMARY)])
        valid = [parts[names[0]].new_ones(rows, count), *(parts[n][..., -1] for n in names)]
        z, masks = torch.cat(tokens, dim=1), branch_masks(owner, torch.cat(valid, dim=1) > 0)
        ends = []
        for unit, allowed in zip((self.intra, self.inter), masks, strict=True):
            if unit is not None:
                states = z
                for _ in range(self.config.layers):
                    states = unit(states, allowed)
                ends.append(states[:, :count].unbind(1))
        tensors: dict[str, Tensor] = {}
        blended = list(ends[0])
        for i, gate in enumerate(self.gates):
            blended[i], tensors[f"share/{i}"] = gate(ends[0][i], ends[1][i])
        if count > 1:
            tensors["val"] = blended[1]
        return blended[0], tensors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, and for a score "intensity"."""
        losses = super().losses(outputs, batch)
        if self.intensity is not None:
            assert batch.labels is not None
            assert self.task.values is not None
            unit = (self.task.values[-1] - self.task.values[0]) / (self.task.num_classes - 1)
            # over the root of the width, so that a step of plain SGD does not grow with the width
            score = self.intensity(self.tensors(outputs)["val"] / self.width**0.5)[:, 0]
            error = (score - (batch.labels - self.task.center) / unit).square()
            here = torch.stack(list(outputs.present.values())).any(0)
            losses["intensity"] = self.config.intensity * (error * here).sum() / here.sum().clamp(min=1)
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, and the vectors of the modality and its positions."""
        return [*self.encoders[modality].parameters(), *self.places[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> SemiIIN:
    """The plug-in's entry point."""
    return SemiIIN(task, inputs, config)
