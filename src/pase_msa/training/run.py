"""`train`: a configuration becomes a run folder."""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from lightning import Callback
from torch import nn

from pase_msa import plugins
from pase_msa.balancing.base import BalancingMethod, LossMeasurement, Preparation
from pase_msa.cards.card import model_card, write_card
from pase_msa.data.inputs import describe_data
from pase_msa.data.leaks import refuse_leaks
from pase_msa.data.opening import open_data, training_part
from pase_msa.data.problem import Problem
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.files import check_out, write_json, writing
from pase_msa.heldout.diagnose import diagnose_problem
from pase_msa.heldout.diagnosis import Diagnosis
from pase_msa.metrics import resolve_convention, task_metrics
from pase_msa.models.base import Model, build_model
from pase_msa.models.saving import read_description
from pase_msa.training.config import RunConfig
from pase_msa.training.environment import environment
from pase_msa.training.fitting import Prepared, fit, run_threads
from pase_msa.training.naming import default_folder
from pase_msa.training.phases import DualPhase
from pase_msa.training.processes import computed_once, rank
from pase_msa.training.results import calibrate, run_facts, run_modality_report
from pase_msa.training.run_folder import RunFolder
from pase_msa.training.selection import monitored_metric
from pase_msa.training.trainer import build_trainer, check_hardware, quiet_lightning
from pase_msa.training.unimodal import measure_unimodal, train_unimodal

if TYPE_CHECKING:
    from pase_msa.data.streaming import UtteranceStream

_log = logging.getLogger(__name__)
_FEW_UTTERANCES, _FEW_VIDEOS = 12, 4


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
            partial(_diagnose, config, problem),
            partial(_measure_unimodal, config, problem),
            partial(_train_unimodal, config, problem),
        )
    )
    # the closed-form reference reads features, which a problem with a fine-tuned language model does not have
    if balancing.diagnosis is not None and not problem.fine_tunes:
        model.reference = copy.deepcopy(balancing.diagnosis.reference)
    return Prepared(problem.task, model, balancing, problem.train, problem.valid, _stream(config, problem, model))


def _stream(config: RunConfig, problem: Problem, model: Model) -> UtteranceStream | None:
    """The training split of a sharded table, where it is streamed; the problem holds a sample of it then."""
    training, table = config.training, problem.table
    if training.shuffle_buffer is None:
        return None
    from pase_msa.data.streaming import UtteranceStream  # only here: most runs do not stream

    if table.streamed is None:
        raise PaSEError("training.shuffle_buffer streams a sharded table, found one in memory; give its address.")
    if model.row_state is not None or model.conversations or training.group_by_length:
        what = "group_by_length sorts" if training.group_by_length else f"The model {model.recipe['name']!r} needs"
        raise PaSEError(
            f"{what} all training utterances, which a run with training.shuffle_buffer never has at once; leave one "
            "of the two out."
        )
    return UtteranceStream(
        table.streamed,
        problem.task,
        problem.inputs,
        batch_size=training.batch_size,
        buffer=training.shuffle_buffer,
        seed=config.seed,
    )


def _diagnose(config: RunConfig, problem: Problem) -> Diagnosis:
    """The diagnosis of a run's data; of processes that one starts, only that one makes it."""
    others = _trial_trainer(config).world_size > 1
    # what is in memory only, such as the samples of an estimator, hardly comes again
    keep = config.data is not None
    return computed_once(partial(diagnose_problem, problem, keep=keep), "diagnosis", starts_others=others)


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
    if config.out:
        check_out(config.out, folder=True)
        RunFolder(config.out).check_free()
    check_hardware(config.training)
    if table is None:
        table = open_data(config.data, config.split, config.label, training_part(config.to_dict()))
    prepared = prepare(config, table)
    if not config.allow_leaks:
        sources = [str(spec.context["of"]) for spec in prepared.model.inputs.values() if spec.context is not None]
        refuse_leaks(table, [*prepared.task.modalities, *sources])
    _check_before_writing(config, prepared)
    data = describe_data(table, config.data)
    folder = RunFolder(config.out or default_folder(config, data))
    # of several processes that train one run, the first holds the folder
    hold = contextlib.nullcontext() if rank() else folder.locked()
    with hold, writing(folder.path):
        resumed = _start_folder(config, folder, data)
        _warn_of_few(prepared)
        began = time.perf_counter()
        with run_threads(config, prepared.model):
            trainer, phases = fit(config, prepared, folder, progress=progress, resume=resumed)
            save_results(config, prepared, folder, trainer, phases, time.perf_counter() - began)
    return folder


def _warn_of_few(prepared: Prepared) -> None:
    """Say that what is measured on a small validation split means little."""
    valid = prepared.valid
    videos = len(np.unique(valid.videos[valid.rows]))
    if not rank() and (len(valid) < _FEW_UTTERANCES or videos < _FEW_VIDEOS):
        _log.warning(
            "the validation split has %d utterances of %d videos; it selects the epoch and the weights of the "
            "modalities, and what is measured on so few means little: label more",
            len(valid),
            videos,
        )


def _check_before_writing(config: RunConfig, prepared: Prepared) -> None:
    """Refuse a metric, hardware or number of processes that does not fit while the run folder does not exist yet."""
    monitored_metric(config, prepared.task)
    processes, utterances = _trial_trainer(config).world_size, min(len(prepared.train), len(prepared.valid))
    if processes > utterances:
        raise PaSEError(
            f"{processes} processes want as many training and validation utterances, found {utterances}; lower "
            "--training.devices."
        )


def _trial_trainer(config: RunConfig) -> lightning.Trainer:
    """A trainer that trains nothing: what the options make of the hardware."""
    with quiet_lightning():
        return build_trainer(config.training, logger=False, enable_checkpointing=False, enable_progress_bar=False)


def _start_folder(config: RunConfig, folder: RunFolder, data: dict[str, Any]) -> bool:
    """Write configuration and description of the data; whether the run is resumed there."""
    options = {**config.to_dict(), "data": data["path"], "out": str(folder.path)}
    if rank() and _trial_trainer(config).world_size > 1:  # the first one begins the folder
        return folder.last.is_file()
    resumed = folder.start(options, data, environment())
    if resumed:
        _log.info("resuming %s from its last complete epoch", folder.path)
    return resumed


def save_results(
    config: RunConfig,
    prepared: Prepared,
    folder: RunFolder,
    trainer: lightning.Trainer,
    phases: DualPhase,
    seconds: float,
) -> None:
    """Take the best epoch's weights, calibrate the confidence, save the model, and write the results."""
    best = load_best_weights(prepared.model, folder)
    ends = {"switched_at": phases.switched_at, "guarded_at": phases.guarded_at}
    write_results(config, prepared, folder, trainer, ends, best, seconds)


def write_results(
    config: RunConfig,
    prepared: Prepared,
    folder: RunFolder,
    trainer: lightning.Trainer,
    phases: dict[str, int | None],
    best: int,
    seconds: float,
) -> None:
    """Calibrate the confidence of a model that has the weights of its best epoch, save it, and write the results."""
    model, batch_size = prepared.model, config.training.batch_size
    logits, labels = calibrate(model, prepared.valid, batch_size)
    if trainer.is_global_zero:  # the first of several processes writes for all
        probabilities = logits.softmax(1)
        score = prepared.task.score(probabilities) if prepared.task.kind == "regression" else None
        model.save_pretrained(folder.model)
        report = run_modality_report(
            model, prepared.balancing, prepared.train, prepared.valid, epoch=best, batch_size=batch_size
        )
        results = {
            "status": "complete",
            "epochs": trainer.current_epoch,
            "best_epoch": best,
            "seconds": round(seconds, 2),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "phases": phases,
            "balancing": getattr(prepared.balancing, "history", []),
            "convention": resolve_convention(prepared.task, config.convention),
            "validation": task_metrics(prepared.task, probabilities, score, labels, config.convention),
            **({} if report is None else {"modality_report": report}),
        }
        write_card(folder.model, model_card(read_description(folder.model), run_facts(folder, results)))
        write_json(folder.results, results)  # last, since it marks the run as finished
    trainer.strategy.barrier()  # the callers in the other processes read what the first one has written


def load_best_weights(model: nn.Module, folder: RunFolder) -> int:
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
