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


def has_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16, as far as PyTorch can tell.

    Args:
        device: type of the device, such as "cpu" or "cuda".
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    ask = getattr(torch.cpu, "get_capabilities", dict)  # older versions of torch cannot tell
    there = dict(ask()) if device == "cpu" else {}
    return bool(there.get("amx_bf16") or there.get("avx512_bf16"))
