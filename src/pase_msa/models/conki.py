"""ConKI without external knowledge: two kinds of vector per modality, and the contrast between them.

After Yu, Zhao, Qi et al. (2023, "ConKI: Contrastive Knowledge Injection for Multimodal Sentiment Analysis", Findings of
ACL).

In the paper the second kind of vector comes from adapters that were trained beforehand on another, larger set with the
same labels, and then kept. That knowledge is not here: the adapters learn with the rest, on the data at hand. So this
is not the paper's system. It shows what the contrast of two kinds of vector does by itself. After the authors' code,
since the paper's text was not at hand.

The frames X_m of the encoder give a general vector, the mean of LN(X_m), and a specific one, the mean of LN(A(X_m)):

    A(X) = X + up(layers(down(X))),  with `down` and `up` so small at first that A is nearly the identity

For the unit vectors z of both kinds and all modalities of all utterances, with P(a) those of the same kind as z_a and
of an utterance of the same class, other modalities of the same utterance included,

    C = mean over a of  -mean over p in P(a) of  log( exp(z_a z_p / tau) / sum_{b != a} exp(z_a z_b / tau) )

draws kinds apart within a modality, modalities of an utterance together within a kind, and utterances together by
class. The joined vectors of a modality go through W_m, and those of all modalities through a gate and the head.

Ours: one adapter behind each encoder, not one behind several of a language model's layers. The class of a score is that
of the nearest class value, which is the paper's rounding where classes are whole numbers. A vector without P(a) is no
anchor; absent modalities have no vectors. No padded frame is read. LayerNorm stands in the gate in place of batch
normalisation, so that a prediction does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import Fused, FusedModel, check_frames, tapering_head
from pase_msa.objective import Losses, present_mean
from pase_msa.ranges import COUNT, NOT_NEGATIVE, POSITIVE, check_model
from pase_msa.task import Task

REDUCED = "without external knowledge"
_EPSILON = 1e-6
_SMALL = 2e-4  # deviation of the adapter's outer maps at the start, as published


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of both kinds of vector, and of what they are joined to.
        layers: transformer layers in an adapter.
        dropout: in the adapters and before the head.
        contrast: weight of C.
        temperature: tau.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "conki"
    width: int = 128
    layers: int = 2
    dropout: float = 0.1
    contrast: float = 0.01
    temperature: float = 0.07
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, layers=COUNT, contrast=NOT_NEGATIVE, temperature=POSITIVE)


class Adapter(nn.Module):
    """A(X): transformer layers between two maps, added to the frames.

    Args:
        width: of the frames.
        layers: between the maps.
        dropout: in the layers.
    """

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        heads = next(heads for heads in range(8, 0, -1) if not width % heads)
        self.down, self.up = nn.Linear(width, width), nn.Linear(width, width)
        for outer in (self.down, self.up):
            nn.init.normal_(outer.weight, std=_SMALL)
            nn.init.zeros_(outer.bias)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, width, dropout, "gelu", batch_first=True) for _ in range(layers)
        )

    def forward(self, frames: Float[Tensor, "n t d"], valid: Bool[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
        """The frames with what was added; those in the padding are undefined."""
        # a softmax over nothing is not defined, so a row without a frame attends to all
        padding = ~(valid | ~valid.any(1, keepdim=True))
        states = self.down(frames)
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=padding)
        adapted: Tensor = frames + self.up(states)
        return adapted


def knowledge_contrast(
    vectors: Float[Tensor, "v n d"],
    kinds: Int[Tensor, " v"],
    classes: Int[Tensor, " n"],
    here: Bool[Tensor, "v n"],
    temperature: float,
) -> Float[Tensor, ""]:
    """C over V vectors of each of N utterances; 0 where no vector has another one of its kind and class.

    Args:
        vectors: of any length.
        kinds: number of the kind of each of the V.
        classes: of the utterances.
        here: which vectors there are.
        temperature: tau.
    """
    count, utterances = here.shape
    unit = F.normalize(vectors.flatten(0, 1), dim=1, eps=_EPSILON)
    kind, label, there = kinds.repeat_interleave(utterances), classes.repeat(count), here.flatten()
    other = there.unsqueeze(0) & ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    alike = (kind.unsqueeze(1) == kind) & (label.unsqueeze(1) == label)
    positive = other & there.unsqueeze(1) & alike
    logits = (unit @ unit.T / temperature).masked_fill(~other, torch.finfo(unit.dtype).min)
    shares = logits - logits.logsumexp(1, keepdim=True)
    values = -torch.where(positive, shares, 0.0).sum(1) / positive.sum(1).clamp(min=1)
    return present_mean(values, positive.any(1))


class ConKI(FusedModel):
    """Encoders, adapters, the joined vectors, a gate, and the head."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        check_frames("conki", self.encoders, inputs)
        names, width = task.modalities, config.width
        self.adapters = nn.ModuleDict({name: Adapter(width, config.layers, config.dropout) for name in names})
        self.norms = nn.ModuleDict({name: nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)]) for name in names})
        # without a bias, so that an absent modality stays zero
        self.joins = nn.ModuleDict({name: nn.Linear(2 * width, width, bias=False) for name in names})
        wide = width * len(names)
        narrow = max(wide // 8, 4)
        self.gate = nn.Sequential(
            nn.Linear(wide, narrow), nn.LayerNorm(narrow), nn.ReLU(), nn.Linear(narrow, wide), nn.Sigmoid()
        )
        self.head = tapering_head(wide, (width, width // 2, width // 4, width // 8), task.num_classes, config.dropout)

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """The general and the specific vector of each modality, [N, 2, D], and presence."""
        frames, valid, present = self.encode_frames(batch)
        parts = {}
        for name, general in frames.items():
            mask = valid[name].unsqueeze(2)
            both = (general, self.adapters[name](general, valid[name]))
            norms = self.norms[name]
            assert isinstance(norms, nn.ModuleList)
            means = [
                (norm(part) * mask).sum(1) / mask.sum(1).clamp(min=1) for norm, part in zip(norms, both, strict=True)
            ]
            parts[name] = torch.stack(means, dim=1)
        return parts, present

    def modality_vectors(
        self, parts: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "n d"]]:
        """What both vectors of a modality are joined to."""
        return {name: tensors[f"vector/{name}"] for name in parts}

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The gated vectors side by side; "vector/NAME" [N, D] and "kinds/NAME" [N, 2, D]."""
        vectors = {name: self.joins[name](parts[name].flatten(1)) for name in self.task.modalities}
        joined = torch.cat(list(vectors.values()), dim=1)
        tensors = {f"vector/{name}": vector for name, vector in vectors.items()}
        return joined * self.gate(joined), tensors | {f"kinds/{name}": part for name, part in parts.items()}

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task and "contrast"."""
        assert batch.labels is not None
        losses, tensors, names = super().losses(outputs, batch), self.tensors(outputs), self.task.modalities
        vectors = torch.cat([tensors[f"kinds/{name}"].transpose(0, 1) for name in names])
        here = torch.stack([outputs.present[name] for name in names]).repeat_interleave(2, dim=0)
        kinds = torch.arange(len(vectors), device=vectors.device) % 2
        classes = self.task.membership(batch.labels).argmax(1)
        losses["contrast"] = self.config.contrast * knowledge_contrast(
            vectors, kinds, classes, here, self.config.temperature
        )
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, adapter, norms and join."""
        modules = (self.encoders, self.adapters, self.norms, self.joins)
        return [parameter for module in modules for parameter in module[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> ConKI:
    """The plug-in's entry point."""
    return ConKI(task, inputs, config)
