"""MCL-MCF (Fan, Zhu, Tao, Yi, Xue, Lv 2024, "Multi-level Contrastive Learning: Hierarchical Alleviation of
Heterogeneity in Multimodal Sentiment Analysis", IEEE TAFFC).

After the authors' code and the paper's abstract, since its text was not at hand. With one vector x_m for each modality:

    r_m = ReLU(B_m x_m),  r_0 = ReLU(B_0 [x_1; x_2; ...]),  prediction = head(B_f [r_1; r_2; ...; r_0])

Three levels of contrast are trained beside it. Each compares two sides of the same utterance, among all utterances of
the batch: unit vectors of both, cross-entropy of the true partner in both directions, the mean of the two.

- level 1: each modality and each other one;
- level 2: each modality and the hub of all others, a linear map of their vectors; and each and the hub of all;
- level 3: pairs of modalities that share one. The sides are the outer products r_m r_n^T behind three convolutions.

Ours, where the published code goes another way:

- The code contrasts the hub of all with the audio alone; here it is the mean over the modalities. With two modalities
  level 2 has the hub of the other only, and there is no level 3; a single modality has no contrast.
- Both sides are projected and then made unit vectors. The code has one of them the other way round, so that its length
  is free. Similarities are divided by the temperature, as in CLIP; the code multiplies by ln(1 / .07), which is a
  temperature of .376.
- The r_m have 32 coordinates, not 512, whose products would take 197 million weights that only the loss sees.
- The vectors, the head's K classes and L_task are those of every model here. An utterance is compared only where it has
  all modalities of both sides, and with such only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.models.fused import FusedModel
from pase_msa.objective import Losses
from pase_msa.ranges import NOT_NEGATIVE, POSITIVE, SIZE, Range, check_model
from pase_msa.task import Task

Side = tuple[str, ...]
Pair = tuple[Side, Side]
_EPSILON = 1e-6
_EDGE = 6  # what three convolutions of size 3 take from a side of an image


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors and of the hubs.
        shallow: size of the r_m; more than 6, for the convolutions.
        hidden: size of the fused vector, and of the head's layers.
        joint: size of the space in which two sides are compared.
        dropout: in the head.
        level1: weight of the contrast between modalities.
        level2: weight of the contrast between modalities and hubs.
        level3: weight of the contrast between products.
        temperature: of the contrast.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mcl_mcf"
    width: int = 64
    shallow: int = 32
    hidden: int = 128
    joint: int = 64
    dropout: float = 0.1
    level1: float = 0.05
    level2: float = 0.05
    level3: float = 0.05
    temperature: float = 0.07
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, shallow=Range(_EDGE + 1, 2**12, whole=True), hidden=SIZE, joint=SIZE, temperature=POSITIVE)
        check_model(self, level1=NOT_NEGATIVE, level2=NOT_NEGATIVE, level3=NOT_NEGATIVE)


def contrast(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], here: Bool[Tensor, " n"], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of the row's own partner, of x among y and of y among x, over the rows marked; 0 without any.

    Args:
        x: unit vectors.
        y: their partners, unit vectors.
        here: rows that are compared, and that may be compared with.
        temperature: that similarities are divided by.
    """
    allowed = here.unsqueeze(0) & here.unsqueeze(1)
    similarity = (x @ y.T / temperature).masked_fill(~allowed, torch.finfo(x.dtype).min)
    values = (similarity.logsumexp(1) + similarity.logsumexp(0)) / 2 - similarity.diagonal()
    # outside of the rows marked there are no values, rather than large ones times zero
    return torch.where(here, values, 0.0).sum() / here.sum().clamp(min=1)


def level_pairs(modalities: Sequence[str]) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """The two sides of every comparison, each a tuple of modalities, in a list for each of the three levels."""
    names = tuple(modalities)
    first: list[Pair] = [((one,), (two,)) for one, two in combinations(names, 2)]
    second: list[Pair] = [
        ((name,), tuple(other for other in names if other != name)) for name in names if len(names) > 1
    ]
    if len(names) > 2:
        second += [((name,), names) for name in names]
    third: list[Pair] = [(one, two) for one, two in combinations(combinations(names, 2), 2) if set(one) & set(two)]
    return first, second, third


class Comparison(nn.Module):
    """Two sides, each projected and then of unit length."""

    def __init__(self, first: int, second: int, joint: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(first, joint), nn.Linear(second, joint)

    def forward(self, x: Float[Tensor, "n a"], y: Float[Tensor, "n b"]) -> tuple[Tensor, Tensor]:
        """Unit vectors [N, joint] of both sides."""
        return F.normalize(self.first(x), dim=1, eps=_EPSILON), F.normalize(self.second(y), dim=1, eps=_EPSILON)


def product_layers() -> nn.Sequential:
    """Outer products [N, 1, S, S] to vectors [N, (S - 6)^2], by three convolutions without padding."""
    layers: list[nn.Module] = []
    for channels, following in ((1, 4), (4, 6), (6, 1)):
        layers += [nn.Conv2d(channels, following, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


class MCLMCF(FusedModel):
    """Encoders, shallow and joint projections, the head; and hubs, products and comparisons, which are trained only."""

    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names, width, hidden = task.modalities, config.width, config.hidden
        self.shallow = nn.ModuleDict({name: nn.Linear(width, config.shallow) for name in names})
        self.deep = nn.Linear(width * len(names), config.shallow)  # of r_0
        self.mix = nn.Linear((1 + len(names)) * config.shallow, hidden)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, task.num_classes),
        )
        self.levels = level_pairs(names)
        hubs = {second for _, second in self.levels[1]}
        self.hubs = nn.ModuleDict({_key(side): nn.Linear(len(side) * width, width) for side in sorted(hubs)})
        products = {side for pair in self.levels[2] for side in pair}
        self.products = nn.ModuleDict({_key(side): product_layers() for side in sorted(products)})
        sizes = (width, width, (config.shallow - _EDGE) ** 2)
        self.comparisons = nn.ModuleDict(
            {
                f"{level}:{_key(*pair)}": Comparison(sizes[level - 1], sizes[level - 1], config.joint)
                for level, pairs in enumerate(self.levels, 1)
                for pair in pairs
            }
        )

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The linear map of the shallow vectors and the joint one."""
        names = self.task.modalities
        shallow = [self.shallow[name](parts[name]).relu() * present[name].unsqueeze(1) for name in names]
        joint = self.deep(torch.cat([parts[name] for name in names], dim=1)).relu()
        fused: Tensor = self.mix(torch.cat([*shallow, joint], dim=1))
        return fused

    def sides(self, vectors: Mapping[str, Float[Tensor, "n d"]]) -> tuple[dict[Side, Tensor], ...]:
        """What is compared, by the modalities that it is made of: vectors, hubs and products."""
        shallow = {name: self.shallow[name](vector).relu() for name, vector in vectors.items()}
        hubs = {second for _, second in self.levels[1]}
        products = {side for pair in self.levels[2] for side in pair}
        return (
            {(name,): vector for name, vector in vectors.items()},
            {side: self.hubs[_key(side)](torch.cat([vectors[name] for name in side], dim=1)) for side in hubs},
            {
                (m, n): self.products[_key((m, n))](torch.einsum("ni,nj->nij", shallow[m], shallow[n]).unsqueeze(1))
                for m, n in products
            },
        )

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, and where there are modalities enough "level1", "level2" and "level3"."""
        losses, config, names = super().losses(outputs, batch), self.config, self.task.modalities
        single, hubs, products = self.sides(outputs.vectors)
        kinds = ((single, single), (single, hubs), (products, products))
        weights = (config.level1, config.level2, config.level3)
        for level, (pairs, (of_first, of_second)) in enumerate(zip(self.levels, kinds, strict=True), 1):
            values = []
            for first, second in pairs:
                x, y = self.comparisons[f"{level}:{_key(first, second)}"](of_first[first], of_second[second])
                here = torch.stack([outputs.present[name] for name in {*first, *second}]).all(0)
                value = contrast(x, y, here, config.temperature)
                # a mean over the modalities in place of the one that is published
                values.append(value / len(names) if second == names else value)
            if values:
                losses[f"level{level}"] = weights[level - 1] * torch.stack(values).sum()
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and shallow projection."""
        return [*self.encoders[modality].parameters(), *self.shallow[modality].parameters()]


def _key(*sides: Side) -> str:
    """The name of a module for these sides."""
    return "|".join("+".join(side) for side in sides)


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MCLMCF:
    """The plug-in's entry point."""
    return MCLMCF(task, inputs, config)
