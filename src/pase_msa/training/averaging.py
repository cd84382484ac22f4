"""An exponential average of the weights over the steps, which is what is validated, kept and saved."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn


class WeightAverage(Callback):
    """Averages the parameters after every step (Polyak and Juditsky 1992; exponential: Tarvainen and Valpola 2017).

    The first steps are averaged equally, until there are as many as the average is long; so it does not lean on the
    initial weights. Training goes on from the weights themselves, and validation, the selection of the epoch and the
    saved model have the average. Buffers (prototypes, running statistics, weights of coalitions) are averages of their
    own, or belong to the validation, and are left alone. Lightning's own callback averages these too, and puts the
    weights back before the weights of coalitions are set.

    Args:
        share: length of the average, as a share of all steps of the run.

    Attributes:
        count: steps that are averaged.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.count = 0
        self._other: list[Tensor] | None = None  # the average, or the weights while the model has the average
        self._length = 1.0
        self._shown = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the weights as they are, unless a checkpoint has an average."""
        self._length = max(1.0, self.share * float(trainer.estimated_stepping_batches))
        if self._other is None:
            self._other = [parameter.detach().clone() for parameter in _parameters(pl_module)]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Take the weights after a step into the average."""
        assert self._other is not None
        self.count += 1
        part = max(1.0 / self.count, 1.0 / self._length)
        for average, parameter in zip(self._other, _parameters(pl_module), strict=True):
            average.lerp_(parameter, part)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model the average; it keeps it until the next epoch begins, so that checkpoints hold it."""
        if not self._shown:
            self._exchange(pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model its own weights, from which training goes on."""
        if self._shown:
            self._exchange(pl_module)

    @torch.no_grad()
    def _exchange(self, module: LightningModule) -> None:
        assert self._other is not None
        for i, parameter in enumerate(_parameters(module)):
            before = parameter.detach().clone()
            parameter.copy_(self._other[i])
            self._other[i] = before
        self._shown = not self._shown

    def state_dict(self) -> dict[str, Any]:
        """The state of the checkpoint, whose model has the average."""
        return {"count": self.count, "other": self._other, "shown": self._shown}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self.count, self._other, self._shown = state_dict["count"], state_dict["other"], state_dict["shown"]


def _parameters(module: LightningModule) -> list[nn.Parameter]:
    """The trained parameters of the model, in their order."""
    assert isinstance(module.model, nn.Module)
    return [parameter for parameter in module.model.parameters() if parameter.requires_grad]
