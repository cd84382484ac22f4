"""MISA (Hazarika, Zimmermann, Poria 2020, "MISA: Modality-Invariant and -Specific Representations", ACM MM).

The vector of each modality is mapped to a shared part, by one map for all modalities, and to a private part, by a map
of its own. Losses draw the distributions of the shared parts together (central moment discrepancy, CMD), make all parts
different from one another (soft orthogonality), and ask both parts to rebuild the vector. One attention layer fuses all
2k parts.

Ours, where the paper's code goes another way:

- The encoders are the library's, the prediction is over K classes, and L_task is that of every model here.
- An absent modality has no tokens in the attention, and no part in any loss. CMD compares distributions, so each side
  uses the rows that have its modality, and a pair with fewer than two rows on a side is left out.
- The orthogonality loss grows with the number of rows N (independent parts have about N / D^2 on average). It is
  multiplied by 64 / N, 64 being the batch size that the paper's weights were chosen at.
- The discriminator of the published code, whose outputs enter no loss, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.objective import Losses
from pase_msa.ranges import NOT_NEGATIVE, check_model
from pase_msa.task import Task

_EPSILON = 1e-6
_BATCH = 64  # of the paper, at which its weight of the orthogonality loss holds


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size D of vectors and parts; even, for two attention heads.
        dropout: before the output.
        similarity: weight of CMD between shared parts.
        difference: weight of the orthogonality of parts.
        reconstruction: weight of rebuilding the vectors.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "misa"
    width: int = 128
    dropout: float = 0.5
    similarity: float = 1.0
    difference: float = 0.3
    reconstruction: float = 1.0
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, similarity=NOT_NEGATIVE, difference=NOT_NEGATIVE, reconstruction=NOT_NEGATIVE)
        if self.width < 2 or self.width % 2:
            raise PaSEError(f"model.width of misa is even, for its two attention heads, found {self.width}.")


def central_moment_discrepancy(x: Float[Tensor, "a d"], y: Float[Tensor, "b d"], moments: int = 5) -> Float[Tensor, ""]:
    """Distance of the means plus the distances of the central moments 2 to `moments` (Zellinger et al. 2017).

    Of samples in [0, 1]^D, whose range needs no scaling. The rows of both need not be of the same utterances.
    """

    def norm(difference: Tensor) -> Tensor:
        return (difference.square().sum() + _EPSILON**2).sqrt()  # the root has no slope at zero

    centred = x - x.mean(0), y - y.mean(0)
    total = norm(x.mean(0) - y.mean(0))
    for order in range(2, moments + 1):
        total = total + norm(centred[0].pow(order).mean(0) - centred[1].pow(order).mean(0))
    return total


def orthogonality(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean squared entry of A^T B [D, D], the columns of both centred over the rows and each row of unit length."""

    def unit_rows(part: Tensor) -> Tensor:
        centred = part - part.mean(0)
        length: Tensor = centred.norm(dim=1, keepdim=True)
        return centred / (length.detach() + _EPSILON)

    return (unit_rows(a).T @ unit_rows(b)).square().mean()


class MISA(FusedModel):
    """Encoders, private and shared parts, attention over the parts, and the head."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        width, names = config.width, task.modalities
        self.projections = nn.ModuleDict(
            {n: nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width)) for n in names}
        )
        self.shared = nn.Linear(width, width)
        self.private = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.rebuild = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.attention = nn.TransformerEncoderLayer(width, 2, batch_first=True)
        self.mix = nn.Linear(2 * len(names) * width, len(names) * width)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout), nn.ReLU(), nn.Linear(len(names) * width, task.num_classes)
        )

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """The projected vectors z_m."""
        vectors, present = super().encode_parts(batch)
        return {n: self.projections[n](v) * present[n].unsqueeze(1) for n, v in vectors.items()}, present

    def split(self, vectors: Mapping[str, Float[Tensor, "n d"]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The private and the shared part of each modality, in (0, 1)."""
        private = {name: self.private[name](vector).sigmoid() for name, vector in vectors.items()}
        return private, {name: self.shared(vector).sigmoid() for name, vector in vectors.items()}

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """Attention over the 2k parts, and a layer over their concatenation."""
        names = self.task.modalities
        private, shared = self.split(parts)
        tokens = torch.stack([*private.values(), *shared.values()], dim=1)
        here = torch.stack([present[name] for name in names] * 2, dim=1)
        # a row without any modality attends to all tokens, since a softmax over nothing is not defined
        attended = self.attention(tokens, src_key_padding_mask=~(here | ~here.any(1, keepdim=True)))
        fused: Tensor = self.mix((attended * here.unsqueeze(2)).flatten(1))
        both = {"private": private, "shared": shared}
        return fused, {f"{kind}/{name}": part for kind, named in both.items() for name, part in named.items()}

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, "similarity", "difference" and "reconstruction"."""
        losses = super().losses(outputs, batch)
        vectors, present = outputs.vectors, outputs.present
        tensors = self.tensors(outputs)
        private, shared = ({name: tensors[f"{kind}/{name}"] for name in present} for kind in ("private", "shared"))
        similar, different, rebuilt = [], [], []
        for name, here in present.items():
            if not bool(here.any()):
                continue
            vector = vectors[name][here]
            back = self.rebuild[name](private[name][here] + shared[name][here])
            rebuilt.append((vector - back).square().mean())
            different.append(orthogonality(private[name][here], shared[name][here]) * _BATCH / len(vector))
        for one, other in combinations(present, 2):
            both = present[one] & present[other]
            if int(both.sum()) > 1:
                weight = _BATCH / int(both.sum())
                different.append(orthogonality(private[one][both], private[other][both]) * weight)
            rows = shared[one][present[one]], shared[other][present[other]]
            if min(map(len, rows)) > 1:
                similar.append(central_moment_discrepancy(*rows))
        config = self.config
        if rebuilt:
            losses["reconstruction"] = config.reconstruction * torch.stack(rebuilt).mean()
            losses["difference"] = config.difference * torch.stack(different).sum()
        if similar:
            losses["similarity"] = config.similarity * torch.stack(similar).mean()
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, projection, private map and reconstruction."""
        modules = (self.encoders, self.projections, self.private, self.rebuild)
        return [parameter for module in modules for parameter in module[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MISA:
    """The plug-in's entry point."""
    return MISA(task, inputs, config)
