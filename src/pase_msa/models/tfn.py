"""Tensor Fusion Network (Zadeh et al. 2017, "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP).

Each modality vector gets a constant 1 at its end; the outer product of all of them then holds every product of entries
of one, two, ... and all modalities. One layer maps that tensor to the input of the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.fusion.base import mixer
from pase_msa.models.base import head
from pase_msa.models.fused import FusedModel
from pase_msa.ranges import SIZE, check_model
from pase_msa.task import Task

_MOST_ENTRIES = 2**18


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size D of the modality vectors; k modalities make a tensor of (D + 1)^k entries.
        hidden: size of the fused vector.
        dropout: in fusion and head.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "tfn"
    width: int = 32
    hidden: int = 128
    dropout: float = 0.4
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, hidden=SIZE)


def tensor_size(width: int, modalities: int) -> int:
    """Entries of the tensor.

    Errors:
        PaSEError: more than 2^18 of them.
    """
    entries: int = (width + 1) ** modalities
    if entries > _MOST_ENTRIES:
        fits = next((w for w in range(width, 0, -1) if (w + 1) ** modalities <= _MOST_ENTRIES), 0)
        advice = f"take model.width of at most {fits}" if fits else "use fewer modalities"
        raise PaSEError(
            f"The model tfn multiplies {modalities} modality vectors of size {width} to {entries} entries, more "
            f"than {_MOST_ENTRIES}; {advice}, or --model.name lmf, which does not compute the tensor."
        )
    return entries


def outer_product(vectors: Sequence[Float[Tensor, "n _"]]) -> Float[Tensor, "n _"]:
    """The outer product of vectors [N, D_m] with a 1 appended to each, flattened to [N, prod (D_m + 1)]."""
    product = F.pad(vectors[0], (0, 1), value=1.0)
    for vector in vectors[1:]:
        product = (product.unsqueeze(2) * F.pad(vector, (0, 1), value=1.0).unsqueeze(1)).flatten(1)
    return product


class TensorFusionNetwork(FusedModel):
    """Encoders, outer product, a layer and the head.

    An absent modality is (0, ..., 0, 1): products without it stay as they are, the others are zero.
    """

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        entries = tensor_size(config.width, len(task.modalities))
        super().__init__(task, inputs, config.width)
        self.config = config
        self.mix = mixer(entries, config.hidden, config.dropout)
        self.head = head(config.hidden, task.num_classes, config.dropout)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The layer over the outer product."""
        fused: Tensor = self.mix(outer_product([parts[name] for name in self.task.modalities]))
        return fused


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> TensorFusionNetwork:
    """The plug-in's entry point."""
    return TensorFusionNetwork(task, inputs, config)
