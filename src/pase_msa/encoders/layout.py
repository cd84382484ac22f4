"""Where the segments of N sequences stand in one long list of rows, so that a layer runs over all of them at once.

The rows of a sequence stand together, and at least one empty row follows them: a convolution over all rows then sees
zeros at the end of each sequence, as it would in a batch of one. A tight list has one empty row per sequence, so that
nothing is computed on padding; its size depends on the lengths, which the processor has to read. A padded list has
room for the longest sequence each; its size follows from shapes alone, which suits a GPU and an exported graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def step_mask(lengths: Int[Tensor, " n"], steps: int | torch.SymInt) -> Bool[Tensor, "n t"]:
    """True at the valid steps of sequences padded to `steps`."""
    # A symbolic number of steps is torch.export's; the stub of arange does not name it.
    return torch.arange(cast(int, steps), device=lengths.device) < lengths.unsqueeze(1)


@dataclass(frozen=True)
class Layout:
    """R rows for the segments of N sequences.

    Attributes:
        counts: segments per sequence, [N].
        owner: sequence that a row belongs to; N for an empty row, [R].
        lengths: frames per sequence, [N].
        stride: frames per segment.
        room: rows per sequence, the same for all, in a padded list; None in a tight one.
    """

    counts: Int[Tensor, " n"]
    owner: Int[Tensor, " r"]
    lengths: Int[Tensor, " n"]
    stride: int
    room: int | None

    @classmethod
    def tight(cls, lengths: Int[Tensor, " n"], stride: int) -> Layout:
        """One empty row after each sequence."""
        counts = (lengths + stride - 1) // stride
        n = len(lengths)
        # pairs of (the sequence, its empty row)
        owner = torch.stack([torch.arange(n), torch.full((n,), n)], 1).flatten()
        repeats = torch.stack([counts, torch.ones_like(counts)], 1).flatten()
        return cls(counts, owner.repeat_interleave(repeats), lengths, stride, None)

    @classmethod
    def padded(cls, lengths: Int[Tensor, " n"], stride: int, steps: int) -> Layout:
        """Room for `steps` frames, and one more segment, for each sequence."""
        counts, room = (lengths + stride - 1) // stride, (steps + stride - 1) // stride + 1
        n = lengths.shape[0]  # not len(): a traced graph may have any number of sequences
        number = torch.arange(n, device=lengths.device).unsqueeze(1)
        owner = torch.where(step_mask(counts, room), number, n)
        return cls(counts, owner.flatten(), lengths, stride, room)

    @property
    def valid(self) -> Bool[Tensor, "r 1"]:
        """Whether a row belongs to a sequence."""
        return (self.owner < self.counts.shape[0]).unsqueeze(1)

    def sources(self, steps: int) -> Int[Tensor, " f"]:
        """Which frame of padded sequences, [N * steps], stands at each frame of the rows, [R * stride].

        Where no frame is valid, it is any frame of the sequences.
        """
        assert self.room is None
        counts = self.counts + 1
        first = counts.cumsum(0) - counts
        # from a frame's place in the rows to its place in the padded sequences
        shift = (torch.arange(len(counts)) * steps - first * self.stride).repeat_interleave(counts * self.stride)
        place = torch.arange(len(shift)) + shift
        owner = torch.arange(len(counts)).repeat_interleave(counts * self.stride)
        last = owner * steps + (self.lengths - 1).clamp(min=0)[owner]
        return torch.minimum(place, last)

    def inside(self) -> Bool[Tensor, "r s"]:
        """Which frames of the rows' segments are valid."""
        step = torch.arange(self.stride, device=self.owner.device)
        return (step < self.frame_counts()) & self.valid

    def place_padded(self, features: Float[Tensor, "n t d"]) -> Float[Tensor, "r s d"]:
        """Padded sequences as segments of a padded list."""
        assert self.room is not None
        padded = F.pad(features, (0, 0, 0, self.room * self.stride - features.shape[1]))
        return padded.reshape(-1, self.stride, features.shape[2])

    def frame_counts(self) -> Int[Tensor, "r 1"]:
        """Frames in each row's segment; 1 in an empty row."""
        if self.room is not None:
            left = self.lengths.unsqueeze(1) - self.stride * torch.arange(self.room, device=self.lengths.device)
            return left.clamp(1, self.stride).view(-1, 1)
        result = torch.full_like(self.owner, self.stride)
        last = (self.counts + 1).cumsum(0) - 2  # of each sequence; of one without frames, any row before
        some = self.counts > 0
        result[last[some]] = (self.lengths - (self.counts - 1) * self.stride)[some]
        return result.unsqueeze(1)

    def per_row(self, values: Float[Tensor, "n d"]) -> Float[Tensor, "r d"]:
        """The values of each row's sequence; zero in an empty row."""
        return F.pad(values, (0, 0, 0, 1)).index_select(0, self.owner)

    def sums(self, rows: Float[Tensor, "r d"]) -> Float[Tensor, "n d"]:
        """The sum over each sequence's rows; empty rows must be zero."""
        if self.room is not None:
            return rows.view(-1, self.room, rows.shape[1]).sum(1)
        n = self.counts.shape[0]
        return rows.new_zeros(n + 1, rows.shape[1]).index_add(0, self.owner, rows)[:n]

    def softmax(self, scores: Float[Tensor, "r 1"]) -> Float[Tensor, "r 1"]:
        """A softmax over each sequence's rows; zero in empty rows."""
        if self.room is not None:
            valid = self.valid.view(-1, self.room)
            masked = scores.view(-1, self.room).masked_fill(~valid, torch.finfo(scores.dtype).min)
            return (masked.softmax(1) * valid).view(-1, 1)
        n = self.counts.shape[0]
        largest = scores.new_zeros(n + 1).scatter_reduce(
            0, self.owner, scores.detach()[:, 0], "amax", include_self=False
        )
        powers = (scores - largest.index_select(0, self.owner).unsqueeze(1)).exp() * self.valid
        total = F.pad(self.sums(powers), (0, 0, 0, 1), value=1.0)
        return powers / total.index_select(0, self.owner)

    def unpacked(self, rows: Float[Tensor, "r d"], segments: int) -> tuple[Float[Tensor, "n s d"], Bool[Tensor, "n s"]]:
        """Rows as padded sequences [N, segments, d], zero in the padding, and which of their steps are valid."""
        mask = step_mask(self.counts, segments)
        if self.room is not None:
            return rows.view(-1, self.room, rows.shape[1])[:, :segments] * mask.unsqueeze(2), mask
        first = (self.counts + 1).cumsum(0) - self.counts - 1
        index = torch.where(mask, first.unsqueeze(1) + torch.arange(segments), 0)
        found = rows.index_select(0, index.flatten()).view(*index.shape, rows.shape[1])
        return found * mask.unsqueeze(2), mask


def resample(
    frames: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"], steps: int | Int[Tensor, " n"], most: int | None = None
) -> Float[Tensor, "n s d"]:
    """Adaptive average pooling of each sequence, over its own valid frames; 0 where it has none.

    Args:
        frames: padded sequences.
        lengths: valid frames of each.
        steps: that each sequence is reduced or stretched to, the same for all or one number a sequence.
        most: S, the steps of the result, where they differ; zero behind a sequence's last one.
    """
    if isinstance(steps, int):
        count, total = steps, steps
    else:
        assert most is not None
        count, total = steps.view(-1, 1, 1), most  # type: ignore[assignment]
    length, step = lengths.view(-1, 1, 1), torch.arange(total, device=frames.device).view(1, -1, 1)
    begin, end = step * length // count, ((step + 1) * length + count - 1) // count
    time = torch.arange(frames.shape[1], device=frames.device).view(1, 1, -1)
    inside = ((begin <= time) & (time < end) & (time < length)).to(frames.dtype)  # [N, S, T]
    return (inside @ frames) / inside.sum(2, keepdim=True).clamp(min=1)


def max_pool(frames: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"], stretches: int) -> Float[Tensor, "n s d"]:
    """Adaptive max pooling of each sequence over its own valid frames; 0 where it has none.

    Stretch s is the frames from floor(s T / n) up to, but not with, ceil((s + 1) T / n), T being the valid frames. A
    sequence shorter than n repeats its frames.
    """
    time, length = torch.arange(frames.shape[1], device=frames.device), lengths.unsqueeze(1)
    pooled = []
    for stretch in range(stretches):
        begin, end = stretch * length // stretches, ((stretch + 1) * length + stretches - 1) // stretches
        inside = ((begin <= time) & (time < end)).unsqueeze(2)
        pooled.append(frames.masked_fill(~inside, torch.finfo(frames.dtype).min).amax(1))
    return torch.stack(pooled, dim=1) * (lengths > 0).view(-1, 1, 1)
