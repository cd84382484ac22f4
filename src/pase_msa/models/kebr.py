"""KEBR without its knowledge half: text-centred fusion under a similarity constraint.

After Zhu, Hu, Wang, Yang, Tang, Ren (2024, "KEBR: Knowledge Enhanced Self-Supervised Balanced Representation for
Multimodal Sentiment Analysis", ACM MM).

The paper first trains on unlabelled videos: it masks the word of a transcript that a sentiment lexicon rates highest,
and predicts the rating. These videos and that stage are not here, so this is not the paper's system but its fusion and
its constraint, after the authors' code, since the paper's text was not at hand.

The frames H of an anchor (text) take in those of every other modality X_m, by one layer that is applied four times:

    H' = H + sum_m CMA_m(H, X_m),   CMA_m(H, X) = P softmax(Q LN(H) (K LN(X))^T / sqrt(inner)) V LN(X)
    H  = H' + dropout(F LN(H'))

and their mean goes to the head. With s_m = cos(mean of H, mean of LN(X_m)), s the mean of the s_m, and e the largest of
them less the smallest, the loss

    |cos(pi (s + 1/2 - target) exp(e / 2))|  if every s_m >= 0,  else  1 + sum_m |s_m|

holds the similarities at `target`, so that no modality is ignored and none takes over. It moves H alone.

Ours: the frames X_m are those of the library's encoders. s_m compares means; the published code compares H and the raw
X_m, both flattened and cut to one length, so coordinates that have nothing to do with each other. Padding is neither
attended to nor averaged. The loss was written for two modalities beside the anchor; e and the sums are the same for
two. An absent one adds nothing and has no s_m; in place of an absent anchor there is one learned frame, and no loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import Fused, FusedModel, anchor_of, check_frames
from pase_msa.objective import Losses, present_mean
from pase_msa.ranges import COUNT, NOT_NEGATIVE, SIZE, Range, check_model
from pase_msa.task import Task

REDUCED = "without its knowledge half"


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the frames and of their mean.
        anchor: the modality whose frames take in the others; None is text, or else the first.
        inner: size of queries, keys and values.
        passes: how often the layer is applied.
        hidden: size of the head's layer.
        dropout: in the layer and in the head.
        balance: weight of the similarity constraint.
        target: similarity of the anchor's frames with each other modality.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "kebr"
    width: int = 128
    anchor: str | None = None
    inner: int = 64
    passes: int = 4
    hidden: int = 128
    dropout: float = 0.5
    balance: float = 1.0
    target: float = 0.1
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, inner=SIZE, passes=COUNT, hidden=SIZE, balance=NOT_NEGATIVE, target=Range(0, 0.5, below=True))


class CrossAttention(nn.Module):
    """CMA of one modality: what the states of the anchor take from its frames, one head.

    Args:
        width: of states and frames.
        inner: of queries, keys and values.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm, self.norm_side = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.output = nn.Linear(inner, width)

    def forward(
        self, states: Float[Tensor, "n t d"], frames: Float[Tensor, "n s d"], valid: Bool[Tensor, "n s"]
    ) -> Float[Tensor, "n t d"]:
        """What is added to the states; zero in a row without a valid frame."""
        side = self.norm_side(frames)
        scores = self.query(self.norm(states)) @ self.key(side).transpose(1, 2) / math.sqrt(self.query.out_features)
        shares = scores.masked_fill(~valid.unsqueeze(1), torch.finfo(scores.dtype).min).softmax(2)
        given: Tensor = self.output(shares @ self.value(side))
        return given * valid.any(1).view(-1, 1, 1)


def similarity_constraint(
    similarity: Float[Tensor, "n m"], here: Bool[Tensor, "n m"], target: float
) -> Float[Tensor, " n"]:
    """The loss of the module's second formula, by utterance; zero without any similarity.

    Args:
        similarity: s_m, cosines.
        here: which of them count.
        target: what they are drawn to.
    """
    mean = (similarity * here).sum(1) / here.sum(1).clamp(min=1)
    spread = similarity.masked_fill(~here, -1.0).amax(1) - similarity.masked_fill(~here, 1.0).amin(1)
    near = (math.pi * (mean + 0.5 - target) * (spread / 2).exp()).cos().abs()
    negative = ((similarity < 0) & here).any(1)
    return torch.where(negative, 1 + (similarity.abs() * here).sum(1), near) * here.any(1)


class KEBR(FusedModel):
    """Frames, one layer that is applied several times, the mean of the anchor's states, and the head."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        check_frames("kebr", self.encoders, inputs)
        self.anchor = anchor_of(task, config.anchor, "kebr")
        width = config.width
        self.sides = nn.ModuleDict(
            {name: CrossAttention(width, config.inner) for name in task.modalities if name != self.anchor}
        )
        self.norm, self.mix = nn.LayerNorm(width), nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.missing = nn.Parameter(torch.randn(width) * 0.02)
        self.head = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, task.num_classes),
        )

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """Frames with a last column that is 1 at valid steps, [N, T, D + 1], and presence."""
        frames, valid, present = self.encode_frames(batch)
        return {name: torch.cat([part, valid[name].unsqueeze(2)], dim=2) for name, part in frames.items()}, present

    def modality_vectors(
        self, parts: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "n d"]]:
        """The mean frame of each modality, before the fusion."""
        return {name: _mean_frame(part[..., :-1], part[..., -1] > 0) for name, part in parts.items()}

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The mean of the anchor's states, and its "similarity" with each other modality, [N, M]."""
        frames = {name: part[..., :-1] for name, part in parts.items()}
        valid = {name: part[..., -1] > 0 for name, part in parts.items()}
        steps = torch.arange(frames[self.anchor].shape[1], device=valid[self.anchor].device)
        missing = ~valid[self.anchor].any(1, keepdim=True) & (steps == 0)
        states = frames[self.anchor] + missing.unsqueeze(2) * self.missing
        for _ in range(self.config.passes):
            given = [side(states, frames[name], valid[name]) for name, side in self.sides.items()]
            states = torch.stack([states, *given]).sum(0)
            states = states + self.dropout(self.mix(self.norm(states)))
        fused = _mean_frame(states, valid[self.anchor] | missing)
        if not self.sides:
            return fused
        similarities = []
        for name, side in self.sides.items():
            assert isinstance(side, CrossAttention)
            # the constraint moves the states towards the modality, and not the modality
            vector = _mean_frame(side.norm_side(frames[name]), valid[name]).detach()
            similarities.append(F.cosine_similarity(fused, vector, dim=1))
        return fused, {"similarity": torch.stack(similarities, dim=1)}

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, and for several modalities "balance"."""
        losses = super().losses(outputs, batch)
        if self.sides:
            here = torch.stack([outputs.present[name] & outputs.present[self.anchor] for name in self.sides], dim=1)
            values = similarity_constraint(self.tensors(outputs)["similarity"], here, self.config.target)
            losses["balance"] = self.config.balance * present_mean(values, here.any(1))
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """The encoder and, of other modalities than the anchor, their attention."""
        own = [self.encoders[modality]]
        if modality != self.anchor:
            own.append(self.sides[modality])
        return [parameter for module in own for parameter in module.parameters()]


def _mean_frame(frames: Float[Tensor, "n t d"], valid: Bool[Tensor, "n t"]) -> Float[Tensor, "n d"]:
    """The mean of the valid frames; zero without any."""
    return (frames * valid.unsqueeze(2)).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> KEBR:
    """The plug-in's entry point."""
    return KEBR(task, inputs, config)
