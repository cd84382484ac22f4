"""A sweep: Optuna searches the options of the best validation metric. The test split is never read."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

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
from pase_msa.studies.space import Sweep, options_of, read_sweep, suggest
from pase_msa.studies.worker import peak_memory, reset_peak, sentence
from pase_msa.tasks import KILLED, check_limit, run_tasks
from pase_msa.training.callbacks import best_weights
from pase_msa.training.config import RunConfig
from pase_msa.training.fitting import fit
from pase_msa.training.isolation import preserve_global_state
from pase_msa.training.run import prepare
from pase_msa.training.selection import monitored_metric

__all__ = ["Sweep", "best_trials", "importances", "options_of", "read_sweep", "run_sweep", "suggest", "trial_table"]

_log = logging.getLogger(__name__)
SPENT = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of the trials that count."""
DEFAULT = "default"
"""User attribute of a trial that takes the base as it is: the options of the space whose values lie in the space."""


class _Pruning(Callback):
    """Reports the validation metric after each epoch, and stops a trial that is worse than most others."""

    def __init__(self, trial: Trial, metric: str, may_stop: bool) -> None:
        super().__init__()
        self.trial, self.metric, self.may_stop, self.pruned = trial, metric, may_stop, False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the metric of the epoch."""
        value = trainer.callback_metrics.get(self.metric)
        if value is None:
            return
        self.trial.report(float(value), trainer.current_epoch)
        if self.may_stop and self.trial.should_prune():
            self.pruned = trainer.should_stop = True


@lru_cache(maxsize=1)
def _opened(path: str | None, split: SplitRule, label: str | None, part: Part | None) -> FeatureTable:
    return open_data(path, split, label, part)


def opened(sweep: Sweep) -> FeatureTable:
    """The data of a sweep; those of the last call are kept."""
    base = sweep.base
    return _opened(sweep.data, base.get("split", "given"), base.get("label"), training_part(base))


def _objective(trial: Trial, sweep: Sweep) -> float:
    """Train once, in memory; the validation metric of the best epoch."""
    named = trial.user_attrs.get(DEFAULT)
    values = suggest(trial, sweep.space if named is None else {name: sweep.space[name] for name in named})
    # what is suggested for the base as it is only tells the sampler what the base has anyway
    options = options_of(sweep, values) if named is None else sweep.base
    trial.set_user_attr("options", options)
    reset_peak()
    began = time.perf_counter()
    try:
        config = RunConfig.from_options(options, data=sweep.data)
        prepared = prepare(config, opened(replace(sweep, base=options)))
        metric, _ = monitored_metric(config, prepared.task)
        pruning = _Pruning(trial, metric, may_stop=named is None)
        trained = time.perf_counter()
        trainer, _ = fit(config, prepared, None, progress=False, extra=[pruning])
    except Exception as error:
        trial.set_user_attr("error", sentence(error))
        raise
    finally:
        ended = time.perf_counter()
        trial.set_user_attr("seconds", round(ended - began, 2))
    trial.set_user_attr("epochs", trainer.current_epoch)
    trial.set_user_attr("seconds_an_epoch", round((ended - trained) / max(trainer.current_epoch, 1), 4))
    trial.set_user_attr("parameters", sum(parameter.numel() for parameter in prepared.model.parameters()))
    trial.set_user_attr("peak_memory_mb", peak_memory())
    if pruning.pruned:
        raise optuna.TrialPruned
    best = best_weights(trainer)
    return best.sign * best.value


def open_study(
    root: Path,
    sampler: optuna.samplers.BaseSampler | None = None,
    direction: Literal["minimize", "maximize"] | None = None,
) -> optuna.Study:
    """The trials of a folder; begun where there are none and a direction is given."""
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


def run_trial(
    sweep: Sweep,
    root: Path,
    seed: int,
    index: int,
    threads: int,
    catch: tuple[type[Exception], ...] = (PaSEError,),
) -> None:
    """One trial, in a worker process; it fails with an error that is to be caught, any other is raised."""
    with threadpool_limits(threads), preserve_global_state(verbose=True, threads=threads), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        # one sampler per trial: two workers with the same seed would draw the same values
        study = open_study(root, optuna.samplers.TPESampler(seed=(1_000_003 * seed + index) % 2**32))
        study.optimize(partial(_objective, sweep=sweep), n_trials=1, catch=catch, gc_after_trial=True)


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
        PaSEError: options that a run does not have, several methods, another sweep in the folder, or no trial that was
            complete.
    """
    if sweep.methods is not None:
        raise PaSEError(f"The sweep {sweep.name!r} has methods, found in a search of one; see `run_method_sweep`.")
    check_amounts(trials, jobs, threads, timeout)
    folder = Path(root).resolve()
    if sweep.data is not None:
        sweep = replace(sweep, data=absolute(sweep.data))
    metric_of(sweep)
    with alone_in(folder):
        study = resumed(sweep, folder, seed, opened(sweep).fingerprint())
        _search(study, sweep, folder, trials, jobs, threads, seed, progress, timeout)
    table = trial_table(study, sweep)
    _write(study, sweep, folder, table)
    return table


def check_amounts(trials: int, jobs: int, threads: int, timeout: float | None) -> None:
    """Refuse a sweep without trials or workers, and a time limit that is none."""
    if min(trials, jobs, threads) < 1:
        raise PaSEError(f"A sweep wants 1 or more trials, jobs and threads, found {trials}, {jobs} and {threads}.")
    check_limit(timeout)


def metric_of(sweep: Sweep) -> tuple[str, Literal["minimize", "maximize"]]:
    """The validation metric that decides, and the direction of better values.

    Errors:
        PaSEError: options that a run does not have, or data that do not fit them.
    """
    config = RunConfig.from_options(sweep.base, data=sweep.data)
    metric, mode = monitored_metric(config, task_from_table(opened(sweep), config.problem))
    return metric.removeprefix("val/"), "minimize" if mode == "min" else "maximize"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder of a sweep and lock it in the meantime.

    Errors:
        PaSEError: another process sweeps there.
    """
    make_folder(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise PaSEError(
            f"Another process is sweeping in {folder}; wait for it, or give this one another --out."
        ) from error
    try:
        yield
    finally:
        lock.release()


def resumed(sweep: Sweep, root: Path, seed: int, data: str) -> optuna.Study:
    """The trials of a sweep in a locked folder, new or from earlier calls; `data` is the fingerprint.

    Errors:
        PaSEError: the folder holds trials that share neither options nor data nor seed with these.
    """
    mark = stable_key({"base": sweep.base, "space": sweep.space, "data": data, "seed": seed})
    study = open_study(root, direction=metric_of(sweep)[1])
    if study.user_attrs.setdefault("mark", mark) != mark:
        raise PaSEError(f"{root} holds a sweep of other options or data; give this one a folder of its own.")
    study.set_user_attr("mark", mark)
    fail_running(study, "it was cut short")  # its process is dead, since the folder was not locked
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
    left = trials - len(study.get_trials(deepcopy=False, states=SPENT))
    arguments = [(sweep, root, seed, begun + i, threads) for i in range(max(left, 0))]
    with display(sweep.name, progress) as bar:

        def report() -> None:
            if bar is not None:
                states = [trial.state for trial in study.get_trials(deepcopy=False)]
                bar.show(sum(state in SPENT for state in states), trials, states.count(TrialState.FAIL))

        report()
        if jobs == 1 and timeout is None:
            for each in arguments:
                run_trial(*each)
                report()
            return
        lost = []
        for outcome in run_tasks(run_trial, arguments, jobs=jobs, threads=threads, seconds=timeout):
            if outcome.error is not None:
                raise outcome.error
            lost += [outcome.lost] if outcome.lost else []
            report()
    fail_running(study, lost[0] if lost else KILLED)


def fail_running(study: optuna.Study, reason: str) -> None:
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
    if not (table["state"] == "complete").any():
        errors = [error for error in table["error"] if isinstance(error, str)]
        raise PaSEError(f"No trial of the sweep was complete: {errors[0] if errors else 'all were cut short'}")
    write_trials(root, table)
    write_text(root / "best.yaml", best_configuration(study, sweep, table))


def write_trials(root: Path, table: pd.DataFrame) -> None:
    """Write `trials.csv`."""
    with replacing(root / "trials.csv") as partial_file:
        table.to_csv(partial_file, index=False)


def best_configuration(study: optuna.Study, sweep: Sweep, table: pd.DataFrame) -> str:
    """The best trial as a YAML file for `pase train`; `table` is that of `trial_table`, with a complete trial."""
    best = dict(study.get_trials(deepcopy=False)[int(table["trial"][0])].user_attrs["options"])
    if sweep.data is not None:
        best["data"] = sweep.data
    done, value = int((table["state"] == "complete").sum()), table["value"][0]
    head = f"# The best of {done} complete trials, by validation: {value:.6g}.\n"
    return head + yaml.safe_dump(best, sort_keys=False)


def importances(root: str | Path) -> dict[str, float]:
    """Part of the spread over complete trials that each option explains (fANOVA, Hutter et al. 2014).

    Empty for fewer than ten complete trials, or where all have the same value.
    """
    study = open_study(Path(root).resolve())
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
