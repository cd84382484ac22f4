"""What models for missing modalities share: epochs of warm-up, frozen copies, hidden modalities, errors over rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from pase_msa.batch import Batch
from pase_msa.models.base import Model


class WarmUp(nn.Module):
    """Counts the epochs of a training run, of which the first ones are its warm-up.

    Args:
        epochs: of warm-up.

    Attributes:
        epoch: buffer, the number of the epoch; 0 before the first one.
    """

    epoch: Tensor

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self._over: bool | None = None

    def begin_epoch(self) -> bool:
        """Count one; whether it is the first epoch behind the warm-up."""
        self.epoch += 1
        self._over = None
        return int(self.epoch) == self.epochs + 1

    @property
    def over(self) -> bool:
        """Whether the warm-up is over. The device is asked once an epoch."""
        if self._over is None:
            self._over = bool(self.epoch > self.epochs)
        return self._over

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # a method and no hook: a hook would be bound to this very object, which then neither copies nor pickles
        super()._load_from_state_dict(*args, **kwargs)
        self._over = None


class FrozenCopy(nn.Module):
    """The weights of a module as they were at some time. They are buffers: saved, and seen by no optimiser.

    Args:
        module: whose weights are copied.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, value in _weights(module).items():
            self.register_buffer(_key(name), value.detach().clone())

    @torch.no_grad()
    def take(self, module: nn.Module) -> None:
        """Copy the weights as they are now, of the module or of one like it."""
        for name, value in _weights(module).items():
            getattr(self, _key(name)).copy_(value)

    @torch.no_grad()
    def forward(self, module: nn.Module, *inputs: Tensor) -> Tensor:
        """What the module would give with these weights, in evaluation mode and without a gradient."""
        modes = [(part, part.training) for part in module.modules()]
        weights = {name: getattr(self, _key(name)) for name in _weights(module)}
        try:
            result: Tensor = functional_call(module.eval(), weights, inputs)
        finally:
            for part, mode in modes:
                part.training = mode
        return result


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _key(name: str) -> str:
    """A name that a buffer may have."""
    return name.replace(".", "/")


def frozen_encoders(model: Model) -> nn.ModuleDict:
    """Copies of a model's encoders, by modality."""
    return nn.ModuleDict({name: FrozenCopy(encoder) for name, encoder in model.encoders.items()})


def frozen_vectors(model: Model, copies: nn.ModuleDict, batch: Batch) -> dict[str, Float[Tensor, "n d"]]:
    """The vectors that frozen encoders give for a batch, without a gradient; zero where a modality is absent."""
    vectors = {}
    for name, encoder in model.encoders.items():
        features, here = batch.features[name], batch.present[name]
        with model.encoding(features):
            if name in model.scalers:
                features = model.scalers[name](features)
            vector: Tensor = copies[name](encoder, features, batch.lengths[name] * here)
        vectors[name] = vector.to(model.class_prior.dtype) * here.unsqueeze(1)
    return vectors


def hide(present: Mapping[str, Bool[Tensor, " n"]], *, complete: bool) -> dict[str, Bool[Tensor, " n"]]:
    """Which modalities are left to each utterance, [N]; one that it has at all is always left.

    All patterns are drawn equally often: the subsets of an utterance's modalities without the empty one and, unless
    `complete`, without the whole one, where there is another.
    """
    here = torch.stack(list(present.values()), dim=1)
    patterns = 2 ** here.sum(1) - (1 if complete else 2)
    drawn = (torch.rand(len(here), device=here.device) * patterns).long()
    # bit j of the number says whether the j-th modality that the utterance has is left; 0 would be none of them
    number = 1 + torch.minimum(drawn, patterns - 1).clamp(min=0)
    place = (here.cumsum(1) - 1).clamp(min=0)
    left = here & ((number.unsqueeze(1) >> place) & 1).bool()
    return dict(zip(present, left.unbind(1), strict=True))


def with_hidden(batch: Batch, modalities: Sequence[str], *, complete: bool) -> Batch:
    """The batch after `hide` of the named modalities."""
    left = hide({name: batch.present[name] for name in modalities}, complete=complete)
    return dataclasses.replace(batch, present={**batch.present, **left})


def masked_mse(
    guess: Float[Tensor, "n ..."], target: Float[Tensor, "n ..."], here: Bool[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Mean squared difference over the rows that count, [N, ...]; 0 where there is none."""
    error = (guess - target).square().flatten(1).mean(1)
    return (error * here).sum() / here.sum().clamp(min=1)
