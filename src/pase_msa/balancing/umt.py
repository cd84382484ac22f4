"""Uni-modal teachers, UMT (Du, Teng, Li, Liu, Yuan, Wang, Yuan, Zhao 2023, "On Uni-Modal Feature Learning in Supervised
Multi-Modal Learning", ICML).

Joint training leaves what each modality tells alone half learned. So the same model is trained on every modality alone
beforehand, and the vector that its encoder then makes, T_m(x), is what the vector of the joint model is pulled to:

    L = L_model + weight sum_m mean over utterances and entries of (h_m - T_m(x))^2

The teachers do not change. Beside the losses nothing does, and the teachers are not part of the model.

Ours: any model that has a vector per modality, not late fusion alone. A modality that an utterance lacks, or that is
masked in this step, has no term. The teachers are in evaluation mode, those of a public benchmark in training mode.
The default weight is that benchmark's; the paper's own was not at hand. The paper also decides between this and an
ensemble (the model `ume`) on the data at hand; that is left to a comparison of two runs.

The runs beforehand take `epochs` epochs each, on the same training split, and are made again when a run is resumed.
Each step pays for one more pass through every encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from lightning import LightningModule, Trainer
from torch import Tensor

from pase_msa.balancing.base import BalancingMethod, Preparation
from pase_msa.batch import Batch, Outputs
from pase_msa.errors import PaSEError
from pase_msa.objective import present_mean
from pase_msa.ranges import COUNT, NOT_NEGATIVE, check_ranges

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        weight: of the distance between the vectors; 0 changes nothing.
        epochs: of each run beforehand; no more than training.epochs.
    """

    name: str = "umt"
    weight: float = 10.0
    epochs: int = 20

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", weight=NOT_NEGATIVE, epochs=COUNT)


def distillation(
    vectors: Float[Tensor, "n d"], targets: Float[Tensor, "n d"], present: Bool[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Mean squared error over the entries of the utterances that have the modality; 0 where none has."""
    return present_mean((vectors - targets).square().mean(1), present)


class UnimodalTeachers(BalancingMethod):
    """See the module.

    Attributes:
        teachers: models that were trained on one modality alone, by modality; none where there is only one modality.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.teachers: dict[str, nn.Module] = {}

    def prepare(self, preparation: Preparation) -> None:
        """Train a teacher per modality.

        Errors:
            PaSEError: the model has no vectors.
        """
        names, model = preparation.task.modalities, preparation.model
        if not getattr(model, "has_vectors", False):
            raise PaSEError(
                f"umt pulls the vector of every modality, and {type(model).__name__} has no vectors; choose another "
                "model or balancing method."
            )
        if len(names) > 1:
            self.teachers = {
                name: preparation.train_unimodal(frozenset([name]), self.config.epochs).requires_grad_(False).eval()
                for name in names
            }

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the teachers to where the model is."""
        for teacher in self.teachers.values():
            teacher.to(pl_module.device)

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses, and "teacher/NAME", the distance to each teacher times its weight."""
        if not self.active:
            return dict(losses)
        pulled = {
            f"teacher/{name}": self.config.weight
            * distillation(outputs.vectors[name], self._target(name, batch), batch.present[name])
            for name in self.teachers
        }
        return dict(losses) | pulled

    @torch.no_grad()
    def _target(self, name: str, batch: Batch) -> Float[Tensor, "n d"]:
        alone = dataclasses.replace(
            batch,
            features={name: batch.features[name]},
            lengths={name: batch.lengths[name]},
            present={name: batch.present[name]},
        )
        target: Tensor = self.teachers[name].network(alone).vectors[name]  # type: ignore[operator]
        return target


def build(config: Config) -> UnimodalTeachers:
    """The plug-in's entry point."""
    return UnimodalTeachers(config)
