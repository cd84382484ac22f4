"""The fusion contract: modality vectors, weights and prototypes become one vector per utterance."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn


class Stacked(dict[str, Tensor]):
    """Tensors by name that are rows of one tensor [M, ...], so that they need not be stacked again."""

    def __init__(self, names: Sequence[str], tensor: Shaped[Tensor, "m ..."]) -> None:
        super().__init__(zip(names, tensor.unbind(), strict=True))
        self.tensor = tensor


class Mixes(Mapping[str, Tensor]):
    """One mix of prototypes per utterance, by modality: `shares` [M, N, K] of `prototypes` [M, K, D].

    The mix of a modality, [N, D], is computed on access. A linear map of the mixes costs less as the mix of the K
    mapped prototypes, see `factors`.
    """

    def __init__(
        self, names: Sequence[str], shares: Float[Tensor, "m n k"], prototypes: Float[Tensor, "m k d"]
    ) -> None:
        self.names, self.shares, self.prototypes = tuple(names), shares, prototypes

    def __getitem__(self, name: str) -> Float[Tensor, "n d"]:
        if name not in self.names:
            raise KeyError(name)
        index = self.names.index(name)
        return self.shares[index] @ self.prototypes[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def stacked(group: Mapping[str, Tensor], names: Sequence[str]) -> Shaped[Tensor, "m ..."]:
    """The tensors of `names`, stacked in that order."""
    if isinstance(group, Stacked) and tuple(group) == tuple(names):
        return group.tensor
    return torch.stack([group[name] for name in names])


def factors(
    prototypes: Mapping[str, Float[Tensor, "n d"]], names: Sequence[str], weight: Float[Tensor, "m d f"]
) -> tuple[Float[Tensor, "m n k"], Float[Tensor, "m k f"]]:
    """Two matrices per modality; their product is its `prototypes` times its `weight`."""
    if isinstance(prototypes, Mixes) and prototypes.names == tuple(names):
        return prototypes.shares, prototypes.prototypes @ weight
    return stacked(prototypes, names), weight


@dataclass
class Fused:
    """A fused representation and the gates that it was computed with.

    Attributes:
        vector: [N, width].
        gates: by modality, [N, D] or [N, 1]; empty where the fusion has none.
    """

    vector: Float[Tensor, "n f"]
    gates: dict[str, Tensor] = field(default_factory=dict)


class Fusion(nn.Module):
    """Modality vectors, weights and prototypes become one vector.

    A plug-in module offers `build(modalities, width, dropout) -> Fusion`; vectors in and out have size `width`.
    """

    @abstractmethod
    def forward(
        self,
        vectors: Mapping[str, Float[Tensor, "n d"]],
        weights: Mapping[str, Float[Tensor, ""]],
        prototypes: Mapping[str, Float[Tensor, "n d"]],
        present: Mapping[str, Bool[Tensor, " n"]],
    ) -> Fused:
        """Fuse the vectors of a batch.

        Args:
            vectors: h_m; where a modality is absent, its imputation (or zero where imputation is off).
            weights: alpha of eq. 11.
            prototypes: c of eq. 12, one per utterance.
            present: whether the utterance has the modality.
        """


def mixer(inputs: int, width: int, dropout: float) -> nn.Sequential:
    """The FFN of eq. 13."""
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Dropout(dropout))
