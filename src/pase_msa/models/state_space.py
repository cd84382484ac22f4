"""The selective state-space scan of Mamba (Gu, Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State
Spaces"), step by step in plain PyTorch, in one direction or in both.

    h_t = exp(d_t A) h_{t-1} + d_t B_t x_t,   y_t = C_t h_t + D x_t,   with d, B and C functions of x

With both directions, input and output maps and the gate are shared, as in Vision Mamba (Zhu et al. 2024). There is no
fused kernel, so this suits short sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_KERNEL = 4  # steps that the convolution before a scan sees
_SLOWEST, _FASTEST = 1e-3, 1e-1  # d at the start lies between them


def selective_scan(
    x: Float[Tensor, "*g n t c"],
    step: Float[Tensor, "*g n t c"],
    rate: Float[Tensor, "*g c s"],
    enter: Float[Tensor, "*g n t s"],
    leave: Float[Tensor, "*g n t s"],
) -> Float[Tensor, "*g n t c"]:
    """y_t = C_t h_t with h_t = exp(d_t A) h_{t-1} + d_t B_t x_t, and h = 0 before the first step.

    Args:
        x: sequences of C channels, of one group or of several with rates of their own.
        step: d, positive; a step of 0 leaves the state as it is.
        rate: A, negative.
        enter: B.
        leave: C.
    """
    decays = (step.unsqueeze(-1) * rate.unsqueeze(-3).unsqueeze(-3)).exp().unbind(-3)
    given = ((step * x).unsqueeze(-1) * enter.unsqueeze(-2)).unbind(-3)
    states = [given[0]]
    for decay, value in zip(decays[1:], given[1:], strict=True):
        states.append(torch.addcmul(value, decay, states[-1]))
    return (torch.stack(states, dim=-3) @ leave.unsqueeze(-1)).squeeze(-1)


def channel_convolution(
    frames: Float[Tensor, "n t c"], layer: nn.Conv1d, before: int, after: int
) -> Float[Tensor, "n t c"]:
    """A convolution of each channel by itself, with zeros before and after; as a sum, which is faster on a CPU."""
    padded, steps = F.pad(frames, (0, 0, before, after)), frames.shape[1]
    parts = [padded[:, place : place + steps] * kernel for place, kernel in enumerate(layer.weight[:, 0].unbind(1))]
    assert layer.bias is not None
    return torch.stack([*parts, layer.bias.expand_as(frames)]).sum(0)


class Direction(nn.Module):
    """What a scan of C channels in one direction is made of: a convolution over the steps before, d, A, B, C and D."""

    def __init__(self, channels: int, state: int) -> None:
        super().__init__()
        self.sizes = (math.ceil(channels / 32), state, state)
        self.convolution = nn.Conv1d(channels, channels, _KERNEL, groups=channels)
        self.select = nn.Linear(channels, sum(self.sizes), bias=False)
        self.step = nn.Linear(self.sizes[0], channels)
        self.rate_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(channels, 1))
        self.skip = nn.Parameter(torch.ones(channels))
        nn.init.uniform_(self.step.weight, -(self.sizes[0] ** -0.5), self.sizes[0] ** -0.5)
        start = torch.empty(channels).uniform_(math.log(_SLOWEST), math.log(_FASTEST)).exp()
        with torch.no_grad():
            self.step.bias.copy_(start.expm1().log())  # whose softplus is the start

    def forward(self, frames: Float[Tensor, "n t c"]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The arguments of `selective_scan`, from the first step to the last."""
        x = F.silu(channel_convolution(frames, self.convolution, _KERNEL - 1, 0))
        narrow, enter, leave = self.select(x).split(self.sizes, dim=2)
        return x, F.softplus(self.step(narrow)), -self.rate_log.exp(), enter, leave


class Scan(nn.Module):
    """Mamba: the scan of some channels, gated by as many; in both directions, the sum of two scans.

    Args:
        width: of the frames.
        channels: that are scanned.
        state: numbers that a channel remembers.
        both_ways: whether there is a second direction.
    """

    def __init__(self, width: int, channels: int, state: int, both_ways: bool) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(width, 2 * channels, bias=False), nn.Linear(channels, width, bias=False)
        self.ahead = Direction(channels, state)
        self.back = Direction(channels, state) if both_ways else None

    def forward(self, frames: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """The scanned frames."""
        return scan_together([self], [frames])[0]


def scan_together(scans: Sequence[Scan], frames: Sequence[Float[Tensor, "n t d"]]) -> list[Float[Tensor, "n t d"]]:
    """What each scan gives for its own frames; all have the same sizes, and their steps are taken together."""
    gates, directions, given = [], [], []
    for scan, part in zip(scans, frames, strict=True):
        x, gate = scan.enter(part).chunk(2, dim=2)
        gates.append(gate)
        directions.append(scan.ahead)
        given.append(x)
        if scan.back is not None:
            directions.append(scan.back)
            given.append(x.flip(1))
    prepared = [direction(x) for direction, x in zip(directions, given, strict=True)]
    y = selective_scan(*(torch.stack(parts) for parts in zip(*prepared, strict=True)))
    skips = zip(directions, prepared, y.unbind(0), strict=True)
    scanned = [part + direction.skip * x for direction, (x, *_), part in skips]
    if scans[0].back is not None:
        scanned = [ahead + back.flip(1) for ahead, back in zip(scanned[::2], scanned[1::2], strict=True)]
    return [scan.leave(y * F.silu(gate)) for scan, y, gate in zip(scans, scanned, gates, strict=True)]
