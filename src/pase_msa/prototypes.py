"""Prototype-guided calibration (PCL), equations 1 to 3 of He et al., "PaSE".

Every function takes one modality, [N, D], or several of them stacked, [M, N, D]. `PaSE` runs this code in every mode.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.distributed import is_distributed, sum_over_processes
from pase_msa.errors import PaSEError

_TRACE = 1e-12  # the weight of the class prior in an utterance's joint posterior

PrototypeGradient = Literal["straight_through", "ema"]


def class_centroids(
    features: Float[Tensor, "*m n d"],
    membership: Float[Tensor, "*#m n k"],
    present: Shaped[Tensor, "*m n"] | None = None,
) -> tuple[Float[Tensor, "*m k d"], Float[Tensor, "*m k"]]:
    """Membership-weighted class means of a batch, eq. 1, and the weight of each class.

    Rows where `present` is False (or 0) do not count, nor do rows of zeros in `membership`. A class without weight has
    a zero centroid and weight 0. Under an initialised process group the sums run over all processes.
    """
    weights = membership.expand(*features.shape[:-2], *membership.shape[-2:])
    if present is not None:
        weights = weights * present.unsqueeze(-1)
    sums, counts = weights.transpose(-1, -2) @ features, weights.sum(-2)
    if is_distributed():
        joint = torch.cat([sums, counts.unsqueeze(-1)], dim=-1)
        total = sum_over_processes(joint.detach())
        # Each process differentiates its own rows only; the sums of the others are constants. The strategy averages
        # gradients over processes, so that times their number this is the gradient of the joint batch.
        own = joint * torch.distributed.get_world_size()
        joint = total + (own - own.detach())
        sums, counts = joint[..., :-1], total[..., -1]
    return sums / counts.clamp(min=1e-12).unsqueeze(-1), counts


class Blend(NamedTuple):
    """The prototypes after a batch, eq. 2, before a bank has taken them over.

    Attributes:
        prototypes: [K, D] or [M, K, D], with a gradient to the features.
        initialised: [K] or [M, K]; whether a class has a prototype.
        counts: [K] or [M, K]; weight of each class in the batch, of all processes.
    """

    prototypes: Tensor
    initialised: Tensor
    counts: Tensor

    def rows(self) -> Tensor | None:
        """Rows that count, a scalar or [M]: their mean over the processes; None where there is one process.

        A loss that is a mean over these rows is then the joint batch's, however many of them each process has.
        """
        if not is_distributed():
            return None
        return self.counts.sum(-1) / torch.distributed.get_world_size()


class PrototypeBank(nn.Module):
    """One prototype per class and modality, a moving average of class centroids, eq. 2.

    Args:
        num_classes: K.
        dim: size D of the features.
        momentum: gamma of eq. 2.
        modalities: M where the bank holds the prototypes of several modalities, stacked; None for one modality.

    Attributes:
        prototypes: buffer [K, D], or [M, K, D] with `modalities`; zero for a class that has never appeared.
        initialised: bool buffer [K] or [M, K]. A class's first centroid is its first prototype, whatever the momentum.

    Errors:
        PaSEError: a momentum outside [0, 1), or a size below 1.
    """

    prototypes: Tensor
    initialised: Tensor

    def __init__(self, num_classes: int, dim: int, momentum: float = 0.98, modalities: int | None = None) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise PaSEError(f"A prototype's momentum lies in [0, 1), found {momentum}.")
        if num_classes < 1 or dim < 1:
            raise PaSEError(f"A prototype bank needs classes and a size, found {num_classes} and {dim}.")
        if modalities is not None and modalities < 1:
            raise PaSEError(f"A stacked prototype bank needs one modality or more, found {modalities}.")
        self.momentum = momentum
        stack = () if modalities is None else (modalities,)
        self.register_buffer("prototypes", torch.zeros(*stack, num_classes, dim))
        self.register_buffer("initialised", torch.zeros(*stack, num_classes, dtype=torch.bool))
        self._started = self._complete = False

    @property
    def started(self) -> bool:
        """Whether any class has a prototype. Once true, the device is not asked again."""
        self._started = self._started or bool(self.initialised.any())
        return self._started

    @property
    def mask(self) -> Tensor | None:
        """`initialised`; None once every class is known to have a prototype, so that nothing has to be masked."""
        return None if self._complete else self.initialised

    def blend(
        self,
        features: Float[Tensor, "*m n d"],
        membership: Tensor,
        present: Shaped[Tensor, "*m n"] | None = None,
        *,
        gradient: PrototypeGradient = "straight_through",
    ) -> Blend:
        """The prototypes as they are after this batch, eq. 1 and 2, differentiable; the bank keeps its own.

        Prototypes of classes that the batch does not hold stay as they are and have no gradient.

        Args:
            features: [N, D], or [M, N, D] for a bank of several modalities.
            membership: class numbers [N], or (soft) memberships [N, K] or [M, N, K].
            present: rows that count, [N] or [M, N]; all of them if left out.
            gradient: "straight_through" gives the features the gradient of the batch's centroids, eq. 1. "ema" gives
                the gradient of eq. 2 as printed, which is 1 - momentum times that.

        Errors:
            PaSEError: memberships that do not fit the features or the classes.
        """
        soft = _memberships(membership, features, self.prototypes.shape[-2])
        centroids, counts = class_centroids(features.float(), soft, present)
        seen, mask = counts > 0, self.mask
        rate: Tensor | float = 1 - self.momentum if mask is None else torch.where(mask, 1 - self.momentum, 1.0)
        prototypes = torch.lerp(self.prototypes, centroids.to(self.prototypes.dtype), (seen * rate).unsqueeze(-1))
        if gradient == "straight_through" and prototypes.requires_grad:
            # the value is eq. 2's; the second term is zero and brings the gradient of the centroids
            prototypes = prototypes.detach() + (centroids - centroids.detach()) * seen.unsqueeze(-1)
        return Blend(prototypes, self.initialised if mask is None else mask | seen, counts)

    @torch.no_grad()
    def take(self, blend: Blend) -> None:
        """Keep the prototypes that `blend` computed.

        The buffers are replaced and not written to: a graph that is still to be differentiated may hold the old ones.
        """
        self.prototypes, self.initialised = blend.prototypes.detach(), blend.initialised
        self._complete = self._complete or bool(self.initialised.all())

    def update(
        self,
        features: Float[Tensor, "*m n d"],
        membership: Tensor,
        present: Shaped[Tensor, "*m n"] | None = None,
    ) -> None:
        """Move the prototypes of the classes that the batch holds, eq. 2; the others keep theirs.

        Args:
            features: [N, D], or [M, N, D] for a bank of several modalities.
            membership: class numbers [N], or (soft) memberships [N, K] or [M, N, K].
            present: rows that count, [N] or [M, N]; all of them if left out.

        Errors:
            PaSEError: memberships that do not fit the features or the classes.
        """
        self.take(self.blend(features.detach(), membership, present))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # A method and no hook: a hook would be bound to this very object, which then neither copies nor pickles.
        super()._load_from_state_dict(*args, **kwargs)
        self._started = self._complete = False


def _memberships(membership: Tensor, features: Tensor, num_classes: int) -> Float[Tensor, "*m n k"]:
    """Class numbers [N] as memberships [N, K]; (soft) memberships as they are."""
    rows = membership.shape[-2] if membership.ndim > 1 else len(membership)
    if rows != features.shape[-2]:
        raise PaSEError(f"{features.shape[-2]} features came with {rows} memberships; give one per feature.")
    if membership.ndim == 1:
        return F.one_hot(membership.long(), num_classes).to(torch.float32)
    if membership.shape[-1] != num_classes:
        raise PaSEError(f"Memberships must be [N] or [N, {num_classes}], found {tuple(membership.shape)}.")
    return membership.float()


def cosine(features: Float[Tensor, "*m n d"], prototypes: Float[Tensor, "*m k d"]) -> Float[Tensor, "*m n k"]:
    """phi of eq. 3."""
    return _scaled_cosine(features, prototypes, 1.0)


def _scaled_cosine(
    features: Float[Tensor, "*m n d"], prototypes: Float[Tensor, "*m k d"], scale: float
) -> Float[Tensor, "*m n k"]:
    # features are divided by their norms after the product, where a row has K numbers and not D
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
    """Logarithm of the prototype posterior: the softmax of eq. 3.

    Classes that are not `initialised` have a posterior of 0; where none is, it is uniform.

    Errors:
        PaSEError: a temperature that is not above 0.
    """
    if temperature <= 0:
        raise PaSEError(f"The calibration temperature must be above 0, found {temperature}.")
    similarity = _scaled_cosine(features, prototypes, 1 / temperature)
    if initialised is not None:
        floor = torch.finfo(similarity.dtype).min / 2
        similarity = torch.where(initialised.unsqueeze(-2), similarity, floor)
    return similarity.log_softmax(-1)


def calibration_loss(
    features: Float[Tensor, "*m n d"],
    prototypes: Float[Tensor, "*m k d"],
    target: Tensor,
    temperature: float,
    *,
    present: Shaped[Tensor, "*m n"] | None = None,
    initialised: Bool[Tensor, "*m k"] | None = None,
    log_posteriors: Float[Tensor, "*m n k"] | None = None,
    rows: Tensor | None = None,
) -> Float[Tensor, "*m"]:
    """Intra-modal prototype calibration, eq. 3: cross-entropy of the prototype posterior, one value per modality.

    The gradient reaches `features`, and `prototypes` where these have one.

    Args:
        features: [N, D] of one modality, or [M, N, D] of several.
        prototypes: [K, D], or [M, K, D].
        target: class numbers [N], or (soft) memberships [N, K] or [M, N, K].
        temperature: tau > 0.
        present: rows that count, [N] or [M, N]; the mean runs over these (0 where there are none).
        initialised: classes that have a prototype, [K] or [M, K]; the others are left out of posterior and target.
        log_posteriors: what `log_posterior` returned for these features, prototypes and temperature, if it was
            computed already; it is then not computed again.
        rows: what the sum over rows is divided by, see `Blend.rows`; the number of rows that count if left out.

    Returns:
        A scalar for one modality, [M] for several.

    Errors:
        PaSEError: targets that do not fit, or a temperature that is not above 0.
    """
    membership = _memberships(target, features, prototypes.shape[-2])
    if log_posteriors is None:
        log_posteriors = log_posterior(features, prototypes, temperature, initialised)
    divisor: int | Tensor = max(1, features.shape[-2])
    if present is not None:
        membership = membership * present.unsqueeze(-1)
        divisor = present.sum(-1).clamp(min=1)
    if rows is not None:
        divisor = rows.clamp(min=1e-12)
    if initialised is not None:
        # a posterior of 0 has a logarithm of about -1e38, which must not enter the sum
        membership = membership * initialised.unsqueeze(-2)
    loss: Tensor = (membership * log_posteriors).sum((-2, -1)) / -divisor
    return loss


def joint_posterior(
    posteriors: Float[Tensor, "m n k"],
    present: Float[Tensor, "m n"],
    weights: Float[Tensor, " m"],
    prior: Float[Tensor, " k"],
) -> Float[Tensor, "n k"]:
    """The weighted mean of the posteriors of the modalities that an utterance has; the prior where it has none.

    An absent modality is imputed as the mix of its prototypes under this posterior.

    Args:
        posteriors: [M, N, K].
        present: [M, N], 1.0 where the utterance has the modality.
        weights: of the modalities, eq. 11, [M].
        prior: class probabilities, [K].
    """
    shares = weights.view(-1, 1, 1) * present.unsqueeze(2)
    # No weight is nearly as small as the prior's, so that the prior decides only where it is alone. A bound and no sum:
    # the simplification of exported graphs would drop the addition of a number as small as this.
    total, joint = shares.sum(0).clamp(min=_TRACE), (shares * posteriors).sum(0)
    return torch.add(joint, prior, alpha=_TRACE) / total
