"""The optimiser over a model's parameters, and its learning rate over the steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pase_msa.encoders.base import Encoder
from pase_msa.training.config import TrainingConfig


def scheduled_optimizer(model: nn.Module, config: TrainingConfig, steps: int) -> OptimizerLRSchedulerConfig:
    """The optimiser and its learning rate as a function of the step, of `steps` in all, as Lightning takes both."""
    optimizer = make_optimizer(model, config)
    scheduler = LambdaLR(optimizer, learning_rate_factor(config, steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The optimiser; parameters of encoders with a learning rate of their own are groups of their own."""
    own = {
        id(parameter): rate
        for encoder in model.modules()
        if isinstance(encoder, Encoder)
        for parameter, rate in encoder.learning_rates()
    }
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[own.get(id(parameter), config.learning_rate)].append(parameter)
    listed = [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]
    if config.optimizer == "sgd":
        return SGD(listed, lr=config.learning_rate, momentum=0.9)
    # On a CPU one fused kernel updates all parameters. Elsewhere torch decides, since not every precision allows it.
    fused = True if all(parameter.device.type == "cpu" for parameter in model.parameters()) else None
    if config.optimizer == "adam":
        return Adam(listed, lr=config.learning_rate, fused=fused)
    return AdamW(listed, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)


def learning_rate_factor(config: TrainingConfig, steps: int) -> Callable[[int], float]:
    """By what the learning rate is multiplied at a step, of `steps` in all: warm-up, then the schedule."""
    warm = round(config.warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        done = (step - warm) / max(steps - warm, 1)
        if config.schedule == "linear":
            return max(1 - done, 0.0)
        if config.schedule == "cosine":
            return 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())
        return 1.0

    return factor
