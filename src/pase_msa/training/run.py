"""`train`: a configuration becomes a run folder."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning import Callback
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from pase_msa import plugins
from pase_msa.balancing.base import BalancingMethod, LossMeasurement, Preparation
from pase_msa.calibration import fit_temperature
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader, make_dataset
from pase_msa.data.inputs import (
    choose_label,
    choose_modalities,
    describe_data,
    describe_inputs,
    encode_labels,
    infer_task,
    load_columns,
)
from pase_msa.data.opening import open_data
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.files import write_json
from pase_msa.heldout.diagnose import diagnose_datasets
from pase_msa.heldout.modality_report import modality_report
from pase_msa.metrics import headline, task_metrics
from pase_msa.models.base import Model, build_model
from pase_msa.parallel import threads
from pase_msa.task import Task
from pase_msa.training.callbacks import BestWeights, LossBeforeAfter, Patience, WholeCheckpoints, checkpoints
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.data_module import SentimentData
from pase_msa.training.environment import environment
from pase_msa.training.module import EpochLog, SentimentModule
from pase_msa.training.phases import DualPhase
from pase_msa.training.run_folder import RunFolder
from pase_msa.training.unimodal import unimodal_config

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Prepared:
    """Everything that a run trains on."""

    task: Task
    model: Model
    balancing: BalancingMethod
    train: UtteranceDataset
    valid: UtteranceDataset


def prepare(config: RunConfig, table: FeatureTable) -> Prepared:
    """Task, untrained model and datasets. Reads the training and the validation split, never the test split."""
    table.check_splits()
    modalities = choose_modalities(table, config.modalities, config.text)
    task = infer_task(table, modalities, choose_label(table, config.label), config.kind, config.num_classes)
    if not len(table.rows("valid")):
        raise PaSEError("The data have no validation split (split 'valid'), which selects the epoch; mark one.")
    inputs = describe_inputs(table, modalities, config.text, config.encoders)
    columns = load_columns(table, inputs)
    used = np.flatnonzero(np.isin(table.splits, ("train", "valid")))
    labels = encode_labels(table, task, used)
    train = make_dataset(table, columns, table.rows("train"), labels)
    valid = make_dataset(table, columns, table.rows("valid"), labels)
    for name, dataset in (("training", train), ("validation", valid)):
        if not len(dataset):
            raise PaSEError(f"No {name} utterance has both a label {task.label!r} and a modality; check the data.")
    for name in task.modalities:
        if not columns[name].present[train.rows].any():
            raise PaSEError(f"No training utterance has the modality {name!r}; leave it out of --modalities.")
    lightning.seed_everything(config.seed, verbose=False)
    options = {key: value for key, value in config.model.items() if key != "name"}
    model = build_model(config.model.get("name", "pase"), task, inputs, options)
    model.extraction = table.meta.get("extraction")
    model.fit_scalers(columns, train.rows.tolist())
    model.fit_prior(torch.from_numpy(labels[train.rows]).float())
    balancing = build_balancing(config.balancing, model.balancing)
    if getattr(balancing, "utility", None) == "alignment" and type(model).coalition_utility is Model.coalition_utility:
        raise PaSEError(
            f"The model {model.recipe['name']!r} has no alignment losses to grade coalitions by (eq. 19); take "
            "--balancing.utility prediction, or --balancing held_out."
        )
    balancing.prepare(
        Preparation(
            task,
            model,
            lambda: diagnose_datasets(task, *_readable(config, table, task, train, valid)),
            lambda coalition, epochs: _train_unimodal(config, table, task, coalition, epochs),
        )
    )
    if balancing.diagnosis is not None and all(column.dim for column in columns.values()):
        model.reference = copy.deepcopy(balancing.diagnosis.reference)
    return Prepared(task, model, balancing, train, valid)


def _readable(
    config: RunConfig, table: FeatureTable, task: Task, train: UtteranceDataset, valid: UtteranceDataset
) -> tuple[UtteranceDataset, UtteranceDataset]:
    """The datasets for a diagnosis, which wants features: frozen states where the run fine-tunes their encoder."""
    if all(column.dim for column in train.columns.values()):
        return train, valid
    frozen = dataclasses.replace(config.text, frozen=True)
    columns = load_columns(table, describe_inputs(table, task.modalities, frozen))
    return (
        UtteranceDataset(columns, train.rows, train.videos, train.labels),
        UtteranceDataset(columns, valid.rows, valid.videos, valid.labels),
    )


def _train_unimodal(
    config: RunConfig, table: FeatureTable, task: Task, coalition: frozenset[str], epochs: int
) -> tuple[LossMeasurement, LossMeasurement]:
    """Train on some of the modalities alone; the losses before and after."""
    short = unimodal_config(config, [name for name in task.modalities if name in coalition], epochs)
    _log.info("training %s alone beforehand", "+".join(short.modalities or []))
    prepared = prepare(short, table)
    ends = LossBeforeAfter(prepared.train, prepared.valid, config.training.batch_size)
    with threads(config.training.threads or (None if fine_tunes(prepared.model) else 1)):
        fit(short, prepared, None, progress=False, extra=[ends])
    before, after = ends.found
    return before, after


def build_balancing(options: dict[str, Any], default: str = "none") -> BalancingMethod:
    """A balancing method by its plug-in name."""
    name = str(options.get("name") or default)
    module = plugins.load("balancing", name)
    rest = {key: value for key, value in options.items() if key != "name"}
    built: BalancingMethod = module.build(plugins.configure(module.Config, rest, f"The balancing method {name}"))
    return built


def train(config: RunConfig, *, progress: bool = True, table: FeatureTable | None = None) -> RunFolder:
    """Train, select the epoch on validation, and save the model.

    A run that was cut short goes on from its last complete epoch when the same command is given again, and ends with
    the same weights as one that was not.

    Args:
        config: the run.
        progress: show a progress bar.
        table: the data, if they are in memory already.

    Errors:
        PaSEError: data or options do not fit; nothing is written then.
    """
    table = table if table is not None else open_data(config.data)
    prepared = prepare(config, table)
    # both refuse before anything is written
    monitored(config, prepared.task)
    with quiet():
        make_trainer(config.training, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data = describe_data(table, config.data)
    folder = RunFolder(config.out or default_folder(config, data))
    plain = {**config.to_dict(), "data": data["path"], "out": str(folder.path)}
    resumed = folder.start(plain, data, environment())
    if resumed:
        _log.info("resuming %s from its last complete epoch", folder.path)
    began = time.perf_counter()
    with threads(config.training.threads or (None if fine_tunes(prepared.model) else 1)):
        trainer, phases = fit(config, prepared, folder, progress=progress, resume=resumed)
        save_results(config, prepared, folder, trainer, phases, time.perf_counter() - began)
    return folder


def fine_tunes(model: Model) -> bool:
    """Whether a language model is among what is trained."""
    return any(spec.encoder == "language_model" for spec in model.inputs.values())


def default_folder(config: RunConfig, data: dict[str, Any]) -> Path:
    """runs/DATA-MODEL-seedN."""
    return Path("runs") / f"{data['source']}-{config.model.get('name', 'pase')}-seed{config.seed}"


def monitored(config: RunConfig, task: Task) -> tuple[str, str]:
    """The validation metric that selects the epoch, and whether "min" or "max" is good."""
    if config.training.monitor == "auto":
        name, mode = headline(task)
        return f"val/{name}", mode
    name = config.training.monitor.removeprefix("val/")
    labels = torch.arange(task.num_classes) if task.values is None else torch.tensor(task.values)
    scores = labels if task.kind == "regression" else None
    known = {*task_metrics(task, torch.eye(task.num_classes), scores, labels, config.convention), "entropy", "nll"}
    if name not in known - {"per_class"}:
        raise PaSEError(f"training.monitor names a validation metric: auto, {', '.join(sorted(known))}; not {name!r}.")
    return f"val/{name}", "min" if name in ("mae", "nll", "entropy") else "max"


def fit(
    config: RunConfig,
    prepared: Prepared,
    folder: RunFolder | None,
    *,
    progress: bool,
    resume: bool = False,
    extra: list[Callback] | None = None,
) -> tuple[lightning.Trainer, DualPhase]:
    """Run the trainer; without a folder nothing is written and the model ends with its best epoch's weights."""
    monitor, mode = monitored(config, prepared.task)
    options = config.training
    phases = DualPhase(config.phases, monitor, mode)  # type: ignore[arg-type]
    callbacks: list[Callback] = [
        phases,
        prepared.balancing,
        EpochLog(),
        Patience(monitor, mode=mode, patience=options.patience, check_on_train_epoch_end=True),
        *(extra or []),
    ]
    loggers: list[Any] = []
    best = BestWeights(monitor, mode) if folder is None else None  # type: ignore[arg-type]
    if best is not None:
        callbacks.append(best)
    if folder is not None:
        callbacks += checkpoints(folder.checkpoints, monitor, mode)  # type: ignore[arg-type]
        csv = CSVLogger(str(folder.path), name="logs")
        loggers = [csv, TensorBoardLogger(str(folder.path), name="logs", version=csv.version)]
    if progress:
        callbacks.append(RichProgressBar(leave=False))
    grouped = fine_tunes(prepared.model) if options.group_by_length is None else options.group_by_length
    data = SentimentData(
        prepared.train,
        prepared.valid,
        batch_size=options.batch_size,
        seed=config.seed,
        group_by_length=grouped,
        workers=options.workers,
    )
    module = SentimentModule(
        prepared.model, options, prepared.balancing, seed=config.seed, convention=config.convention
    )
    with quiet():
        trainer = make_trainer(
            options,
            callbacks=callbacks,
            logger=loggers,
            plugins=[WholeCheckpoints()],
            enable_checkpointing=folder is not None,
            enable_progress_bar=progress,
        )
        checkpoint = str(folder.last) if folder is not None and resume else None
        # our own checkpoint of a moment ago holds the callbacks' plain state too
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=False)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if best is not None:
        best.restore(prepared.model)
    return trainer, phases


def make_trainer(options: TrainingConfig, **rest: Any) -> lightning.Trainer:
    """Lightning's trainer, or a sentence where the hardware that is asked for is not there."""

    def build(**strategy: Any) -> lightning.Trainer:
        return lightning.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            precision=options.precision,  # type: ignore[arg-type]
            max_epochs=options.epochs,
            gradient_clip_val=options.gradient_clip or None,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            log_every_n_steps=1_000_000,
            **rest,
            **strategy,
        )

    try:
        trainer = build()
        # a modality that nobody of a process's batch has is not encoded, and what is one step long is not pooled
        return trainer if trainer.world_size == 1 else build(strategy="ddp_find_unused_parameters_true")
    except (ValueError, MisconfigurationException) as error:
        raise PaSEError(f"training.accelerator, devices or precision do not go here: {error}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lightning's hints and torch's notes on loaders are no user's business here."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def save_results(
    config: RunConfig,
    prepared: Prepared,
    folder: RunFolder,
    trainer: lightning.Trainer,
    phases: DualPhase,
    seconds: float,
) -> None:
    """Take the best epoch's weights, fit the confidence on validation, save, and write the results."""
    checkpoint = torch.load(folder.best, map_location="cpu", weights_only=False)
    weights = {
        name.removeprefix("model."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("model.")
    }
    model = prepared.model
    model.load_state_dict(weights)
    logits, labels = calibrate(prepared, config.training.batch_size)
    probabilities = logits.softmax(1)
    score = prepared.task.score(probabilities) if prepared.task.kind == "regression" else None
    if trainer.is_global_zero:
        best = int(checkpoint["epoch"])
        model.save_pretrained(folder.model)
        stood = run_modality_report(prepared, best, config.training.batch_size)
        write_json(
            folder.results,
            {
                "status": "complete",
                "epochs": trainer.current_epoch,
                "best_epoch": best,
                "seconds": round(seconds, 2),
                "parameters": sum(p.numel() for p in model.parameters()),
                "phases": {"switched_at": phases.switched_at, "guarded_at": phases.guarded_at},
                "balancing": getattr(prepared.balancing, "history", []),
                "validation": task_metrics(prepared.task, probabilities, score, labels, config.convention),
                **({} if stood is None else {"modality_report": stood}),
            },
        )
    trainer.strategy.barrier()  # the other processes' callers look for what the first one has written


def run_modality_report(prepared: Prepared, epoch: int | None, batch_size: int) -> dict[str, Any] | None:
    """What became of every modality, where the balancing method asked for a diagnosis.

    Args:
        prepared: with the trained model, on the CPU.
        epoch: the one that was selected.
        batch_size: utterances a pass.
    """
    diagnosis = prepared.balancing.diagnosis
    if diagnosis is None:
        return None
    rows = {row["epoch"]: row for row in getattr(prepared.balancing, "history", [])}
    row = rows.get(epoch, {"active": False})
    rates = row["phi"] if row["active"] else {}
    return modality_report(
        prepared.model, diagnosis, prepared.train, prepared.valid, rates=rates, batch_size=batch_size
    )


def calibrate(prepared: Prepared, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring the trained model to the CPU and fit its confidence on validation; returns logits [N, K] and labels [N]."""
    model = prepared.model.cpu().eval()
    logits, labels = validate(model, prepared.valid, batch_size)
    model.temperature.fill_(fit_temperature(prepared.task, logits, labels))
    return logits, labels


@torch.inference_mode()
def validate(model: Model, dataset: UtteranceDataset, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, K] and labels [N]."""
    logits, labels = [], []
    for batch in evaluation_loader(dataset, batch_size):
        logits.append(model(batch).logits.float())
        assert batch.labels is not None
        labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)
