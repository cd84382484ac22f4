"""`train`: a configuration becomes a run folder."""

from __future__ import annotations

import copy
import logging
import time
from functools import partial
from typing import Any

import lightning
import torch
from lightning import Callback

from pase_msa import plugins
from pase_msa.balancing.base import BalancingMethod, LossMeasurement, Preparation
from pase_msa.data.inputs import describe_data
from pase_msa.data.opening import open_data
from pase_msa.data.problem import Problem
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.files import write_json
from pase_msa.heldout.diagnose import diagnose_problem
from pase_msa.metrics import task_metrics
from pase_msa.models.base import Model, build_model
from pase_msa.task import Task
from pase_msa.training.config import RunConfig
from pase_msa.training.environment import environment
from pase_msa.training.fitting import Prepared, fit, run_threads
from pase_msa.training.naming import default_folder
from pase_msa.training.phases import DualPhase
from pase_msa.training.results import calibrate, run_modality_report
from pase_msa.training.run_folder import RunFolder
from pase_msa.training.selection import monitored_metric
from pase_msa.training.trainer import build_trainer, quiet_lightning
from pase_msa.training.unimodal import measure_unimodal, train_unimodal

_log = logging.getLogger(__name__)


def prepare(config: RunConfig, table: FeatureTable) -> Prepared:
    """The datasets, the untrained model and the balancing method of a run.

    Reads the training and the validation split, never the test split. Sets the global random state to the run's seed.

    Errors:
        PaSEError: data or options do not fit.
    """
    problem = Problem.from_table(table, config.problem)
    lightning.seed_everything(config.seed, verbose=False)
    model = _untrained_model(config, problem)
    balancing = build_balancing(config.balancing, model.balancing)
    _check_utility(balancing, model)
    balancing.prepare(
        Preparation(
            problem.task,
            model,
            partial(diagnose_problem, problem),
            partial(_measure_unimodal, config, problem),
            partial(_train_unimodal, config, problem),
        )
    )
    # the closed-form reference reads features, which a problem with a fine-tuned language model does not have
    if balancing.diagnosis is not None and not problem.fine_tunes:
        model.reference = copy.deepcopy(balancing.diagnosis.reference)
    return Prepared(problem.task, model, balancing, problem.train, problem.valid)


def _untrained_model(config: RunConfig, problem: Problem) -> Model:
    """The model with initial weights, and with scalers and class prior of the training split."""
    options = {key: value for key, value in config.model.items() if key != "name"}
    model = build_model(config.model.get("name", "pase"), problem.task, problem.inputs, options)
    model.extraction = problem.table.meta.get("extraction")
    model.fit_scalers(problem.columns, problem.train.rows.tolist())
    model.fit_prior(problem.train.targets())
    model.fit_rows(torch.from_numpy(problem.train.rows), problem.train.targets())
    # a model that reads conversations has batches of whole videos
    problem.train.whole_videos = problem.valid.whole_videos = model.conversations
    return model


def _check_utility(balancing: BalancingMethod, model: Model) -> None:
    """Refuse a balancing method that grades coalitions by losses that the model does not have."""
    if getattr(balancing, "utility", None) == "alignment" and type(model).coalition_utility is Model.coalition_utility:
        raise PaSEError(
            f"The model {model.recipe['name']!r} has no alignment losses to grade coalitions by (eq. 19); take "
            "--balancing.utility prediction, or --balancing held_out."
        )


def _measure_unimodal(
    config: RunConfig, problem: Problem, coalition: frozenset[str], epochs: int
) -> tuple[LossMeasurement, LossMeasurement]:
    """Losses before and after a training run on the modalities of a coalition."""
    modalities = [name for name in problem.task.modalities if name in coalition]
    return measure_unimodal(config, modalities, epochs, partial(_train_in_memory, problem.table))


def _train_unimodal(config: RunConfig, problem: Problem, coalition: frozenset[str], epochs: int) -> Model:
    """A model of the same kind that was trained on the modalities of a coalition."""
    modalities = [name for name in problem.task.modalities if name in coalition]
    return train_unimodal(config, modalities, epochs, partial(_train_in_memory, problem.table))


def _train_in_memory(table: FeatureTable, config: RunConfig, *callbacks: Callback) -> Model:
    """Train a run with further callbacks; nothing is written. The model ends with the weights of its best epoch."""
    prepared = prepare(config, table)
    with run_threads(config, prepared.model):
        fit(config, prepared, None, progress=False, extra=callbacks)
    return prepared.model


def build_balancing(options: dict[str, Any], default: str = "none") -> BalancingMethod:
    """A balancing method from its plug-in name and options; `default` is the name where the options have none."""
    name = str(options.get("name") or default)
    module = plugins.load("balancing", name)
    rest = {key: value for key, value in options.items() if key != "name"}
    built: BalancingMethod = module.build(plugins.configure(module.Config, rest, f"The balancing method {name}"))
    return built


def train(config: RunConfig, *, progress: bool = True, table: FeatureTable | None = None) -> RunFolder:
    """Train a model, select the epoch on validation, and save it in a run folder.

    A run that was cut short is resumed from its last complete epoch when the same command is given again. It ends with
    the same weights as a run that was not cut short.

    Args:
        config: the run.
        progress: whether to show a progress bar.
        table: the data, if they are in memory already.

    Errors:
        PaSEError: data or options do not fit (nothing is written then), or the folder holds a finished run or another
            one.
    """
    table = table if table is not None else open_data(config.data)
    prepared = prepare(config, table)
    _check_before_writing(config, prepared.task)
    folder, resumed = _start_folder(config, table)
    began = time.perf_counter()
    with run_threads(config, prepared.model):
        trainer, phases = fit(config, prepared, folder, progress=progress, resume=resumed)
        save_results(config, prepared, folder, trainer, phases, time.perf_counter() - began)
    return folder


def _check_before_writing(config: RunConfig, task: Task) -> None:
    """Refuse a metric or hardware that is not there while the run folder does not exist yet."""
    monitored_metric(config, task)
    with quiet_lightning():
        build_trainer(config.training, logger=False, enable_checkpointing=False, enable_progress_bar=False)


def _start_folder(config: RunConfig, table: FeatureTable) -> tuple[RunFolder, bool]:
    """The run folder with its configuration and the description of the data, and whether the run is resumed there."""
    data = describe_data(table, config.data)
    folder = RunFolder(config.out or default_folder(config, data))
    options = {**config.to_dict(), "data": data["path"], "out": str(folder.path)}
    resumed = folder.start(options, data, environment())
    if resumed:
        _log.info("resuming %s from its last complete epoch", folder.path)
    return folder, resumed


def save_results(
    config: RunConfig,
    prepared: Prepared,
    folder: RunFolder,
    trainer: lightning.Trainer,
    phases: DualPhase,
    seconds: float,
) -> None:
    """Take the best epoch's weights, calibrate the confidence, save the model, and write the results."""
    model, batch_size = prepared.model, config.training.batch_size
    best = _load_best_weights(model, folder)
    logits, labels = calibrate(model, prepared.valid, batch_size)
    if trainer.is_global_zero:  # the first of several processes writes for all
        probabilities = logits.softmax(1)
        score = prepared.task.score(probabilities) if prepared.task.kind == "regression" else None
        model.save_pretrained(folder.model)
        report = run_modality_report(
            model, prepared.balancing, prepared.train, prepared.valid, epoch=best, batch_size=batch_size
        )
        write_json(
            folder.results,
            {
                "status": "complete",
                "epochs": trainer.current_epoch,
                "best_epoch": best,
                "seconds": round(seconds, 2),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "phases": {"switched_at": phases.switched_at, "guarded_at": phases.guarded_at},
                "balancing": getattr(prepared.balancing, "history", []),
                "validation": task_metrics(prepared.task, probabilities, score, labels, config.convention),
                **({} if report is None else {"modality_report": report}),
            },
        )
    trainer.strategy.barrier()  # the callers in the other processes read what the first one has written


def _load_best_weights(model: Model, folder: RunFolder) -> int:
    """Give the model the weights of its best epoch, and return the number of that epoch."""
    checkpoint = torch.load(folder.best, map_location="cpu", weights_only=False)
    # the checkpoint holds the whole Lightning module; the model is one attribute of it
    weights = {
        name.removeprefix("model."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("model.")
    }
    model.load_state_dict(weights)
    return int(checkpoint["epoch"])
