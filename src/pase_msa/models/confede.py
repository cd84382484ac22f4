"""ConFEDE with partners from the batch (Yang, Yu, Niu, Guo, Xu 2023, "ConFEDE: Contrastive Feature Decomposition for
Multimodal Sentiment Analysis", ACL).

What is missing: partners from the whole training set, and the first stage, in which each encoder is trained alone.

Each modality's vector gives a similarity part s_m and a dissimilarity part d_m, each tanh of a linear map of its own of
the normed vector; an MLP predicts from all parts. One loss ("contrast") compares an utterance with six partners: two
similar ones of its class, two similar and two dissimilar ones of other classes. A hub modality (text, or else the
first) is drawn to the others. Pairs of vectors are

    positive: s_m and s_m of a partner of the same class, any m; s_hub and s_m of one utterance, its own or a partner's
    negative: s_m and s_m of a partner of another class, any m; s_hub and d_m of one utterance, any m, its own or a
              partner's

and the loss is the mean over positive pairs, p being their cosine and n those of the negative pairs that begin with
the same vector, of -log(e^(p / tau) / (e^(p / tau) + sum e^(n / tau))). The loss "unimodal" has one further MLP predict
the label from every part.

Ours, where the paper or its code go another way:

- Partners are chosen in the batch, by the cosine of the vectors of all modalities that both have. The published code
  draws them from the rows at the ends of the training file, since it confuses ranks with rows. With few utterances of
  other classes the same one can be a near and a far partner.
- Everything is trained at once, and nothing is frozen. The encoders and L_task are those of every model here, also for
  the parts, where the code has the squared error.
- Two scores are of the same class if the same class value is nearest to them. A partner that is not in the batch, and a
  modality that one of the two lacks, have no pair; behind the maps, parts of an absent modality are zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import Fused, FusedModel, anchor_of
from pase_msa.objective import Losses, soft_cross_entropy
from pase_msa.ranges import NOT_NEGATIVE, POSITIVE, SIZE, check_model
from pase_msa.task import Task

REDUCED = "partners from the batch, without the first stage"
_EPSILON = 1e-6


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors; the parts have half of it.
        dropout: of the parts.
        contrast: weight of the contrastive loss.
        unimodal: weight of the predictions from single parts.
        partners: of each of the three kinds.
        temperature: tau.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "confede"
    width: int = 128
    dropout: float = 0.5
    contrast: float = 0.1
    unimodal: float = 0.01
    partners: int = 2
    temperature: float = 0.5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, contrast=NOT_NEGATIVE, unimodal=NOT_NEGATIVE, partners=SIZE, temperature=POSITIVE)


def choose_partners(
    vectors: Float[Tensor, "n m d"], present: Bool[Tensor, "n m"], classes: Int[Tensor, " n"], count: int
) -> tuple[Int[Tensor, "n p"], Bool[Tensor, "n p"]]:
    """The partners of each utterance, and which of them exist.

    First the nearest of its class, then the nearest of other classes, then the farthest of other classes, `count` of
    each, or as many as the batch has rows.

    Args:
        vectors: of M modalities; zero where absent.
        present: whether the utterance has the modality.
        classes: of the utterances.
        count: of each kind.
    """
    here, lengths = present.to(vectors.dtype), vectors.square().sum(2)
    # a length is over the modalities that the other utterance has, too
    scale = ((lengths @ here.T) * (here @ lengths.T)).sqrt().clamp(min=_EPSILON)
    cosine = vectors.flatten(1) @ vectors.flatten(1).T / scale
    same = classes.unsqueeze(1) == classes
    others = ~torch.eye(len(classes), dtype=torch.bool, device=classes.device) & (here @ here.T > 0)
    kinds = [(cosine, same & others), (cosine, ~same & others), (-cosine, ~same & others)]
    best = [score.masked_fill(~allowed, -torch.inf).topk(min(count, len(classes)), dim=1) for score, allowed in kinds]
    return torch.cat([b.indices for b in best], dim=1), torch.cat([b.values for b in best], dim=1).isfinite()


def decomposition_loss(
    similar: Float[Tensor, "n m d"],
    dissimilar: Float[Tensor, "n m d"],
    present: Bool[Tensor, "n m"],
    partners: Int[Tensor, "n p"],
    found: Bool[Tensor, "n p"],
    hub: int,
    temperature: float,
) -> Float[Tensor, ""]:
    """The contrastive loss, see the module; 0 without a positive pair.

    Args:
        similar: the parts s_m.
        dissimilar: the parts d_m.
        present: whether the utterance has the modality.
        partners: as `choose_partners` returns them, a third of each kind.
        found: which of them exist.
        hub: number of the hub modality.
        temperature: tau.
    """
    s, d = F.normalize(similar, dim=2, eps=_EPSILON), F.normalize(dissimilar, dim=2, eps=_EPSILON)
    kind = partners.shape[1] // 3
    # cosines, divided by tau, and which of them are pairs: with partners [N, P, M], with the hub [N, M]
    across = torch.einsum("nmd,npmd->npm", s, s[partners]) / temperature
    across_pair = found.unsqueeze(2) & present.unsqueeze(1) & present[partners]
    within, opposed = (torch.einsum("nd,nmd->nm", s[:, hub], part) / temperature for part in (s, d))
    opposed_pair = present & present[:, hub : hub + 1]
    is_hub = torch.arange(s.shape[1], device=s.device) == hub
    within_pair = opposed_pair & ~is_hub

    def log_sum(values: Tensor, pairs: Tensor) -> Tensor:
        return values.masked_fill(~pairs, torch.finfo(values.dtype).min).logsumexp(1)

    foreign = log_sum(across[:, kind:], across_pair[:, kind:])  # [N, M]
    own = log_sum(opposed, opposed_pair)  # [N]
    against = torch.where(is_hub, torch.logaddexp(foreign, own.unsqueeze(1)), foreign)
    # -log(e^p / (e^p + e^log_sum)) is softplus(log_sum - p)
    terms = [
        (F.softplus(against.unsqueeze(1) - across[:, :kind]), across_pair[:, :kind]),
        (F.softplus(against[:, hub : hub + 1] - within), within_pair),
        # as a partner, an utterance has no partners of its own among the negatives
        (F.softplus(own.unsqueeze(1) - within)[partners], within_pair[partners] & found.unsqueeze(2)),
    ]
    total = torch.stack([(value * pair).sum() for value, pair in terms]).sum()
    return total / torch.stack([pair.sum() for _, pair in terms]).sum().clamp(min=1)


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with GELU between them."""
    layers: list[nn.Module] = []
    for size, following in itertools.pairwise(sizes):
        layers += [nn.Linear(size, following), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class ConFEDE(FusedModel):
    """Encoders, two parts for each modality, the head on all of them, and one on each."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names, width = task.modalities, config.width
        half, quarter, eighth = (max(width // divisor, 4) for divisor in (2, 4, 8))
        self.hub = names.index(anchor_of(task, None, "confede"))

        def part() -> nn.Sequential:
            return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, half), nn.Tanh(), nn.Dropout(config.dropout))

        self.similar = nn.ModuleDict({name: part() for name in names})
        self.dissimilar = nn.ModuleDict({name: part() for name in names})
        self.head = mlp(2 * len(names) * half, width, half, quarter, eighth, task.num_classes)
        self.part_head = mlp(half, quarter, eighth, task.num_classes)

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """All parts side by side; and both kinds, [N, M, D / 2]."""
        here = torch.stack([present[name] for name in self.task.modalities], dim=1).unsqueeze(2)
        tensors = {
            kind: torch.stack([maps[name](parts[name]) for name in self.task.modalities], dim=1) * here
            for kind, maps in (("similar", self.similar), ("dissimilar", self.dissimilar))
        }
        return torch.cat([part.flatten(1) for part in tensors.values()], dim=1), tensors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, "contrast" and "unimodal"."""
        assert batch.labels is not None
        losses, config, tensors = super().losses(outputs, batch), self.config, self.tensors(outputs)
        membership, names = self.task.membership(batch.labels), self.task.modalities
        present = torch.stack([outputs.present[name] for name in names], dim=1)
        vectors = torch.stack([outputs.vectors[name] for name in names], dim=1).detach()
        partners, found = choose_partners(vectors, present, membership.argmax(1), config.partners)
        parts = tensors["similar"], tensors["dissimilar"]
        contrast = decomposition_loss(*parts, present, partners, found, self.hub, config.temperature)
        logits, here = self.part_head(torch.cat(parts, dim=1)), torch.cat([present, present], dim=1)
        values = config.class_weight * soft_cross_entropy(logits, membership.unsqueeze(1).expand_as(logits))
        if self.task.values is not None:
            error = (self.task.score(logits.softmax(2)) - batch.labels.unsqueeze(1)).abs()
            values = values + config.score_weight * error
        losses["contrast"] = config.contrast * contrast
        losses["unimodal"] = config.unimodal * (values * here).sum() / here.sum().clamp(min=1)
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and the maps to both parts."""
        modules = (self.encoders, self.similar, self.dissimilar)
        return [parameter for module in modules for parameter in module[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> ConFEDE:
    """The plug-in's entry point."""
    return ConFEDE(task, inputs, config)
