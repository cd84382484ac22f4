"""A sweep: Optuna searches the options of the best validation metric. The test split is never read."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd
import yaml
from filelock import FileLock, Timeout
from lightning import Callback, LightningModule, Trainer
from optuna.trial import Trial, TrialState
from threadpoolctl import threadpool_limits

from pase_msa.data.opening import Part, SplitRule, open_data, training_part
from pase_msa.data.problem import task_from_table
from pase_msa.data.shards import absolute
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, replacing, write_text
from pase_msa.studies.cells import stable_key
from pase_msa.studies.progress import display
from pase_msa.studies.study import merge, read_mapping
from pase_msa.tasks import KILLED, check_limit, run_tasks
from pase_msa.training.callbacks import best_weights
from pase_msa.training.config import RunConfig
from pase_msa.training.fitting import fit
from pase_msa.training.isolation import preserve_global_state
from pase_msa.training.run import prepare
from pase_msa.training.selection import monitored_metric

_log = logging.getLogger(__name__)
_FIXED = ("data", "out", "training.monitor")  # trials that differ in these cannot be compared
_SPENT = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep's YAML file.

    Attributes:
        name: of the file, without its suffix.
        base: options of a run.
        space: by dotted option, {"low", "high", and "log" or "step"} or {"choices"}.
        data: folder or file; None is the synthetic benchmark.
    """

    name: str
    base: dict[str, Any]
    space: dict[str, dict[str, Any]]
    data: str | None = None


def read_sweep(file: str | Path) -> Sweep:
    """Read `base`, `space` and optionally `data`.

    Errors:
        PaSEError: there is no such file, or it holds anything else.
    """
    path = Path(file)
    content = read_mapping(path)
    if unknown := sorted(set(content) - {"base", "space", "data"}):
        raise PaSEError(f"{path} has {unknown[0]!r}; a sweep has base, space and data.")
    space = content.get("space")
    if not isinstance(space, dict) or not space:
        raise PaSEError(f"{path} is no sweep: it wants `space`, a mapping of options to what they may be.")
    for name, entry in space.items():
        _check(str(name), entry)
    return Sweep(path.stem, content.get("base") or {}, space, content.get("data"))


def _check(name: str, entry: Any) -> None:
    if name in _FIXED:
        raise PaSEError(f"The space names {name!r}, which makes trials incomparable; put it into base.")
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys == {"choices"} and isinstance(entry["choices"], list) and entry["choices"]:
        return
    numbers = [entry[key] for key in ("low", "high", "step") if key in keys]
    if not {"low", "high"} <= keys <= {"low", "high", "log", "step"} or any(
        isinstance(number, bool) or not isinstance(number, int | float) for number in numbers
    ):
        raise PaSEError(f"The space gives {name} {entry!r}; give it {{low, high}}, with log or step, or {{choices}}.")
    if entry["low"] > entry["high"] or (entry.get("log") and (entry["low"] <= 0 or "step" in keys)):
        raise PaSEError(
            f"The space gives {name} {entry!r}; low is at most high, and log wants low > 0 and goes without step."
        )


def options_of(sweep: Sweep, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run: those of the base, with these values of the space."""
    options = sweep.base
    for name, value in values.items():
        change: Any = value
        for part in reversed(name.split(".")):
            change = {part: change}
        options = merge(options, change)
    return options


def suggest(trial: Trial, space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A value for every option of the space, drawn by Optuna."""
    values: dict[str, Any] = {}
    for name, entry in space.items():
        if "choices" in entry:
            # Optuna stores numbers, strings and truth values; any other choice is stored as its place in the list
            values[name] = entry["choices"][trial.suggest_categorical(name, range(len(entry["choices"])))]
        elif isinstance(entry["low"], int) and isinstance(entry["high"], int):
            values[name] = trial.suggest_int(
                name, entry["low"], entry["high"], step=entry.get("step", 1), log=entry.get("log", False)
            )
        else:
            values[name] = trial.suggest_float(
                name, entry["low"], entry["high"], step=entry.get("step"), log=entry.get("log", False)
            )
    return values


class _Pruning(Callback):
    """Reports the validation metric after each epoch, and stops a trial that is worse than most others."""

    def __init__(self, trial: Trial, metric: str) -> None:
        super().__init__()
        self.trial, self.metric, self.pruned = trial, metric, False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the metric of the epoch."""
        value = trainer.callback_metrics.get(self.metric)
        if value is None:
            return
        self.trial.report(float(value), trainer.current_epoch)
        if self.trial.should_prune():
            self.pruned = trainer.should_stop = True


@lru_cache(maxsize=1)
def _opened(path: str | None, split: SplitRule, label: str | None, part: Part | None) -> FeatureTable:
    return open_data(path, split, label, part)


def _objective(trial: Trial, sweep: Sweep) -> float:
    """Train once, in memory; the validation metric of the best epoch."""
    options = options_of(sweep, suggest(trial, sweep.space))
    trial.set_user_attr("options", options)
    began = time.perf_counter()
    try:
        config = RunConfig.from_options(options, data=sweep.data)
        prepared = prepare(config, _opened(sweep.data, config.split, config.label, training_part(options)))
        metric, _ = monitored_metric(config, prepared.task)
        pruning = _Pruning(trial, metric)
        trainer, _ = fit(config, prepared, None, progress=False, extra=[pruning])
    except PaSEError as error:
        trial.set_user_attr("error", str(error))
        raise
    trial.set_user_attr("epochs", trainer.current_epoch)
    trial.set_user_attr("seconds", round(time.perf_counter() - began, 2))
    if pruning.pruned:
        raise optuna.TrialPruned
    best = best_weights(trainer)
    return best.sign * best.value


def _open(
    root: Path,
    sampler: optuna.samplers.BaseSampler | None = None,
    direction: Literal["minimize", "maximize"] | None = None,
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # a database, because a kill leaves no half trial and no lock in it
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{root / 'trials.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3)
    if direction is None:
        return optuna.load_study(study_name="sweep", storage=storage, sampler=sampler, pruner=pruner)
    return optuna.create_study(
        study_name="sweep", storage=storage, direction=direction, load_if_exists=True, pruner=pruner
    )


def _run_trial(sweep: Sweep, root: Path, seed: int, index: int, threads: int) -> None:
    """One trial, in a worker process."""
    with threadpool_limits(threads), preserve_global_state(verbose=True, threads=threads), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        # one sampler per trial: two workers with the same seed would draw the same values
        study = _open(root, optuna.samplers.TPESampler(seed=(1_000_003 * seed + index) % 2**32))
        study.optimize(partial(_objective, sweep=sweep), n_trials=1, catch=(PaSEError,))


def run_sweep(
    sweep: Sweep,
    root: str | Path,
    *,
    trials: int = 40,
    jobs: int = 2,
    threads: int = 1,
    seed: int = 0,
    progress: bool = True,
    timeout: float | None = None,
) -> pd.DataFrame:
    """Search until there are as many trials as asked for, and write the best options.

    Trials are stored in `root/trials.db`. The same call after a kill goes on from there, and a call with more trials
    adds to them. A trial that is worse than the median of the others is cut short (pruned). At the end two files are
    written: `trials.csv`, and `best.yaml`, a configuration for `pase train`.

    Args:
        sweep: base and space.
        root: folder of the sweep.
        trials: in all, those of earlier calls included; failed ones do not count.
        jobs: worker processes; with 1, a sweep is a function of its seed.
        threads: per worker.
        seed: of the search; that of the runs is in base.
        progress: whether to show a progress bar.
        timeout: longest duration of a trial in seconds; one that takes longer is ended and has failed. None: no limit.

    Returns:
        One row per trial, the best first: "trial", "state", "value" (of the validation metric that selects epochs),
        "epochs", "seconds", the options of the space, "error".

    Errors:
        PaSEError: options that a run does not have, another sweep in the folder, or no trial that was complete.
    """
    if min(trials, jobs, threads) < 1:
        raise PaSEError(f"A sweep wants 1 or more trials, jobs and threads, found {trials}, {jobs} and {threads}.")
    check_limit(timeout)
    folder = Path(root).resolve()
    data = _opened(sweep.data, sweep.base.get("split", "given"), sweep.base.get("label"), training_part(sweep.base))
    if sweep.data is not None:
        sweep = Sweep(sweep.name, sweep.base, sweep.space, absolute(sweep.data))
    config = RunConfig.from_options(sweep.base, data=sweep.data)
    _, mode = monitored_metric(config, task_from_table(data, config.problem))
    mark = stable_key({"base": sweep.base, "space": sweep.space, "data": data.fingerprint(), "seed": seed})
    make_folder(folder)
    try:
        with FileLock(folder / ".lock", timeout=0):
            study = _resumed(folder, "minimize" if mode == "min" else "maximize", mark)
            _search(study, sweep, folder, trials, jobs, threads, seed, progress, timeout)
    except Timeout as error:
        raise PaSEError(
            f"Another process is sweeping in {folder}; wait for it, or give this one another --out."
        ) from error
    table = trial_table(study, sweep)
    _write(study, sweep, folder, table)
    return table


def _resumed(root: Path, direction: Literal["minimize", "maximize"], mark: str) -> optuna.Study:
    """The trials of a sweep, new or from earlier calls; `mark` is the hash of what all of them must share."""
    study = _open(root, direction=direction)
    if study.user_attrs.setdefault("mark", mark) != mark:
        raise PaSEError(f"{root} holds a sweep of other options or data; give this one a folder of its own.")
    study.set_user_attr("mark", mark)
    _fail_running(study, "it was cut short")  # its process is dead, since the folder was not locked
    return study


def _search(
    study: optuna.Study,
    sweep: Sweep,
    root: Path,
    trials: int,
    jobs: int,
    threads: int,
    seed: int,
    progress: bool,
    timeout: float | None,
) -> None:
    begun = len(study.get_trials(deepcopy=False))
    left = trials - len(study.get_trials(deepcopy=False, states=_SPENT))
    arguments = [(sweep, root, seed, begun + i, threads) for i in range(max(left, 0))]
    with display(sweep.name, progress) as bar:

        def report() -> None:
            if bar is not None:
                states = [trial.state for trial in study.get_trials(deepcopy=False)]
                bar.show(sum(state in _SPENT for state in states), trials, states.count(TrialState.FAIL))

        report()
        if jobs == 1 and timeout is None:
            for each in arguments:
                _run_trial(*each)
                report()
            return
        lost = []
        for outcome in run_tasks(_run_trial, arguments, jobs=jobs, threads=threads, seconds=timeout):
            if outcome.error is not None:
                raise outcome.error
            lost += [outcome.lost] if outcome.lost else []
            report()
    _fail_running(study, lost[0] if lost else KILLED)


def _fail_running(study: optuna.Study, reason: str) -> None:
    """End the trials whose worker did not, which has to be dead."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        optuna.trial.Trial(study, trial._trial_id).set_user_attr("error", reason)  # while it may still be changed
        study.tell(trial.number, state=TrialState.FAIL)
        _log.warning("trial %d failed: %s", trial.number, reason)


def trial_table(study: optuna.Study, sweep: Sweep) -> pd.DataFrame:
    """The trials, the best first; pruned and failed ones last."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        values = {}
        for name, entry in sweep.space.items():
            drawn = trial.params.get(name)
            values[name] = entry["choices"][drawn] if "choices" in entry and drawn is not None else drawn
        complete = trial.state == TrialState.COMPLETE
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value if complete else None,
                **{key: trial.user_attrs.get(key) for key in ("epochs", "seconds")},
                **values,
                "error": trial.user_attrs.get("error"),
            }
        )
    up = study.direction == optuna.study.StudyDirection.MINIMIZE
    return pd.DataFrame(rows).sort_values("value", ascending=up, kind="stable", ignore_index=True)


def _write(study: optuna.Study, sweep: Sweep, root: Path, table: pd.DataFrame) -> None:
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if not done:
        errors = [error for error in table["error"] if isinstance(error, str)]
        raise PaSEError(f"No trial of the sweep was complete: {errors[0] if errors else 'all were cut short'}")
    with replacing(root / "trials.csv") as partial_file:
        table.to_csv(partial_file, index=False)
    best = dict(study.best_trial.user_attrs["options"])
    if sweep.data is not None:
        best["data"] = sweep.data
    head = f"# The best of {len(done)} complete trials, by validation: {study.best_value:.6g}.\n"
    write_text(root / "best.yaml", head + yaml.safe_dump(best, sort_keys=False))


def importances(root: str | Path) -> dict[str, float]:
    """Part of the spread over complete trials that each option explains (fANOVA, Hutter et al. 2014).

    Empty for fewer than ten complete trials, or where all have the same value.
    """
    study = _open(Path(root).resolve())
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < 10 or len({trial.value for trial in done}) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def best_trials(table: pd.DataFrame, sweep: Sweep, count: int = 5) -> Sequence[str]:
    """The best trials as the lines of a Markdown table."""
    names = ["trial", "value", *sweep.space]
    lines = [f"| {' | '.join(names)} |", "| --- " * len(names) + "|"]
    for row in table[table["state"] == "complete"].head(count).to_dict("records"):
        lines.append(
            "| " + " | ".join(f"{row[k]:.4g}" if isinstance(row[k], float) else str(row[k]) for k in names) + " |"
        )
    return lines
