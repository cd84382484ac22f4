"""SMIL without the meta loop (after Ma, Ren, Zhao, Tulyakov, Wu, Peng 2021, "SMIL: Multimodal Learning with Severely
Missing Modality", AAAI).

Missing is what the paper is named for: its network is trained by meta-learning, an inner step on utterances with a
modality hidden and an outer one on complete utterances, differentiated through the inner one. Here one optimiser takes
plain steps on utterances of which some modalities are hidden. The rest is:

    w = softplus(W_m q),   z_m = sum_k w_k mu_mk / sum_k w_k

for the vector z_m of a missing modality, a mixture of its K cluster centres mu_mk, with the query q of the modalities
that are there; and noise that the network learns to use, on the joined vectors and again on the hidden layer:

    h <- h softplus(r),   r ~ N(f(h), 1) in training,   r = f(h) in evaluation

In training, both layers shall be what they are of the true vectors without this factor ("matching").

Ours, where the paper or its code goes another way:

- q is the mean of a linear map of each vector that is there; the original has two modalities, one always there.
- The centres are a running k-means of the vectors of utterances that have the modality, and not k-means once: the
  encoders go on learning. A centre that is hardly used moves to a vector of the batch.
- Modalities are hidden after `warm_up` epochs, all patterns alike, that of all modalities among them.
- The side that "matching" compares with has no gradient. It counts where something was hidden.
- Evaluation takes the mean of r, and not a mean of samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.models.missing import WarmUp, hide, masked_mse
from pase_msa.objective import Losses
from pase_msa.ranges import COUNT, NOT_NEGATIVE, PROPER_SHARE, SIZE, check_model
from pase_msa.task import Task

REDUCED = "without the meta loop"
_EPSILON = 1e-6
_DEAD = 0.1  # a centre whose share of the vectors is below this part of an equal share moves


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        centres: K, cluster centres per modality.
        hidden: size of the layer before the output.
        dropout: before the output.
        matching: weight of the error of each layer.
        momentum: of the centres.
        warm_up: epochs before modalities are hidden.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "smil"
    width: int = 64
    centres: int = 10
    hidden: int = 64
    dropout: float = 0.4
    matching: float = 0.01
    momentum: float = 0.9
    warm_up: int = 5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, centres=SIZE, hidden=SIZE, matching=NOT_NEGATIVE, momentum=PROPER_SHARE, warm_up=COUNT)


def mixture(scores: Float[Tensor, "n k"], centres: Float[Tensor, "k d"]) -> Float[Tensor, "n d"]:
    """The centres, weighted by the softplus of their scores."""
    weights = F.softplus(scores)
    return weights @ centres / weights.sum(1, keepdim=True).clamp(min=_EPSILON)


class Centres(nn.Module):
    """Running k-means of vectors.

    Args:
        count: K, of the centres.
        width: size of the vectors.
        momentum: weight of a centre against the mean of the batch's vectors that are nearest to it.

    Attributes:
        values: buffer [K, D].
        usage: buffer [K], the share of vectors that a centre is nearest to; zero before the first batch.
    """

    values: Tensor
    usage: Tensor

    def __init__(self, count: int, width: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("values", torch.zeros(count, width))
        self.register_buffer("usage", torch.zeros(count))

    @torch.no_grad()
    def update(self, vectors: Float[Tensor, "n d"], here: Bool[Tensor, " n"]) -> None:
        """Move the centres by the rows that count; where there is none, nothing moves."""
        vectors, count = vectors.detach().to(self.values.dtype), len(self.values)
        nearest = F.one_hot(torch.cdist(vectors, self.values).argmin(1), count) * here.unsqueeze(1)
        sizes, rows = nearest.sum(0), here.sum()
        means = nearest.to(vectors.dtype).T @ vectors / sizes.clamp(min=1).unsqueeze(1)
        moved = torch.where((sizes > 0).unsqueeze(1), torch.lerp(means, self.values, self.momentum), self.values)
        usage = torch.lerp(sizes / rows.clamp(min=1), self.usage, self.momentum)
        dead = self.usage < _DEAD / count  # at first, all of them
        drawn = vectors[torch.multinomial(here + _EPSILON, count, replacement=True)]
        # the buffers are replaced and not written to: a graph that is still to be differentiated may hold the old ones
        some = rows > 0
        self.values = torch.where(some, torch.where(dead.unsqueeze(1), drawn, moved), self.values)
        self.usage = torch.where(some, torch.where(dead, 1 / count, usage), self.usage)


class Noise(nn.Module):
    """h softplus(r), r being f(h) with unit noise in training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Linear(width, width)

    def forward(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The layer; in evaluation, that of the mean."""
        mean = self.mean(h)
        return h * F.softplus(mean + torch.randn_like(mean) if self.training else mean)


class SMIL(FusedModel):
    """Encoders, centres and queries, the noisy layers, and the output."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config, self.imputation = config, True
        names, width = task.modalities, config.width
        self.centres = nn.ModuleDict({name: Centres(config.centres, width, config.momentum) for name in names})
        several = names if len(names) > 1 else ()  # nothing could be asked for a modality that is alone
        self.queries = nn.ModuleDict({name: nn.Linear(width, width) for name in several})
        self.scores = nn.ModuleDict({name: nn.Linear(width, config.centres) for name in several})
        self.joined_noise, self.hidden_noise = Noise(width * len(names)), Noise(config.hidden)
        self.hidden = nn.Sequential(nn.Linear(width * len(names), config.hidden), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.hidden, task.num_classes))
        self.warm_up = WarmUp(config.warm_up)

    @property
    def ready(self) -> bool:
        """Whether the centres have seen a batch."""
        return any(bool(self._centres(name).usage.any()) for name in self.task.modalities)

    def begin_epoch(self) -> None:
        """Count the epochs."""
        self.warm_up.begin_epoch()

    def imputed(
        self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]
    ) -> dict[str, Float[Tensor, "n d"]]:
        """The vectors, with mixtures of centres in place of those that are not there; zero where nothing is there."""
        if not self.imputation or len(self.queries) == 0:
            return {name: parts[name] * present[name].unsqueeze(1) for name in self.task.modalities}
        flags = torch.stack([present[name] for name in self.task.modalities]).unsqueeze(2)
        asked = torch.stack([self.queries[name](parts[name]) for name in self.task.modalities])
        query, some = (asked * flags).sum(0) / flags.sum(0).clamp(min=1), flags.any(0)
        return {
            name: torch.where(
                present[name].unsqueeze(1),
                parts[name],
                mixture(self.scores[name](query), self._centres(name).values) * some,
            )
            for name in self.task.modalities
        }

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The noisy hidden layer; in training, beside it, what "matching" compares and which rows it counts for."""
        left = dict(present)
        if self.training and self.warm_up.over:
            left = hide(present, complete=True)
        vectors = self.imputed(parts, left)
        joined = self.joined_noise(torch.cat(list(vectors.values()), dim=1))
        fused: Tensor = self.hidden_noise(self.hidden(joined))
        if not self.training:
            return fused
        with torch.no_grad():
            clean = torch.cat(list(self.imputed(parts, present).values()), dim=1)
            tensors = {"joined/clean": clean, "hidden/clean": self.hidden(clean)}
        was_hidden = torch.stack([present[name] & ~left[name] for name in self.task.modalities]).any(0)
        return fused, {**tensors, "joined": joined, "hidden": fused, "was hidden": was_hidden.to(fused.dtype)}

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, and in training "matching", which is zero in the warm-up."""
        losses = super().losses(outputs, batch)
        if outputs.state is not None:
            tensors = self.tensors(outputs)
            rows = tensors["was hidden"] > 0
            errors = [masked_mse(tensors[layer], tensors[f"{layer}/clean"], rows) for layer in ("joined", "hidden")]
            losses["matching"] = self.config.matching * torch.stack(errors).sum()
        return losses

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Move the centres by the vectors of the modalities that are there, hidden or not."""
        for name in self.task.modalities:
            self._centres(name).update(outputs.vectors[name], outputs.present[name])

    def _centres(self, name: str) -> Centres:
        centres = self.centres[name]
        assert isinstance(centres, Centres)
        return centres

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, query, and scores of the centres."""
        parts = [self.encoders, *((self.queries, self.scores) if len(self.queries) else ())]
        return [parameter for part in parts for parameter in part[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> SMIL:
    """The plug-in's entry point."""
    return SMIL(task, inputs, config)
