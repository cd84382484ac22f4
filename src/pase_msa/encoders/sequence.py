"""A masked sequence encoder that is fast on two CPU cores and on a GPU.

Frames are projected, optionally convolved in time, pooled by masked attention (Bahdanau et al. 2015, with one learned
query) or by their masked mean, and mapped to the vector. A sequence of one step is an ordinary multilayer perceptron.

A long sequence is reduced to segments of `stride` frames before anything wide runs over it. A segment is the mean of
its frames and the mean of a few learned local features, which a narrow convolution of kernel 3 gives at every frame:
so the order of frames within a segment is seen too, wherever in the segment it stands.

Dropout acts on a channel of a whole sequence, not of a frame (Tompson et al. 2015, "spatial dropout"): frames next to
each other are alike, so that a channel of one frame is easily told from the next. It costs one random number per
channel and sequence.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.base import Encoder, Scale
from pase_msa.encoders.layout import Layout, step_mask
from pase_msa.ranges import PROPER_SHARE, SIZE, Range, check_ranges

__all__ = ["Config", "SequenceEncoder", "build", "step_mask"]

# sequences that usually have more frames than the first number are reduced to about the second one of segments
_LONG, _SEGMENTS = 64, 32


@dataclass
class Config:
    """Options of the sequence encoder.

    Attributes:
        hidden: size of the projected frames.
        convolutions: residual temporal convolutions of kernel 3; 0 treats frames as a bag.
        pooling: "attention" or "mean".
        dropout: on the projected frames, and before the output.
        stride: frames per segment; None follows from the training sequences: 1 where the usual ones have up to 64
            frames, otherwise so many that these become up to 32 segments.
        local: channels of the convolution within segments; 0 takes the mean of the frames alone.
    """

    hidden: int = 128
    convolutions: int = 1
    pooling: Literal["attention", "mean"] = "attention"
    dropout: float = 0.4
    stride: int | None = None
    local: int = 16

    def __post_init__(self) -> None:
        check_ranges(self, "encoders", hidden=SIZE, convolutions=Range(0, 64, whole=True), dropout=PROPER_SHARE)
        check_ranges(self, "encoders", stride=SIZE, local=Range(0, 2**16, whole=True))


class SequenceEncoder(Encoder):
    """Reduce, project, convolve, pool; see the module. A sequence of length 0 has a finite vector."""

    def __init__(self, dim: int, width: int, config: Config) -> None:
        super().__init__()
        self.stride = config.stride or 1
        self.project = nn.Linear(dim, config.hidden)
        reduced = self.stride > 1 and config.local > 0
        self.local = nn.Conv1d(dim, config.local, 3, padding=1) if reduced else None
        self.project_local = nn.Linear(config.local, config.hidden, bias=False) if reduced else None
        convolutions = [nn.Conv1d(config.hidden, config.hidden, 3, padding=1) for _ in range(config.convolutions)]
        self.convolutions = nn.ModuleList(convolutions)
        self.attention = nn.Linear(config.hidden, 1) if config.pooling == "attention" else None
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, width)

    def forward(self, features: Float[Tensor, "n t f"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """One vector per sequence, [N, width], from padded frames [N, T, dim] and lengths [N]."""
        return self.scaled(features, lengths, lambda frames: frames)

    def scaled(self, features: Tensor, lengths: Int[Tensor, " n"], scale: Scale) -> Float[Tensor, "n d"]:
        """What `forward` gives for scaled frames; on a CPU, padding is not even scaled."""
        if features.shape[1] == 1 and self.stride == 1:
            return self._vector(self._one_step(scale(features[:, 0])))
        layout, segments = self._segments(features, lengths, scale)
        return self._vector(self._pool(self._states(segments, layout), layout))

    def frames(
        self, features: Float[Tensor, "n t f"], lengths: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n s d"], Bool[Tensor, "n s"]]:
        """One vector per segment, [N, S, width], and which of them are valid; a segment is one frame or `stride`."""
        layout, segments = self._segments(features, lengths)
        rows: Tensor = self.output(self._states(segments, layout))
        return layout.unpacked(rows, (features.shape[1] + self.stride - 1) // self.stride)

    def _segments(self, features: Tensor, lengths: Tensor, scale: Scale | None = None) -> tuple[Layout, Tensor]:
        """The frames as segments [R, stride, dim], zero where there is none, and where they stand."""
        if features.device.type == "cpu" and not torch.compiler.is_compiling():
            layout = Layout.tight(lengths, self.stride)
            rows = features.flatten(0, 1).index_select(0, layout.sources(features.shape[1]))
            segments = (rows if scale is None else scale(rows)).view(-1, self.stride, features.shape[2])
        else:
            layout = Layout.padded(lengths, self.stride, features.shape[1])
            segments = layout.place_padded(features if scale is None else scale(features))
        if self.stride == 1:  # the projected frames are masked, which is cheaper
            return layout, segments
        return layout, segments * layout.inside().unsqueeze(2)

    def _one_step(self, frame: Float[Tensor, "n f"]) -> Float[Tensor, "n h"]:
        """With one step, pooling is the identity and a convolution is its centre alone."""
        hidden: Tensor = self.dropout(F.gelu(self.project(frame)))
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d)
            hidden = hidden + F.gelu(F.linear(hidden, convolution.weight[:, :, 1], convolution.bias))
        return hidden

    def _states(self, segments: Float[Tensor, "r s f"], layout: Layout) -> Float[Tensor, "r h"]:
        """One vector per row; zero in empty rows."""
        hidden = F.gelu(self._projected(segments, layout))
        kept = layout.valid.to(hidden.dtype)
        channels = kept
        if self.training and self.dropout.p > 0:
            channels = layout.per_row(self.dropout(hidden.new_ones(layout.counts.shape[0], hidden.shape[1])))
        hidden = hidden * channels
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d)
            assert convolution.bias is not None
            # empty rows are zero before each convolution, so that they equal the zeros at the end of a sequence
            hidden = torch.addcmul(hidden, F.gelu(_convolve(hidden, convolution.weight, convolution.bias)), kept)
        return hidden

    def _projected(self, segments: Float[Tensor, "r s f"], layout: Layout) -> Float[Tensor, "r h"]:
        if self.stride == 1:
            single: Tensor = self.project(segments[:, 0])
            return single
        share = 1 / layout.frame_counts().to(segments.dtype)
        projected: Tensor = self.project(segments.sum(1) * share)
        if self.local is None or self.project_local is None:
            return projected
        assert self.local.bias is not None
        features = F.relu(_convolve(segments.flatten(0, 1), self.local.weight, self.local.bias))
        features = features.view(*segments.shape[:2], -1)
        # a mean over `stride` frames that differ by chance is smaller than one of them by the root of their number
        weights = (layout.inside() * share * self.stride**0.5).to(features.dtype).unsqueeze(2)
        local: Tensor = self.project_local((features * weights).sum(1))
        return projected + local

    def _vector(self, pooled: Float[Tensor, "n h"]) -> Float[Tensor, "n d"]:
        vector: Tensor = self.output(self.dropout(pooled))
        return vector

    def _pool(self, hidden: Float[Tensor, "r h"], layout: Layout) -> Float[Tensor, "n h"]:
        if self.attention is None:
            return layout.sums(hidden) / layout.counts.clamp(min=1).unsqueeze(1)
        return layout.sums(layout.softmax(self.attention(hidden)) * hidden)


class _RowConvolution(torch.autograd.Function):
    """A convolution of kernel 3 over rows, as products of matrices that are added up in place.

    On a CPU it is faster than torch's own, which rearranges rows to channels and back.
    """

    @staticmethod
    def forward(ctx: Any, rows: Float[Tensor, "r d"], weight: Float[Tensor, "3 d e"], bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        result = torch.addmm(bias, rows, weight[1])
        result[1:].addmm_(rows[:-1], weight[0])
        result[:-1].addmm_(rows[1:], weight[2])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "r e"]) -> tuple[Tensor | None, Tensor, Tensor]:
        (rows, weight), (gradient,) = ctx.saved_tensors, gradients
        of_rows = None
        if ctx.needs_input_grad[0]:
            of_rows = gradient @ weight[1].t()
            of_rows[:-1].addmm_(gradient[1:], weight[0].t())
            of_rows[1:].addmm_(gradient[:-1], weight[2].t())
        of_weight = [rows[:-1].t() @ gradient[1:], rows.t() @ gradient, rows[1:].t() @ gradient[:-1]]
        return of_rows, torch.stack(of_weight), gradient.sum(0)


def _convolve(rows: Float[Tensor, "r d"], weight: Float[Tensor, "e d 3"], bias: Tensor) -> Float[Tensor, "r e"]:
    """A convolution over all rows as one long sequence, with zeros beyond its ends."""
    if rows.device.type != "cpu" or torch.compiler.is_compiling():
        return F.conv1d(rows.t().unsqueeze(0), weight, bias, padding=1)[0].t()
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        rows, weight, bias = rows.to(kind), weight.to(kind), bias.to(kind)
    result: Tensor = _RowConvolution.apply(rows, weight.permute(2, 1, 0), bias)  # type: ignore[no-untyped-call]
    return result


def stride_for(steps: int | None) -> int:
    """Frames per segment for sequences that usually have `steps` frames."""
    return 1 if not steps or steps <= _LONG else -(-steps // _SEGMENTS)


def build(spec: InputSpec, width: int, config: Config) -> SequenceEncoder:
    """The plug-in's entry point."""
    chosen = dataclasses.replace(config, stride=config.stride or stride_for(spec.steps))
    return SequenceEncoder(spec.dim, width, chosen)
