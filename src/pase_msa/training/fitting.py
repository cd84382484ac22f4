"""`fit`: a prepared run goes through all its epochs, with or without a run folder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

import lightning
import torch
from lightning import Callback
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from pase_msa.balancing.base import BalancingMethod
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.encoders.precision import has_bfloat16
from pase_msa.errors import PaSEError
from pase_msa.models.base import Model
from pase_msa.optional import installed
from pase_msa.parallel import threads
from pase_msa.task import Task
from pase_msa.training.averaging import WeightAverage
from pase_msa.training.callbacks import BestWeights, EpochLog, Patience, WholeCheckpoints, checkpoints
from pase_msa.training.config import RunConfig
from pase_msa.training.data_module import SentimentData
from pase_msa.training.module import SentimentModule
from pase_msa.training.phases import DualPhase
from pase_msa.training.run_folder import RunFolder
from pase_msa.training.selection import monitored_metric
from pase_msa.training.trainer import build_trainer, quiet_lightning

if TYPE_CHECKING:
    from pase_msa.data.streaming import UtteranceStream

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Prepared:
    """What a run trains: the model, with the datasets and the balancing method that it is trained with.

    Where `stream` is there, it gives the batches of training, and `train` is a sample of what it reads.
    """

    task: Task
    model: Model
    balancing: BalancingMethod
    train: UtteranceDataset
    valid: UtteranceDataset
    stream: UtteranceStream | None = None


def fit(
    config: RunConfig,
    prepared: Prepared,
    folder: RunFolder | None,
    *,
    progress: bool,
    resume: bool = False,
    extra: Sequence[Callback] = (),
) -> tuple[lightning.Trainer, DualPhase]:
    """Run the trainer over all epochs.

    Args:
        config: the run.
        prepared: what it trains on; the model is trained in place.
        folder: for logs and checkpoints. Without one nothing is written, and the model ends with the weights of its
            best epoch.
        progress: whether to show a progress bar.
        resume: whether to go on from the folder's last checkpoint.
        extra: further callbacks.

    Returns:
        The trainer, and the callback of the dual-phase rule.
    """
    metric, mode = monitored_metric(config, prepared.task)
    phases = DualPhase(config.phases, metric, mode)
    patience = Patience(metric, mode=mode, patience=config.training.patience, check_on_train_epoch_end=True)
    selection = _selection(folder, metric, mode)
    bar = [RichProgressBar(leave=False)] if progress else []
    averaging = [WeightAverage(config.training.averaging)] if config.training.averaging else []
    callbacks = [*averaging, phases, prepared.balancing, EpochLog(), patience, *extra, *selection, *bar]
    module = SentimentModule(
        prepared.model, config.training, prepared.balancing, seed=config.seed, convention=config.convention
    )
    with quiet_lightning():
        trainer = build_trainer(
            config.training,
            callbacks=callbacks,
            logger=loggers(folder),
            plugins=[WholeCheckpoints()],
            enable_checkpointing=folder is not None,
            enable_progress_bar=progress,
            reload_dataloaders_every_n_epochs=int(prepared.stream is not None),  # a loader is of one epoch
        )
        _refuse_row_state_in_parts(prepared.model, trainer)
        prepared.model.mixed_precision = mixed_precision(config, trainer)
        checkpoint = str(folder.last) if folder is not None and resume else None
        # the checkpoint is one of our own and holds the plain state of the callbacks too, not weights alone
        trainer.fit(module, _data_module(config, prepared), ckpt_path=checkpoint, weights_only=False)
    prepared.model.mixed_precision = False  # predictions are in single precision
    if trainer.interrupted:
        raise KeyboardInterrupt
    for callback in selection:
        if isinstance(callback, BestWeights):
            callback.restore(prepared.model)
    return trainer, phases


def _refuse_row_state_in_parts(model: Model, trainer: lightning.Trainer) -> None:
    """Each process would see, and keep the state of, a part of the rows only, and another part in each epoch."""
    if trainer.world_size > 1 and (model.row_state is not None or model.conversations):
        what = "reads whole conversations" if model.conversations else "keeps a state per training row"
        raise PaSEError(
            f"The model {model.recipe['name']!r} {what} and trains in one process, found {trainer.world_size}; set "
            "training.devices to 1."
        )


def _selection(folder: RunFolder | None, metric: str, mode: Literal["min", "max"]) -> list[Callback]:
    """Callbacks that keep the best epoch's weights: in checkpoints, or in memory where there is no folder."""
    return [BestWeights(metric, mode)] if folder is None else checkpoints(folder.checkpoints, metric, mode)


def loggers(folder: RunFolder | None) -> list[Logger]:
    """CSV, and TensorBoard where it is installed, in the run folder; one version per session."""
    if folder is None:
        return []
    csv = CSVLogger(str(folder.path), name="logs")
    if not installed("tensorboard"):
        return [csv]
    return [csv, TensorBoardLogger(str(folder.path), name="logs", version=csv.version)]


def _data_module(config: RunConfig, prepared: Prepared) -> SentimentData:
    """Loaders over the training and the validation utterances."""
    options = config.training
    grouped = options.group_by_length
    if grouped is None:
        grouped = fine_tunes(prepared.model) and prepared.stream is None
    return SentimentData(
        prepared.train,
        prepared.valid.subsample(options.validation_limit, config.seed),
        batch_size=options.batch_size,
        seed=config.seed,
        group_by_length=grouped,
        workers=options.workers,
        stream=prepared.stream,
    )


def mixed_precision(config: RunConfig, trainer: lightning.Trainer) -> bool:
    """Whether encoders compute in bfloat16 on the trainer's device."""
    device, asked = trainer.strategy.root_device.type, config.training.precision
    mixed = asked == "bf16-mixed" or (asked == "auto" and has_bfloat16(device))
    if mixed and device == "cpu":
        _note_slow_bfloat16()
    return mixed


def _note_slow_bfloat16() -> None:
    """Say so where the processor is known to have no instructions for bfloat16."""
    ask = getattr(torch.cpu, "get_capabilities", dict)  # older versions of torch cannot tell
    there: Mapping[str, object] = ask()
    if "amx_bf16" in there and not (there["amx_bf16"] or there.get("avx512_bf16")):
        _log.warning(
            "bf16-mixed is slower than 32-true on this processor, which has no instructions for bfloat16 (AMX or "
            "AVX512-BF16)"
        )


def run_threads(config: RunConfig, model: Model) -> AbstractContextManager[None]:
    """The number of torch threads that suits the model, for a while."""
    return threads(config.training.threads or (None if fine_tunes(model) else 1))


def fine_tunes(model: Model) -> bool:
    """Whether a language model is among what is trained."""
    return any(spec.encoder == "language_model" for spec in model.inputs.values())
