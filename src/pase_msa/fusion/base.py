"""The fusion contract."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass
class Fused:
    """A fused representation and the gates that made it.

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
        """Fuse.

        Args:
            vectors: h_m; where a modality is absent, its imputation (or zero where imputation is off).
            weights: alpha of eq. 11.
            prototypes: c of eq. 12, one an utterance.
            present: whether the utterance has the modality.
        """


def mixer(inputs: int, width: int, dropout: float) -> nn.Sequential:
    """The FFN of eq. 13."""
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Dropout(dropout))
