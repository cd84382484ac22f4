"""The contract of a balancing method: a Lightning callback that sees the named losses and owns the backward step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule
from torch import Tensor


class Modulation(Callback):
    """Extra losses, gradient edits or learning-rate scales; override what the method needs.

    A plug-in module offers `Config`, a dataclass of options with a field `name`, and `build(config) -> Modulation`.
    Gradients are edited in Lightning's `on_before_optimizer_step`, learning rates as `ShapleyModulation` does.

    Attributes:
        active: False in phase 1, when nothing may be changed; the dual-phase rule sets it.
    """

    active: bool = True

    def adjust(self, losses: Mapping[str, Tensor], module: LightningModule) -> dict[str, Tensor]:
        """The named losses, with some added or reweighed, before they are summed."""
        return dict(losses)

    def backward(self, losses: Mapping[str, Tensor], module: LightningModule, **options: Any) -> None:
        """The backward step over the named losses."""
        torch.autograd.backward(torch.stack(list(losses.values())).sum(), **options)

    def log_values(self) -> dict[str, float]:
        """What to log at the end of an epoch."""
        return {}
