"""The closed-form reference of the diagnosis as a part of a model: what it says of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch
from pase_msa.encoders.sequence import step_mask
from pase_msa.heldout.experts import Experts
from pase_msa.heldout.ridge import CLIP, FOURIER, products
from pase_msa.task import Task


class RidgeReference(nn.Module):
    """A mixture of ridge regressions on pooled features, one a trusted coalition; everything is a buffer.

    Args:
        task: what is predicted.
        shapes: what `shapes_of` said of the experts that the buffers will hold.
    """

    slopes: Tensor
    intercepts: Tensor
    shares: Tensor
    prior: Tensor
    offset: Tensor

    def __init__(self, task: Task, shapes: Mapping[str, Any]) -> None:
        super().__init__()
        self.task = task
        self.shapes = dict(shapes)
        self.modalities: dict[str, Any] = shapes["modalities"]
        self.coalitions = [tuple(names) for names in shapes["coalitions"]]
        outputs = 1 if task.values is not None else task.num_classes
        for name, (pooled, components, _, leading) in self.modalities.items():
            self.register_buffer(f"center_{name}", torch.zeros(pooled))
            self.register_buffer(f"scale_{name}", torch.zeros(pooled))
            self.register_buffer(f"matrix_{name}", torch.zeros(pooled, components))
            self.register_buffer(f"waves_{name}", torch.zeros(components, FOURIER))
            self.register_buffer(f"lead_{name}", torch.zeros(pooled, leading))
        for number, names in enumerate(self.coalitions):
            pairs = products([torch.zeros(1, self.modalities[name][3]) for name in names])
            joint = FOURIER + sum(pair.shape[1] for pair in pairs)
            size = sum(self.modalities[name][1] for name in names) + joint
            self.register_buffer(f"weights_{number}", torch.zeros(size, outputs))
            self.register_buffer(f"joint_mean_{number}", torch.zeros(joint))
        count = len(self.coalitions)
        self.register_buffer("slopes", torch.zeros(count, outputs, task.num_classes))
        self.register_buffer("intercepts", torch.zeros(count, task.num_classes))
        self.register_buffer("shares", torch.zeros(count))
        self.register_buffer("prior", torch.zeros(task.num_classes))
        self.register_buffer("offset", torch.zeros(FOURIER))

    @classmethod
    def of(cls, task: Task, experts: Experts) -> RidgeReference:
        """From a diagnosis."""
        result = cls(task, shapes_of(experts))
        values: dict[str, Any] = {"offset": experts.offset, "prior": experts.prior}
        for name, pooling in experts.poolings.items():
            values |= {f"center_{name}": pooling.center, f"scale_{name}": pooling.inverse_scale}
            values |= {f"matrix_{name}": experts.matrices[name], f"waves_{name}": experts.waves[name]}
            values[f"lead_{name}"] = experts.leads[name]
        for number, expert in enumerate(experts.members):
            values[f"weights_{number}"] = expert.weights
            values[f"joint_mean_{number}"] = expert.joint_mean
            result.slopes[number] = torch.as_tensor(expert.slopes)
            result.intercepts[number] = torch.as_tensor(expert.intercepts)
            result.shares[number] = expert.weight
        for name, value in values.items():
            getattr(result, name).copy_(torch.as_tensor(value))
        return result

    def prediction_weight(self, modality: str) -> float:
        """Share of the reference's prediction that a modality has a say in, in [0, 1]."""
        return sum(float(s) for s, names in zip(self.shares, self.coalitions, strict=True) if modality in names)

    @torch.no_grad()
    def forward(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Float[Tensor, "n k"]]:
        """Class probabilities with only the named modalities.

        One that is withheld or absent counts as average; an expert that lacks all of its own says the class prior.
        """
        components = {name: self._components(batch, name) for name in self.modalities}
        return [self._predict(components, batch.only(coalition).present) for coalition in coalitions]

    def _components(self, batch: Batch, name: str) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n q"]]:
        moments = _moments(batch.features[name], batch.lengths[name], self.modalities[name][2])
        scaled = (moments - getattr(self, f"center_{name}")) * getattr(self, f"scale_{name}")
        known = moments.isfinite() & batch.present[name].unsqueeze(1)
        pooled = torch.where(known, scaled.clamp(-CLIP, CLIP), 0.0)
        return pooled @ getattr(self, f"matrix_{name}"), pooled @ getattr(self, f"lead_{name}")

    def _predict(
        self,
        components: Mapping[str, tuple[Tensor, Tensor]],
        present: Mapping[str, Bool[Tensor, " n"]],
    ) -> Float[Tensor, "n k"]:
        said = []
        for number, names in enumerate(self.coalitions):
            here = {name: present[name].unsqueeze(1) for name in names}
            given, leading = zip(*([part * here[name] for part in components[name]] for name in names), strict=True)
            phases = [part @ getattr(self, f"waves_{name}") for part, name in zip(given, names, strict=True)]
            waves = torch.cos(torch.stack(phases).sum(0) + self.offset) * (2 / FOURIER) ** 0.5
            joint = torch.cat([waves, *products(leading)], dim=1)
            design = torch.cat([*given, joint - getattr(self, f"joint_mean_{number}")], dim=1)
            predicted = design @ getattr(self, f"weights_{number}")
            logits = predicted @ self.slopes[number] + self.intercepts[number]
            something = torch.cat(list(here.values()), dim=1).any(1, keepdim=True)
            said.append(self.shares[number] * torch.where(something, logits.softmax(1), self.prior))
        return torch.stack(said).sum(0)


def shapes_of(experts: Experts) -> dict[str, Any]:
    """Sizes of the buffers, as plain containers for a model's configuration."""
    order = list(experts.poolings)
    return {
        "modalities": {
            name: [*experts.matrices[name].shape, pooling.spreads, experts.leads[name].shape[1]]
            for name, pooling in experts.poolings.items()
        },
        "coalitions": [[name for name in order if name in expert.coalition] for expert in experts.members],
    }


def _moments(features: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"], spreads: bool) -> Float[Tensor, "n p"]:
    """Mean and, where asked for, deviation over the finite values of the valid steps; NaN where there are none."""
    valid: Bool[Tensor, "n t d"] = features.isfinite() & step_mask(lengths, features.shape[1]).unsqueeze(2)
    values = torch.where(valid, features, 0.0)
    count = valid.sum(1)
    mean = values.sum(1) / count
    if not spreads:
        return mean
    square = torch.where(valid, (values - mean.unsqueeze(1)) ** 2, 0.0).sum(1) / count
    return torch.cat([mean, square.sqrt()], dim=1)
