"""CLGSI (Yang, Dong, Qiang 2024, "CLGSI: A Multimodal Sentiment Analysis Framework based on Contrastive Learning Guided
by Sentiment Intensity", Findings of NAACL).

After the authors' code, since the paper's text was not at hand. A contrastive loss takes each pair of utterances as
positive or negative by the distance d of their scores, mapped to [-1, 1], and weighs it by that distance:

    positive, d <= threshold:  w+ = 1.5 tanh(.8 - d)        negative, d > threshold:  w- = 1.2 tanh(d)
    l(a; b) = -mean_i log sum_j (P_ij(a, b) + P_ij(a, a)) / (that + the same of N),   P_ij = exp(w+_ij a_i b_j / tau)

for unit vectors a, b of two modalities. The fusion mixes the modalities coordinate by coordinate with one small
function for all coordinates (GLFK) and adds a vector specific to each modality.

Ours, where the published code goes another way: the pair of a vector with itself, in P_ii(a, a), is left out, since its
term of e^33 outweighs all others and has no gradient (`self_pairs` brings it back; the pair of an utterance's two
modalities, in P_ii(a, b), is there in any case); a pair without weight adds nothing (not 1); with one modality there is
P(a, a) alone; the vectors, also the specific ones, come from the library's encoders; LayerNorm stands in place of
batch normalisation, so that a prediction does not depend on its batch. Classes without order have d = 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.objective import Losses
from pase_msa.ranges import NOT_NEGATIVE, POSITIVE, SIZE, check_model
from pase_msa.task import Task

_EPSILON = 1e-6


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        common: size p of the vectors that are compared and mixed.
        hidden: size of the fused vector.
        dropout: on vectors, fused vector and head.
        contrast: weight gamma of the contrastive loss.
        temperature: tau.
        threshold: distance of scores in [-1, 1] up to which a pair is positive.
        self_pairs: whether a vector is a positive pair with itself, as published.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "clgsi"
    width: int = 128
    common: int = 64
    hidden: int = 128
    dropout: float = 0.1
    contrast: float = 0.1
    temperature: float = 0.03
    threshold: float = 0.4
    self_pairs: bool = False
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, common=SIZE, hidden=SIZE, contrast=NOT_NEGATIVE, temperature=POSITIVE, threshold=NOT_NEGATIVE)


def pair_weights(distance: Float[Tensor, "n n"], threshold: float) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    """Weights of positive and of negative pairs by the distance of their scores in [-1, 1]; zero for the other kind."""
    near = distance <= threshold
    positive = torch.where(near, 1.5 * torch.tanh(0.8 - distance), 0.0)
    return positive, torch.where(near, 0.0, 1.2 * torch.tanh(distance))


def intensity_loss(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"] | None,
    positive: Float[Tensor, "n n"],
    negative: Float[Tensor, "n n"],
    temperature: float,
    *,
    self_pairs: bool = False,
) -> Float[Tensor, ""]:
    """l(a; b) of unit vectors; the mean is over rows that have a positive pair. A weight of zero is no pair.

    Args:
        a: of one modality.
        b: of another one, of the same utterances; None compares the vectors of a with each other alone.
        positive: w+ of each pair of utterances.
        negative: w-.
        temperature: tau.
        self_pairs: whether a vector of a is a pair with itself.
    """
    others = [a] if b is None else [b, a]
    similarity = torch.stack([a @ other.T for other in others], dim=1) / temperature  # [N, 1 or 2, N]
    allowed = torch.ones_like(similarity, dtype=torch.bool)
    if not self_pairs:
        allowed[:, -1].fill_diagonal_(False)

    def log_sum(weight: Tensor) -> Tensor:
        pair = (weight != 0).unsqueeze(1) & allowed
        scores = (weight.unsqueeze(1) * similarity).masked_fill(~pair, torch.finfo(similarity.dtype).min)
        return scores.flatten(1).logsumexp(1)

    numerator = log_sum(positive)
    values = torch.logaddexp(numerator, log_sum(negative)) - numerator
    anchors = ((positive != 0).unsqueeze(1) & allowed).flatten(1).any(1)
    return (values * anchors).sum() / anchors.sum().clamp(min=1)


class CLGSI(FusedModel):
    """Encoders, common and specific vectors, GLFK, and the head."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names, width, common = task.modalities, config.width, config.common
        reduced = max(width // 8, 2)
        self.common = nn.ModuleDict(
            {n: nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, common), nn.ReLU()) for n in names}
        )
        self.specific = nn.ModuleDict(
            {
                n: nn.Sequential(nn.Linear(width, reduced), nn.ReLU(), nn.Linear(reduced, common, bias=False))
                for n in names
            }
        )
        # the same few weights for every coordinate: a mix of the modalities, then a function of one number
        self.mix = nn.Linear(len(names), 1)
        self.kernel = nn.Sequential(nn.Linear(1, 8), nn.PReLU(), nn.Linear(8, 16), nn.Linear(16, 1), nn.Tanh())
        self.join = nn.Sequential(nn.Dropout(config.dropout), nn.Linear((1 + len(names)) * common, 3 * config.hidden))
        self.head = nn.Sequential(
            nn.Linear(3 * config.hidden, 2 * config.hidden),
            nn.ReLU(),
            nn.LayerNorm(2 * config.hidden),
            nn.Linear(2 * config.hidden, task.num_classes),
        )

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """GLFK of the common vectors, joined with the specific ones; and the common vectors."""
        vectors = {n: self.common[n](parts[n]) * present[n].unsqueeze(1) for n in self.task.modalities}
        common = torch.stack(list(vectors.values()), dim=2)
        specific = [self.specific[n](parts[n]).sigmoid() * present[n].unsqueeze(1) for n in self.task.modalities]
        fused: Tensor = self.join(torch.cat([self.kernel(self.mix(common)).squeeze(2), *specific], dim=1))
        return fused, vectors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task and "contrast"."""
        assert batch.labels is not None
        losses = super().losses(outputs, batch)
        vectors = {n: F.normalize(v, dim=1, eps=_EPSILON) for n, v in self.tensors(outputs).items()}
        positive, negative = pair_weights(self._distance(batch.labels), self.config.threshold)
        pairs: list[tuple[str, str | None]] = [*combinations(vectors, 2)] or [(name, None) for name in vectors]
        values = []
        for one, two in pairs:
            both = outputs.present[one] if two is None else outputs.present[one] & outputs.present[two]
            here = (both.unsqueeze(0) & both.unsqueeze(1)).to(positive.dtype)
            sides: list[tuple[Tensor, Tensor | None]] = [(vectors[one], None if two is None else vectors[two])]
            if two is not None:
                sides.append((vectors[two], vectors[one]))
            for a, b in sides:
                value = intensity_loss(
                    a, b, positive * here, negative * here, self.config.temperature, self_pairs=self.config.self_pairs
                )
                values.append(value / len(sides))
        losses["contrast"] = self.config.contrast * torch.stack(values).sum()
        return losses

    def _distance(self, labels: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
        if self.task.values is None:
            return (labels.unsqueeze(0) != labels.unsqueeze(1)).float()
        half = (self.task.values[-1] - self.task.values[0]) / 2
        return (labels.unsqueeze(0) - labels.unsqueeze(1)).abs() / half

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, common and specific map."""
        modules = (self.encoders, self.common, self.specific)
        return [parameter for module in modules for parameter in module[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> CLGSI:
    """The plug-in's entry point."""
    return CLGSI(task, inputs, config)
