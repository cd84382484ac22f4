"""Encoders in bfloat16."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextlib.contextmanager
def in_bfloat16(device: str) -> Iterator[None]:
    """Compute matrix products in bfloat16.

    Args:
        device: type of the device, such as "cpu" or "cuda".
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(device, torch.bfloat16))
        if device == "cpu":  # the backward pass of its fused attention takes ten times as long in bfloat16
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield
