"""MMPareto (Wei & Hu 2024, "MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance", ICML).

A linear head per modality is trained beside the model, so that an encoder has two gradients: g0 of the multimodal loss
and g1 of its modality's own. Where they agree they are added. Where they do not, they are combined so that the step
makes neither loss worse, and its size is kept. Over all parameters of an encoder as one vector:

1. c = 1/2 where g0 . g1 > 0; otherwise the point of the segment between them that has the least norm,
   c = ((g1 - g0) . g1) / ||g0 - g1||^2;
2. h = 2 c g0 + 2 (1 - c) g1, so that h = g0 + g1 where they agree, and h . g0 = h . g1 > 0 where they oppose;
3. where h is shorter than s = g0 + g1, it is lengthened to ||s||;
4. the encoder's gradient is gamma h. The heads and all other parameters have the plain sum of the gradients.

In the authors' code c is one number per modality and step 3 is taken per parameter tensor, which turns h a little.
It is the default here; `recovery` "encoder" lengthens h as a whole and keeps its direction. What cancels to nothing
(less than a millionth of s) has no direction and is not lengthened. Ours:

- L_task instead of the cross-entropy of classes, and heads that learn from the utterances that have their modality;
- where one of the gradients is zero, as for a modality that no utterance of the batch has, the other one is h;
- all losses of a model count as the multimodal one, also where it has unimodal ones of its own.

A step costs one backward pass per modality and one for all; a fine-tuned encoder has two sets of gradients at a time.
Gradients are taken by hand, so that training runs in one process. Made for SGD: Adam undoes gamma and part of step 3.
The control, a plain sum, is `multi_head`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.nn import Parameter

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.epochs import EpochMeans
from pase_msa.balancing.heads import UnimodalHeads
from pase_msa.balancing.rates import owners
from pase_msa.batch import Batch, Outputs
from pase_msa.errors import PaSEError
from pase_msa.ranges import POSITIVE, check_ranges

Recovery = Literal["tensor", "encoder"]
_TINY = 1e-30  # squared norms below it count as zero


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        gamma: factor on the encoders' gradients.
        recovery: what is lengthened to the norm of the plain sum: each parameter "tensor" by itself (the authors'
            code), or the gradient of the whole "encoder".
    """

    name: str = "mmpareto"
    gamma: float = 1.5
    recovery: Recovery = "tensor"

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", gamma=POSITIVE)


def share(joint: Sequence[Tensor], alone: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """c, the share of the multimodal gradient, of step 1, and whether the two oppose each other; scalars.

    Args:
        joint: g0, one tensor per parameter.
        alone: g1, likewise.
    """
    dot = torch.stack([(a.float() * b.float()).sum() for a, b in zip(joint, alone, strict=True)]).sum()
    first, second = (torch.stack([g.float().square().sum() for g in part]).sum() for part in (joint, alone))
    apart = (first + second - 2 * dot).clamp(min=_TINY)
    plain = (dot > 0) | (first <= _TINY) | (second <= _TINY)
    return torch.where(plain, 0.5, (second - dot) / apart), dot < 0


def combine(
    joint: Sequence[Tensor], alone: Sequence[Tensor], gamma: float, recovery: Recovery = "tensor"
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The encoder's gradient gamma h of steps 1 to 4, one tensor per parameter, with c and whether the two oppose.

    Args:
        joint: g0, one tensor per parameter.
        alone: g1, likewise.
        gamma: factor of step 4.
        recovery: see `Config`.
    """
    c, opposed = share(joint, alone)
    mixed = [2 * c * a + 2 * (1 - c) * b for a, b in zip(joint, alone, strict=True)]
    plain = [a + b for a, b in zip(joint, alone, strict=True)]
    groups = [[i] for i in range(len(mixed))] if recovery == "tensor" else [list(range(len(mixed)))]
    result = list(mixed)
    for group in groups:
        size, wanted = (torch.stack([part[i].float().norm() for i in group]).norm() for part in (mixed, plain))
        grown = torch.where(size > 1e-6 * wanted, wanted / size.clamp(min=_TINY), 1.0).clamp(min=1.0)
        for i in group:
            result[i] = gamma * grown.to(mixed[i].dtype) * mixed[i]
    return result, c, opposed


class MMPareto(EpochMeans):
    """See the module.

    Attributes:
        auxiliary_heads: the heads, by modality.
        history: one entry per epoch, {"epoch", "active", "opposed/...", "c/..."}: the share of its steps in which the
            two gradients of an encoder opposed each other, and the mean share of the multimodal one.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.heads: UnimodalHeads | None = None

    def prepare(self, preparation: Preparation) -> None:
        """Make the heads; refuse a model without modality vectors. One modality alone needs none."""
        if len(preparation.task.modalities) > 1:
            self.auxiliary_heads = self.heads = UnimodalHeads("mmpareto", preparation.task, preparation.model)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse several processes, and parameters of two modalities.

        Errors:
            PaSEError: training runs in several processes, or a parameter belongs to two modalities.
        """
        owners(pl_module.modalities, pl_module.modality_parameters)  # type: ignore[arg-type]
        if trainer.world_size > 1 and self.heads is not None:
            raise PaSEError(
                f"mmpareto takes gradients by hand and trains in one process, found {trainer.world_size}; set "
                "training.devices to 1."
            )

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses and those of the heads."""
        if not self.active or self.heads is None:
            return dict(losses)
        return dict(losses) | self.heads.named_losses(outputs, batch)

    def backward(self, losses: Mapping[str, Tensor], module: LightningModule, **options: Any) -> None:
        """One backward pass per modality's own loss and one for the model's; encoders get gamma h."""
        if not self.active or self.heads is None:
            super().backward(losses, module, **options)
            return
        own = {name: losses[key] for name in self.heads.linear if (key := f"alone/{name}") in losses}
        ours = {f"alone/{name}" for name in own}
        total = torch.stack([value for key, value in losses.items() if key not in ours]).sum()
        parameters = [p for p in module.parameters() if p.requires_grad]
        alone = {name: _gradients(loss, parameters, keep=True) for name, loss in own.items()}
        joint = _gradients(total, parameters, keep=bool(options.get("retain_graph")))  # last, since it frees the graph
        for name, gradients in alone.items():
            mine = module.modality_parameters(name)  # type: ignore[operator]
            encoder = [p for p in mine if id(p) in joint or id(p) in gradients]
            if encoder:
                of_all, of_own = ([_taken(source, p) for p in encoder] for source in (joint, gradients))
                combined, c, opposed = combine(of_all, of_own, self.config.gamma, self.config.recovery)
                joint |= {id(p): g for p, g in zip(encoder, combined, strict=True)}
                self.count({f"opposed/{name}": opposed.float(), f"c/{name}": c})
        for parameter in parameters:
            for source in (joint, *alone.values()):
                if id(parameter) in source:
                    gradient = source[id(parameter)]
                    # a copy, since autograd may return one tensor for two parameters
                    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient


def _gradients(loss: Tensor, parameters: Sequence[Parameter], *, keep: bool) -> dict[int, Tensor]:
    """The gradient of each parameter that the loss reaches, by the parameter's identity."""
    found = torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True)
    return {id(p): g for p, g in zip(parameters, found, strict=True) if g is not None}


def _taken(gradients: dict[int, Tensor], parameter: Parameter) -> Tensor:
    """Take a parameter's gradient out; zero where there is none."""
    gradient = gradients.pop(id(parameter), None)
    return torch.zeros_like(parameter) if gradient is None else gradient


def build(config: Config) -> MMPareto:
    """The plug-in's entry point."""
    return MMPareto(config)
