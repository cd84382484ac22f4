"""`train_targets`: a configuration with several labels becomes a run folder with one folder per target."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import RichProgressBar

from pase_msa.balancing.base import BalancingMethod
from pase_msa.balancing.held_out import HeldOutBalancing
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.data.inputs import describe_data
from pase_msa.data.leaks import refuse_leaks
from pase_msa.data.opening import open_data
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.files import check_out, write_json, write_text, writing
from pase_msa.metrics import headline, task_metrics
from pase_msa.targets.module import SELECTION, TargetModels, TargetsBalancing, TargetsModule
from pase_msa.targets.names import folder_names, target_names, write_targets
from pase_msa.training.averaging import WeightAverage
from pase_msa.training.callbacks import Patience, WholeCheckpoints, checkpoints
from pase_msa.training.config import RunConfig
from pase_msa.training.data_module import SentimentData
from pase_msa.training.environment import environment
from pase_msa.training.fitting import Prepared, fine_tunes, loggers, mixed_precision, run_threads
from pase_msa.training.naming import default_folder
from pase_msa.training.run import load_best_weights, prepare, write_results
from pase_msa.training.run_folder import RunFolder
from pase_msa.training.trainer import build_trainer, check_hardware, quiet_lightning

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class PreparedTargets:
    """What a run of several targets trains.

    Attributes:
        targets: model, balancing method and datasets of each, by label.
        model: the models, which share their encoders.
        train: the utterances that have one of the labels or more; labels are [R, T], NaN where unknown.
        valid: those of the validation split.
    """

    targets: dict[str, Prepared]
    model: TargetModels
    train: UtteranceDataset
    valid: UtteranceDataset


def train_targets(config: RunConfig, *, progress: bool = True, table: FeatureTable | None = None) -> RunFolder:
    """Train one model for several labels, select one epoch for all, and save each target in a folder of its own.

    The encoders are shared; prototypes, gates, head, mixture, reference and temperature are each target's own. A run
    that was cut short is resumed, as in `train`.

    Args:
        config: the run; its label names the targets, divided by commas.
        progress: whether to show a progress bar.
        table: the data, if they are in memory already.

    Errors:
        PaSEError: data or options do not fit (nothing is written then), or the folder holds a finished run or another
            one.
    """
    names = target_names(config.label)
    _check(config, names)
    if config.out:
        check_out(config.out, folder=True)
        RunFolder(config.out).check_free()
    check_hardware(config.training)
    if table is None:
        table = open_data(config.data)
    prepared = prepare_targets(config, names, table)
    if not config.allow_leaks:
        first = prepared.model[names[0]]
        sources = [str(spec.context["of"]) for spec in first.inputs.values() if spec.context is not None]
        refuse_leaks(table, [*first.task.modalities, *sources])
    data = describe_data(table, config.data)
    folder = RunFolder(config.out or default_folder(config, data))
    with folder.locked(), writing(folder.path):
        options = {**config.to_dict(), "data": data["path"], "out": str(folder.path)}
        if resumed := folder.start(options, data, environment()):
            _log.info("resuming %s from its last complete epoch", folder.path)
        began = time.perf_counter()
        with run_threads(config, prepared.model[names[0]]):
            trainer, balancing = _fit(config, prepared, folder, progress=progress, resume=resumed)
            _save(config, prepared, folder, trainer, balancing, time.perf_counter() - began)
    return folder


def _check(config: RunConfig, names: list[str]) -> None:
    """Refuse what a run of several targets does not have, before anything is loaded."""
    if len(names) < 2:
        raise PaSEError(f"Several targets are two labels or more, found {config.label!r}; use `train` for one.")
    if config.training.monitor != "auto":
        raise PaSEError(
            "A run of several targets selects its epoch by their mean relative error; leave training.monitor out."
        )
    if config.split == "auto":
        raise PaSEError(
            "Splits that are drawn depend on the label, and several targets share theirs; write them to a table with "
            "`pase convert --split auto` first."
        )
    if config.training.shuffle_buffer is not None or str(config.training.devices) not in ("auto", "1"):
        raise PaSEError(
            "A run of several targets has its data in memory and trains in one process; leave "
            "training.shuffle_buffer and training.devices out."
        )


def prepare_targets(config: RunConfig, names: list[str], table: FeatureTable) -> PreparedTargets:
    """The datasets, the untrained models and the balancing methods of a run.

    Errors:
        PaSEError: data or options do not fit, or a model or balancing method that trains one target only.
    """
    targets: dict[str, Prepared] = {}
    for name in names:
        target = prepare(dataclasses.replace(config, label=name), table)
        _check_method(target, config)
        if targets:  # the features are the same, and need not be in memory again
            columns = next(iter(targets.values())).train.columns
            target.train, target.valid = target.train.over(columns=columns), target.valid.over(columns=columns)
        targets[name] = target
    model = TargetModels({name: target.model for name, target in targets.items()})
    train = _joined([target.train for target in targets.values()])
    valid = _joined([target.valid for target in targets.values()])
    model[names[0]].fit_scalers(train.columns, train.rows.tolist())
    return PreparedTargets(targets, model, train, valid)


def _check_method(target: Prepared, config: RunConfig) -> None:
    method, model = target.balancing, target.model
    if not (isinstance(method, HeldOutBalancing) or type(method) is BalancingMethod):
        name = config.balancing.get("name") or model.balancing
        raise PaSEError(f"Several targets are balanced by held_out or none, not {name!r}; take --balancing held_out.")
    if model.conversations or model.row_state is not None:
        what = "reads whole conversations" if model.conversations else "keeps a state per training row"
        raise PaSEError(f"The model {model.recipe['name']!r} {what} and learns one target; train each label alone.")


def _joined(parts: list[UtteranceDataset]) -> UtteranceDataset:
    """The utterances of all datasets, each once, with labels [R, T]; NaN where an utterance is not in a dataset."""
    rows = np.unique(np.concatenate([part.rows for part in parts]))
    columns = []
    for part in parts:
        assert part.labels is not None
        own = np.full(len(part.labels), np.nan)
        own[part.rows] = part.labels[part.rows]
        columns.append(own)
    joined = copy.copy(parts[0]).over(rows)
    joined.labels = np.stack(columns, axis=1)
    return joined


def constant_error(target: Prepared, config: RunConfig) -> float:
    """Error on validation of the best constant of the training split: its median score, or its largest class."""
    task, labels = target.task, target.valid.targets()
    probabilities = target.model.class_prior.repeat(len(labels), 1)
    score = target.train.targets().median().expand(len(labels)) if task.kind == "regression" else None
    name, mode = headline(task)
    value = float(task_metrics(task, probabilities, score, labels, config.convention)[name])
    return value if mode == "min" else 1.0 - value


def _fit(
    config: RunConfig, prepared: PreparedTargets, folder: RunFolder, *, progress: bool, resume: bool
) -> tuple[Any, TargetsBalancing]:
    """Run the trainer over all epochs; the models are trained in place."""
    options, targets, model = config.training, prepared.targets, prepared.model
    methods = {name: target.balancing for name, target in targets.items()}
    constants = {name: constant_error(target, config) for name, target in targets.items()}
    balancing = TargetsBalancing(methods, model, config)
    patience = Patience(SELECTION, mode="min", patience=options.patience, check_on_train_epoch_end=True)
    averaging = [WeightAverage(options.averaging)] if options.averaging else []
    bar = [RichProgressBar(leave=False)] if progress else []
    callbacks = [*averaging, balancing, patience, *checkpoints(folder.checkpoints, SELECTION, "min"), *bar]
    first = model[model.labels[0]]
    grouped = options.group_by_length
    data = SentimentData(
        prepared.train,
        prepared.valid.subsample(options.validation_limit, config.seed),
        batch_size=options.batch_size,
        seed=config.seed,
        group_by_length=fine_tunes(first) if grouped is None else grouped,
        workers=options.workers,
    )
    with quiet_lightning():
        trainer = build_trainer(
            dataclasses.replace(options, devices=1),
            callbacks=callbacks,
            logger=loggers(folder),
            plugins=[WholeCheckpoints()],
            enable_progress_bar=progress,
        )
        mixed = mixed_precision(config, trainer)
        for name in model.labels:
            model[name].mixed_precision = mixed
        module = TargetsModule(model, methods, constants, config)
        trainer.fit(module, data, ckpt_path=str(folder.last) if resume else None, weights_only=False)
        for name in model.labels:
            model[name].mixed_precision = False
    if trainer.interrupted:
        raise KeyboardInterrupt
    return trainer, balancing


def _save(
    config: RunConfig,
    prepared: PreparedTargets,
    folder: RunFolder,
    trainer: Any,
    balancing: TargetsBalancing,
    seconds: float,
) -> None:
    """Take the best epoch's weights, and save each target as a finished run of its own, in `targets`."""
    names = list(prepared.targets)
    best = load_best_weights(prepared.model, folder)
    prepared.model.cpu()
    history, validation = folder.history(), {}
    for name, part in zip(names, folder_names(names), strict=True):
        own = RunFolder(folder.path / "targets" / part)
        own.path.mkdir(parents=True, exist_ok=True)
        options = {**folder.read_config(), "label": name, "out": str(own.path)}
        write_text(own.config, yaml.safe_dump(options, sort_keys=False))
        write_json(own.data, folder.read_data())
        write_json(own.environment, json.loads(folder.environment.read_text(encoding="utf-8")))
        _write_history(own, history, name)
        with torch.no_grad():
            target, ends = prepared.targets[name], balancing.ends[name]
            write_results(dataclasses.replace(config, label=name), target, own, trainer, ends, best, seconds)
        validation[name] = json.loads(own.results.read_text(encoding="utf-8"))["validation"]
    write_targets(folder.path, names)
    parameters = sum(parameter.numel() for parameter in prepared.model.parameters())
    results = {
        "status": "complete",
        "epochs": trainer.current_epoch,
        "best_epoch": best,
        "seconds": round(seconds, 2),
        "parameters": parameters,
        "validation": validation,
    }
    write_json(folder.results, results)  # last, since it marks the run as finished


def _write_history(folder: RunFolder, history: list[Mapping[str, Any]] | list[dict[str, Any]], name: str) -> None:
    """The log of one target, under the names that a run of it alone has."""
    rows = []
    for row in history:
        own: dict[str, Any] = {"epoch": row["epoch"]}
        for key, value in row.items():
            group, _, rest = key.partition("/")
            if rest.startswith(f"{name}/"):
                own[f"{group}/{rest.removeprefix(f'{name}/')}"] = value
            elif rest.endswith(f"/{name}"):
                own[key.removesuffix(f"/{name}")] = value
        rows.append(own)
    text = io.StringIO()
    writer = csv.DictWriter(text, sorted({key for row in rows for key in row}))
    writer.writeheader()
    writer.writerows(rows)
    target = folder.logs / "version_0" / "metrics.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, text.getvalue())
