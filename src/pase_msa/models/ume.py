"""Uni-modal ensemble, UME (Du, Teng, Li, Liu, Yuan, Wang, Yuan, Zhao 2023, "On Uni-Modal Feature Learning in Supervised
Multi-Modal Learning", ICML).

Each modality has a network of its own, an encoder and a head. The prediction is the mean of what they predict:

    p = 1/k sum_m p_m(x_m)                      over the modalities that an utterance has
    L = sum_m mean of L_task(p_m, y)            over the utterances that have modality m

No parameter is shared and no loss has two modalities in it, so that joint training learns nothing that a modality does
not tell alone. Where the label depends on several modalities together, this cannot see it; that is what it is a test
for. Its counterpart for such labels is the balancing method `umt`.

Ours: absent modalities are left out of the mean. The paper trains the networks one after the other and selects each by
itself; here they train side by side and one epoch is selected for all, and a clipped gradient or modality dropout acts
on all of them at once (`--training.gradient_clip 0 --training.modality_dropout 0` switches both off). The paper's
choice between UME and `umt` on the data at hand is left to a comparison of two runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs, TensorState
from pase_msa.data.inputs import InputSpec
from pase_msa.models.base import Model, head, of_coalitions
from pase_msa.models.unimodal import unimodal_loss
from pase_msa.objective import Losses
from pase_msa.ranges import check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        dropout: in the heads.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "ume"
    width: int = 128
    dropout: float = 0.4
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self)


def mean_probabilities(probabilities: Float[Tensor, "m n k"], present: Bool[Tensor, "m n"]) -> Float[Tensor, "n k"]:
    """Mean over the modalities that an utterance has; zeros where it has none."""
    here = present.unsqueeze(2).to(probabilities.dtype)
    mean: Tensor = (probabilities * here).sum(0) / here.sum(0).clamp(min=1)
    return mean


class UnimodalEnsemble(Model):
    """See the module."""

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.heads = nn.ModuleDict(
            {name: head(config.width, task.num_classes, config.dropout) for name in task.modalities}
        )

    def network(self, batch: Batch) -> Outputs:
        """One pass with every modality of the batch."""
        vectors, present = self.encode(batch)
        return self._ensemble(vectors, self._logits(vectors), present)

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities; each utterance goes through each network once."""
        vectors, present = self.encode(batch)
        logits = self._logits(vectors)
        return [self._ensemble(masked, logits, flags) for masked, flags in of_coalitions(vectors, present, coalitions)]

    def _logits(self, vectors: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "n k"]]:
        return {name: self.heads[name](vectors[name]) for name in self.task.modalities}

    def _ensemble(
        self, vectors: dict[str, Tensor], logits: dict[str, Tensor], present: dict[str, Bool[Tensor, " n"]]
    ) -> Outputs:
        names = self.task.modalities
        each = torch.stack([logits[name] for name in names]).softmax(2)
        mean = mean_probabilities(each, torch.stack([present[name] for name in names]))
        # the softmax of the logs of probabilities gives them back
        logs = mean.clamp(min=torch.finfo(mean.dtype).tiny).log()
        fused = torch.cat([vectors[name] for name in names], dim=1)
        return self.outputs(logs, fused, present, vectors=vectors, state=TensorState(logits))

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """ "alone/NAME": L_task of each network, over the utterances that have its modality."""
        assert batch.labels is not None
        assert isinstance(outputs.state, TensorState)
        weights = {"class_weight": self.config.class_weight, "score_weight": self.config.score_weight}
        return {
            f"alone/{name}": unimodal_loss(self.task, logits, batch.labels, outputs.present[name], **weights)
            for name, logits in outputs.state.tensors.items()
        }


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> UnimodalEnsemble:
    """The plug-in's entry point."""
    return UnimodalEnsemble(task, inputs, config)
