"""Data Remixing (Ma, Chen, Deng 2025, "Improving Multimodal Learning Balance and Sufficiency through Data Remixing",
ICML).

Beside the model's own head there is a linear head per modality, on that modality's vector. For some epochs all of them
are trained on whole utterances. From then on an utterance shows one modality only, the one whose head is least sure of
it, so that no other modality can answer in its place. With p_m what the head of modality m predicts of a training
utterance, measured without dropout on all modalities that it has:

    surety  d_m = KL(p_m || uniform) = log K - H(p_m)
    shown   argmin_m d_m
    L = L_model + unimodal sum_m L_task(head_m)     in the first `warm_up` epochs
    L = L_model + L_task(head_shown)                afterwards

Labels are in the losses only. The state is d_m of every training row.

Ours, where it differs:

- the paper's batches hold one modality each, all those of one before those of the other. Here a batch has utterances of
  all kinds. An utterance's gradient is the same, but not what batches of one modality spare a network whose modalities
  disturb each other within a step;
- the paper measures in a pass of its own before each epoch. Here a step measures the utterances of its batch, for the
  next epoch; this costs a pass without gradients per step;
- more than two modalities: `shown` is the literal reading, or all but the surest one, which is milder. An absent
  modality is never the one shown, and an utterance that has one modality keeps it;
- the network sees no whole utterance after the warm-up, and is then asked about whole ones. `whole` keeps a share of
  them; 0 is the paper. In place of modality dropout, which acts in the warm-up only.

The public code has the number of classes of one data set in d_m; only the order matters. Epochs are counted while the
method is active.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from lightning import LightningModule, Trainer
from torch import Tensor

from pase_msa.balancing.base import Preparation, mask_modalities
from pase_msa.balancing.epochs import EpochMeans
from pase_msa.balancing.heads import UnimodalHeads
from pase_msa.balancing.responses import evaluating
from pase_msa.batch import Batch, Outputs
from pase_msa.errors import PaSEError
from pase_msa.objective import present_mean
from pase_msa.ranges import NOT_NEGATIVE, SHARE, Range, check_ranges

Shown = Literal["least_sure", "all_but_surest"]


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        warm_up: epochs on whole utterances before the first remix.
        unimodal: weight of the modalities' heads in these.
        shown: "least_sure": an utterance shows this modality alone (the paper); "all_but_surest": all others.
        whole: share of the utterances that show all modalities after the warm-up, too.
    """

    name: str = "remix"
    warm_up: int = 10
    unimodal: float = 0.5
    shown: Shown = "least_sure"
    whole: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", warm_up=Range(0, 2**31 - 1, whole=True), unimodal=NOT_NEGATIVE, whole=SHARE)


def surety(logits: Float[Tensor, "*n k"]) -> Float[Tensor, "*n"]:
    """d_m = KL(p || uniform) of the softmax p of the logits, in nats; 0 where the head knows nothing."""
    probabilities = logits.softmax(-1)
    divergence: Tensor = math.log(logits.shape[-1]) - torch.special.entr(probabilities).sum(-1)
    return divergence


def remixed(values: Float[Tensor, "m n"], present: Bool[Tensor, "m n"], shown: Shown) -> Bool[Tensor, "m n"]:
    """Which modalities an utterance shows; one of equals.

    Args:
        values: d_m by modality and utterance.
        present: the modalities that an utterance has.
        shown: see `Config`.
    """
    lowest = shown == "least_sure"
    place = values.masked_fill(~present, math.inf if lowest else -math.inf)
    chosen = place.argmin(0) if lowest else place.argmax(0)
    one = torch.nn.functional.one_hot(chosen, len(values)).T.bool()
    kept = present & (one if lowest else ~one)
    return torch.where(kept.any(0), kept, present)


class DataRemixing(EpochMeans):
    """See the module.

    Attributes:
        auxiliary_heads: the heads, by modality.
        epoch: epochs in which the method was active.
        rows: training rows that were measured in the newest epoch, in order, [R]; empty before.
        values: their d_m, infinite where a row lacks the modality, [R, M].
        history: one entry per epoch, {"epoch", "active", "shown/..."}: share of the rows that show the modality next.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.heads: UnimodalHeads | None = None
        self.names: tuple[str, ...] = ()
        self.epoch = 0
        self.rows = torch.zeros(0, dtype=torch.long)
        self.values = torch.zeros(0, 0)
        self._measured: list[tuple[Tensor, Tensor]] = []
        self._whole: Batch | None = None

    def prepare(self, preparation: Preparation) -> None:
        """Make the heads."""
        self.names = preparation.task.modalities
        self.auxiliary_heads = self.heads = UnimodalHeads("remix", preparation.task, preparation.model)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the epoch."""
        self.epoch += int(self.active)
        self._measured = []

    @property
    def _remixing(self) -> bool:
        return self.active and len(self.names) > 1 and self.epoch > self.config.warm_up and len(self.rows) > 0

    def mask_modalities(self, batch: Batch, probability: float) -> Batch:
        """Show what the newest d_m say; before that, plain modality dropout."""
        self._whole = batch
        if not self._remixing:
            return mask_modalities(batch, probability)
        rows = _row_numbers(batch)
        flags = torch.stack([batch.present[name] for name in self.names])
        if self.rows.device != rows.device:
            self.rows, self.values = self.rows.to(rows.device), self.values.to(rows.device)
        places = torch.searchsorted(self.rows, rows).clamp(max=len(self.rows) - 1)
        shown = remixed(self.values[places].T, flags, self.config.shown)
        # a row that was not measured is shown whole
        whole = (self.rows[places] != rows) | (torch.rand(len(rows), device=rows.device) < self.config.whole)
        shown = torch.where(whole, flags, shown)
        return dataclasses.replace(batch, present=dict(zip(self.names, shown.unbind(), strict=True)))

    def reweight(
        self, losses: Mapping[str, Tensor], outputs: Outputs, batch: Batch, module: LightningModule
    ) -> dict[str, Tensor]:
        """The model's losses and "alone/NAME", those of the heads; measures the batch for the next epoch."""
        whole, self._whole = self._whole, None
        if not self.active or self.heads is None or len(self.names) < 2:
            return dict(losses)
        if self.epoch >= self.config.warm_up:
            self._measure(batch if whole is None else whole, module.model)
        remixing, own = self._remixing, {}
        for name, values in self.heads.utterance_losses(outputs, batch).items():
            here = batch.present[name]
            # the mean over all utterances of the loss of the head shown; a mean for each head in the warm-up
            own[f"alone/{name}"] = (
                (values * here).mean() if remixing else self.config.unimodal * present_mean(values, here)
            )
        return dict(losses) | own

    def _measure(self, batch: Batch, model: Any) -> None:
        assert self.heads is not None
        rows = _row_numbers(batch)
        with evaluating(model):
            logits = self.heads.logits(model.network(batch))
            values = torch.stack([surety(logits[name].float()) for name in self.names])
            flags = torch.stack([batch.present[name] for name in self.names])
            self._measured.append((rows, values.masked_fill(~flags, math.inf).T))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what was measured, and add the epoch to the history."""
        if self._measured:
            rows, values = (torch.cat(parts) for parts in zip(*self._measured, strict=True))
            if trainer.world_size > 1:
                gathered: list[Any] = [None] * trainer.world_size
                torch.distributed.all_gather_object(gathered, (rows.cpu(), values.cpu()))
                rows, values = (torch.cat(parts) for parts in zip(*gathered, strict=True))
            self.rows, order = rows.sort(stable=True)
            self.values, self._measured = values[order], []
            shown = remixed(self.values.T, self.values.T.isfinite(), self.config.shown).float().mean(1)
            self.count({f"shown/{name}": value for name, value in zip(self.names, shown.tolist(), strict=True)})
        super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return super().state_dict() | {"epochs": self.epoch, "rows": self.rows.cpu(), "values": self.values.cpu()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        super().load_state_dict(state_dict)
        self.epoch, self.rows, self.values = int(state_dict["epochs"]), state_dict["rows"], state_dict["values"]


def _row_numbers(batch: Batch) -> Tensor:
    if batch.rows is None:
        raise PaSEError(
            "remix keeps numbers per training row and needs batches with row numbers (`Batch.rows`), which a streamed "
            "table does not have; leave training.shuffle_buffer out."
        )
    return batch.rows


def build(config: Config) -> DataRemixing:
    """The plug-in's entry point."""
    return DataRemixing(config)
