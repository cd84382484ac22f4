"""Sums over the processes of a run."""

from __future__ import annotations

import torch
from torch import Tensor


def is_distributed() -> bool:
    """Whether this process is one of several that train a model together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor without gradient over all processes, so that buffers made of it are equal in all of them."""
    if is_distributed():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values
