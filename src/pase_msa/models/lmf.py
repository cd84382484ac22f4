"""Low-rank Multimodal Fusion (Liu et al. 2018, "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors").

A linear layer over the tensor of a Tensor Fusion Network, whose weight is a sum of `rank` outer products of one factor
per modality. The tensor is then never computed: each modality is multiplied by its factors, the results are multiplied
entry by entry over modalities, and summed over the rank. Cost and size grow with the number of modalities, not with its
power.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.data.inputs import InputSpec
from pase_msa.models.base import head
from pase_msa.models.fused import FusedModel
from pase_msa.ranges import SIZE, check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors and of the fused one.
        rank: number of outer products that the weight is a sum of.
        dropout: of the fused vector and in the head.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "lmf"
    width: int = 128
    rank: int = 4
    dropout: float = 0.4
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, rank=SIZE)


def low_rank_product(
    vectors: Sequence[Float[Tensor, "n _"]], factors: Sequence[Float[Tensor, "r _ f"]]
) -> Float[Tensor, "n f"]:
    """sum_r prod_m [h_m, 1] W_m^(r), for vectors [N, D_m] and factors [R, D_m + 1, F]."""
    product = F.pad(vectors[0], (0, 1), value=1.0) @ factors[0]  # [R, N, F]
    for vector, factor in zip(vectors[1:], factors[1:], strict=True):
        product = product * (F.pad(vector, (0, 1), value=1.0) @ factor)
    return product.sum(0)


class LowRankFusion(FusedModel):
    """Encoders, low-rank product and the head.

    An absent modality is (0, ..., 0, 1): only the last row of its factors, its constant part, takes part. The factors
    belong to the fusion, as the columns of a layer over a concatenation do.
    """

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        # A product of k terms, each with a constant of about one, summed over the rank to unit variance. With the usual
        # small initial weights the product of several modalities would be nearly zero.
        scale = config.rank ** (-0.5 / len(task.modalities))
        self.factors = nn.ParameterDict()
        for name in task.modalities:
            factor = torch.randn(config.rank, config.width + 1, config.width)
            factor[:, :-1] /= config.width**0.5
            self.factors[name] = nn.Parameter(scale * factor)
        self.bias = nn.Parameter(torch.zeros(config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.head = head(config.width, task.num_classes, config.dropout)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The low-rank product, with bias and dropout."""
        names = self.task.modalities
        product = low_rank_product([parts[name] for name in names], [self.factors[name] for name in names])
        fused: Tensor = self.dropout(product + self.bias)
        return fused


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> LowRankFusion:
    """The plug-in's entry point."""
    return LowRankFusion(task, inputs, config)
