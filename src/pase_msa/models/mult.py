"""MulT (Tsai et al. 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL).

The frames of every modality are rewritten by attention to the frames of every other one (a crossmodal transformer for
each ordered pair), so that frames need not be aligned. A self-attention transformer reads what the pairs of a target
modality give, and its last frame stands for the modality. A residual layer over all of them gives the prediction.

Ours, where the published code goes another way:

- The frames are those of the library's encoders, which shorten long sequences; the prediction is over K classes.
- No padded frame is attended to, and a stream ends with the last valid frame of its utterance. Without a common clock a
  causal mask has no meaning between modalities, and its offset depended on the longest utterance of the batch; there is
  none.
- An absent source adds nothing to its target's frames, and the stream of an absent target is zero.
- The output projections of attention start as torch starts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.fused import FusedModel, check_frames
from pase_msa.ranges import COUNT, PROPER_SHARE, Range, check_model
from pase_msa.task import Task

_SELF_LAYERS = 3  # that the transformer behind the pairs has at least


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size d of the frames; a multiple of the heads.
        heads: of every attention; 0 is the largest number up to 8 that divides the width.
        layers: L of every crossmodal transformer; the one behind them has max(L, 3).
        dropout: in the layers and in the head.
        attention_dropout: of the attention between modalities.
        positions: whether frames carry their position (sines and cosines).
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mult"
    width: int = 40
    heads: int = 0
    layers: int = 4
    dropout: float = 0.1
    attention_dropout: float = 0.2
    positions: bool = True
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, heads=Range(0, 2**16, whole=True), layers=COUNT, attention_dropout=PROPER_SHARE)
        if not self.heads:
            self.heads = next(heads for heads in range(8, 0, -1) if not self.width % heads)
        if self.width % self.heads:
            raise PaSEError(
                f"model.width of mult is a multiple of model.heads, found {self.width} and {self.heads}; change one."
            )


class Layer(nn.Module):
    """One layer: the target's frames attend to the source's, or to their own; then a feed-forward part (`expansion`).

    The same layer norm is used for both sides of the attention (pre-norm).
    """

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float, expansion: int = 4) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, attention_dropout, batch_first=True)
        self.norm, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.expand, self.reduce = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, target: Float[Tensor, "n t d"], source: Float[Tensor, "n s d"], valid: Bool[Tensor, "n s"]
    ) -> Float[Tensor, "n t d"]:
        """The target's frames after the layer; a row without a valid source frame gets nothing from it."""
        some = valid.any(1, keepdim=True)
        keys = self.norm(source)
        # a softmax over nothing is not defined, so such a row attends to all, and what comes out is left out
        attended, _ = self.attention(
            self.norm(target), keys, keys, key_padding_mask=~(valid | ~some), need_weights=False
        )
        target = target + self.dropout(attended * some.unsqueeze(2))
        hidden = self.dropout(self.expand(self.norm_out(target)).relu())
        result: Tensor = target + self.dropout(self.reduce(hidden))
        return result


class Transformer(nn.Module):
    """Layers whose source stays what it was at the beginning, or is the target itself; then a layer norm."""

    def __init__(
        self, width: int, heads: int, layers: int, dropout: float, attention_dropout: float, expansion: int = 4
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, dropout, attention_dropout, expansion) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        target: Float[Tensor, "n t d"],
        valid: Bool[Tensor, "n s"],
        source: Float[Tensor, "n s d"] | None = None,
    ) -> Float[Tensor, "n t d"]:
        """The target's frames; `valid` is of the source, or of the target where there is no source."""
        for layer in self.layers:
            target = layer(target, target if source is None else source, valid)
        result: Tensor = self.norm(target)
        return result


def positions(steps: int, width: int) -> Float[Tensor, "t d"]:
    """Sines and cosines of the positions 1 to T, the sines first, w_i = 10000^(-i / (d / 2 - 1))."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10000.0)) / max(half - 1, 1)))
    angles = torch.arange(1, steps + 1).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]


class MulT(FusedModel):
    """Frames, crossmodal transformers of all ordered pairs, a transformer per target, and a residual head."""

    has_vectors = False

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config: Config = config
        check_frames("mult", self.encoders, inputs)
        names, width = task.modalities, config.width
        options = (config.heads, config.layers, config.dropout, config.attention_dropout)
        self.pairs = nn.ModuleDict(
            {
                target: nn.ModuleDict({source: Transformer(width, *options) for source in names if source != target})
                for target in names
            }
        )
        wide = width * max(len(names) - 1, 1)
        deep = max(config.layers, _SELF_LAYERS)
        self.streams = nn.ModuleDict(
            {name: Transformer(wide, config.heads, deep, config.dropout, config.dropout) for name in names}
        )
        self.head = ResidualHead(wide * len(names), task.num_classes, config.dropout)

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """The encoder, the pairs of which it is the target, and its stream."""
        own = [self.encoders[modality], self.pairs[modality], self.streams[modality]]
        return [parameter for module in own for parameter in module.parameters()]

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """Frames with a last column that is 1 at valid steps, [N, T, D + 1], and presence."""
        frames, valid, present = self.encode_frames(batch)
        return {name: torch.cat([part, valid[name].unsqueeze(2)], dim=2) for name, part in frames.items()}, present

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The last valid frame of each target's stream, one behind the other."""
        frames = {name: self._placed(part[..., :-1]) for name, part in parts.items()}
        valid = {name: part[..., -1] > 0 for name, part in parts.items()}
        ends = []
        for name in self.task.modalities:
            given = [
                pair(frames[name], valid[source], frames[source])
                for source, pair in self.pairs[name].items()  # type: ignore[operator]
            ]
            stream = torch.cat(given, dim=2) if given else frames[name]
            states = self.streams[name](self._placed(stream), valid[name])
            last = (valid[name].sum(1) - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[2])
            ends.append(states.gather(1, last)[:, 0] * valid[name].any(1, keepdim=True))
        return torch.cat(ends, dim=1)

    def _placed(self, frames: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """The frames at the scale and with the positions that a transformer begins with."""
        scaled: Tensor = frames * frames.shape[2] ** 0.5
        return scaled + positions(frames.shape[1], frames.shape[2]).to(frames) if self.config.positions else scaled


class ResidualHead(nn.Module):
    """A residual layer, and the logits."""

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.output = nn.Linear(width, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, fused: Float[Tensor, "n f"]) -> Float[Tensor, "n k"]:
        """Logits."""
        logits: Tensor = self.output(fused + self.second(self.dropout(self.first(fused).relu())))
        return logits


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MulT:
    """The plug-in's entry point."""
    return MulT(task, inputs, config)
