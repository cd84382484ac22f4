"""Prototype-guided calibration (PCL), equations 1 to 3 of He et al., "PaSE"."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.errors import PaSEError


def class_centroids(
    features: Float[Tensor, "*m n d"], membership: Float[Tensor, "*#m n k"], present: Bool[Tensor, "*m n"] | None = None
) -> tuple[Float[Tensor, "*m k d"], Float[Tensor, "*m k"]]:
    """Membership-weighted class means of a batch, eq. 1, and the weight of each class.

    Rows where `present` is False do not count, nor do rows of zeros in `membership`. A class without weight has a zero
    centroid and weight 0.
    Under an initialised process group the sums run over all processes.
    """
    weights = membership.expand(*features.shape[:-2], *membership.shape[-2:])
    if present is not None:
        weights = weights * present.unsqueeze(-1)
    sums, counts = weights.transpose(-1, -2) @ features, weights.sum(-2)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        joint = torch.cat([sums, counts.unsqueeze(-1)], dim=-1)
        total = joint.detach().clone()
        torch.distributed.all_reduce(total)
        # a process differentiates its own rows, the others' sums are constants to it; the strategy averages gradients
        # over processes, so that times their number it is the gradient of the joint batch
        own = joint * torch.distributed.get_world_size()
        joint = total + (own - own.detach())
        sums, counts = joint[..., :-1], total[..., -1]
    return sums / counts.clamp(min=1e-12).unsqueeze(-1), counts


class PrototypeBank(nn.Module):
    """One prototype a class, a moving average of class centroids, eq. 2.

    Args:
        num_classes: K.
        dim: size D of the features.
        momentum: gamma of eq. 2.

    Attributes:
        prototypes: [K, D] buffer; zero for a class that has never appeared.
        initialised: [K] bool buffer; a class's first centroid is its first prototype, whatever the momentum.
    """

    prototypes: Tensor
    initialised: Tensor

    def __init__(self, num_classes: int, dim: int, momentum: float = 0.98) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise PaSEError(f"A prototype's momentum lies in [0, 1), found {momentum}.")
        if num_classes < 1 or dim < 1:
            raise PaSEError(f"A prototype bank needs classes and a size, found {num_classes} and {dim}.")
        self.momentum = momentum
        self.register_buffer("prototypes", torch.zeros(num_classes, dim))
        self.register_buffer("initialised", torch.zeros(num_classes, dtype=torch.bool))

    @torch.no_grad()
    def update(
        self, features: Float[Tensor, "n d"], membership: Tensor, present: Bool[Tensor, " n"] | None = None
    ) -> None:
        """Move the prototypes of the classes that the batch holds, eq. 2; the others keep theirs.

        Args:
            features: [N, D].
            membership: class numbers [N], or (soft) memberships [N, K].
            present: rows that count, [N]; all of them if left out.
        """
        self.blend(*class_centroids(features.detach().float(), self._soft(features, membership), present))

    @torch.no_grad()
    def blend(self, centroids: Float[Tensor, "k d"], counts: Float[Tensor, " k"]) -> None:
        """Eq. 2 from centroids that were computed already."""
        seen = counts > 0
        share = (seen * torch.where(self.initialised, 1 - self.momentum, 1.0)).unsqueeze(1)
        # new tensors, not in place: the old prototypes may be part of a graph that is still to be differentiated
        self.prototypes = torch.lerp(self.prototypes, centroids.to(self.prototypes.dtype), share)
        self.initialised = self.initialised | seen

    def _soft(self, features: Tensor, membership: Tensor) -> Float[Tensor, "n k"]:
        num_classes = len(self.prototypes)
        if len(membership) != len(features):
            raise PaSEError(f"{len(features)} features came with {len(membership)} memberships; give one a feature.")
        if membership.ndim == 1:
            return F.one_hot(membership.long(), num_classes).to(torch.float32)
        if membership.shape[1] != num_classes:
            raise PaSEError(f"Memberships must be [N] or [N, {num_classes}], found {tuple(membership.shape)}.")
        return membership.float()


def cosine(features: Float[Tensor, "*m n d"], prototypes: Float[Tensor, "*m k d"]) -> Float[Tensor, "*m n k"]:
    """phi of eq. 3."""
    return _scaled_cosine(features, prototypes, 1.0)


def _scaled_cosine(
    features: Float[Tensor, "*m n d"], prototypes: Float[Tensor, "*m k d"], scale: float
) -> Float[Tensor, "*m n k"]:
    # features are divided by their norms after the product, where there are K numbers a row and not D
    norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True).clamp(min=1e-8)
    directions = F.normalize(prototypes, dim=-1, eps=1e-8) * scale
    similarity: Tensor = features @ directions.transpose(-1, -2) / norms
    return similarity


def log_posterior(
    features: Float[Tensor, "*m n d"],
    prototypes: Float[Tensor, "*m k d"],
    temperature: float,
    initialised: Bool[Tensor, "*m k"] | None = None,
) -> Float[Tensor, "*m n k"]:
    """Logarithm of the prototype posterior, the softmax of eq. 3.

    Classes that are not `initialised` have a posterior of 0; where none is, it is uniform.
    """
    if temperature <= 0:
        raise PaSEError(f"The calibration temperature must be above 0, found {temperature}.")
    similarity = _scaled_cosine(features, prototypes, 1 / temperature)
    if initialised is not None:
        floor = torch.finfo(similarity.dtype).min / 2
        similarity = torch.where(initialised.unsqueeze(-2), similarity, floor)
    return similarity.log_softmax(-1)


def calibration_loss(
    features: Float[Tensor, "n d"],
    prototypes: Float[Tensor, "k d"],
    target: Tensor,
    temperature: float,
    *,
    present: Bool[Tensor, " n"] | None = None,
    initialised: Bool[Tensor, " k"] | None = None,
) -> Float[Tensor, ""]:
    """Intra-modal prototype calibration, eq. 3: cross-entropy of the posterior. The gradient reaches `features`.

    Args:
        features: [N, D].
        prototypes: [K, D].
        target: class numbers [N], or (soft) memberships [N, K].
        temperature: tau > 0.
        present: rows that count; the mean runs over these (0 where there are none).
        initialised: classes that have a prototype; the others are left out of posterior and target.
    """
    if len(target) != len(features) or target.ndim > 2:
        raise PaSEError(f"{len(features)} features came with targets {tuple(target.shape)}; give [N] or [N, K].")
    logs = log_posterior(features, prototypes, temperature, initialised)
    soft = F.one_hot(target.long(), len(prototypes)) if target.ndim == 1 else target
    return membership_loss(logs, soft.to(logs.dtype), present, initialised)


def membership_loss(
    logs: Float[Tensor, "*m n k"],
    membership: Float[Tensor, "*m n k"],
    present: Bool[Tensor, "*m n"] | None = None,
    initialised: Bool[Tensor, "*m k"] | None = None,
) -> Float[Tensor, "*m"]:
    """Cross-entropy of log-posteriors against memberships, the mean over present rows."""
    if initialised is not None:
        membership = membership * initialised.unsqueeze(-2)
    if present is None:
        return (membership * logs).sum((-2, -1)) / -logs.shape[-2]
    shares = present / -present.sum(-1, keepdim=True).clamp(min=1)
    return (membership * shares.unsqueeze(-1) * logs).sum((-2, -1))
