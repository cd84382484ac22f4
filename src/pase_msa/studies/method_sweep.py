"""A sweep over many methods: the same number of trials on validation for each, the standard options among them.

Each method is a search of its own (`sweep`), in a folder of its own, with the same seed. The workers are shared. The
first trial of a method takes its base as it is, so that by the validation metric nothing is lost by the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.trial import TrialState

from pase_msa.data.shards import absolute
from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, replacing, write_text
from pase_msa.studies.method_space import complete, searches, value_at
from pase_msa.studies.progress import display
from pase_msa.studies.space import Sweep, as_drawn, holds
from pase_msa.studies.study import slug
from pase_msa.studies.sweep import (
    DEFAULT,
    SPENT,
    alone_in,
    best_configuration,
    check_amounts,
    fail_running,
    metric_of,
    opened,
    resumed,
    run_trial,
    trial_table,
    write_trials,
)
from pase_msa.tasks import KILLED, run_tasks

_NO_OPTIONS = ("data", "out", "seed")


@dataclass(frozen=True)
class _Search:
    """The search of one method."""

    method: str
    sweep: Sweep
    folder: Path
    study: optuna.Study


def run_method_sweep(
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
    """Search the options of every method with the same number of trials, and write what was chosen.

    The trials of a method are in `root/methods/NAME`. The same call after a kill goes on from there; a call with more
    trials, or with more methods, adds to them. A failed trial counts for nothing and stops nothing, and the next call
    makes up for it. At the end `root` has `methods.csv`, `options.yaml` with the chosen options by method, and in
    `best` a configuration for `pase train` for each.

    Args:
        sweep: base, space and methods.
        root: folder of the sweep.
        trials: of each method in all, those of earlier calls and the one with standard options included.
        jobs: worker processes, shared by all methods; with 1, a sweep is a function of its seed.
        threads: per worker.
        seed: of every search; that of the runs is in base.
        progress: whether to show a progress bar.
        timeout: longest duration of a trial in seconds; one that takes longer is ended and has failed. None: no limit.

    Returns:
        One row per method: "method", "metric", "value" (of the best trial on validation), "default" (with standard
        options), "complete", "pruned", "failed" (numbers of trials), of the best trial "parameters",
        "seconds_an_epoch" and "peak_memory_mb", "seconds" of all trials, the chosen value of each option, "error" (of
        the first failed trial). "value" is NaN where no trial was complete.

    Errors:
        PaSEError: as in `searches`, another sweep in the folder, or no complete trial of any method.
    """
    check_amounts(trials, jobs, threads, timeout)
    if sweep.data is not None:
        sweep = replace(sweep, data=absolute(sweep.data))
    plans, folder = searches(sweep), Path(root).resolve()
    metric, _ = metric_of(sweep)
    data = opened(sweep).fingerprint()
    with alone_in(folder):
        begun = []
        for name, plan in plans.items():
            place = make_folder(folder / "methods" / slug(name))
            begun.append(_Search(name, plan, place, resumed(plan, place, seed, data)))
        _run(begun, sweep.name, trials, jobs, threads, seed, progress, timeout)
        table = pd.DataFrame([_row(search, metric) for search in begun])
        if table["value"].isna().all():
            reason = next(iter(table["error"].dropna()), "their workers were lost")
            raise PaSEError(f"No trial of any method was complete: {reason}")
        _write(begun, table, folder, data)
    return table


def _run(
    begun: Sequence[_Search],
    title: str,
    trials: int,
    jobs: int,
    threads: int,
    seed: int,
    progress: bool,
    timeout: float | None,
) -> None:
    """Run the trials that are left, in turn over the methods."""
    left = {search.method: max(trials - _count(search, *SPENT), 0) for search in begun}
    places: list[_Search] = []
    arguments: list[tuple[Any, ...]] = []
    numbers = {search.method: _count(search) - _count(search, TrialState.WAITING) for search in begun}
    for search in begun:
        if left[search.method]:
            _queue_default(search)
    for turn in range(max(left.values())):
        for search in begun:
            if turn < left[search.method]:
                number = numbers[search.method] + turn
                places.append(search)
                arguments.append((search.sweep, search.folder, seed, number, threads, (Exception,)))
    counts = {search.method: (_count(search, *SPENT), _count(search, TrialState.FAIL)) for search in begun}
    lost: dict[str, str] = {}
    with display(title, progress) as bar:

        def show() -> None:
            if bar is not None:
                bar.show(sum(n for n, _ in counts.values()), trials * len(begun), sum(n for _, n in counts.values()))

        show()
        for place, reason in _ended(arguments, jobs, threads, timeout):
            search = places[place]
            counts[search.method] = _count(search, *SPENT), _count(search, TrialState.FAIL)
            if reason is not None:
                lost[search.method] = reason
            show()
    for search in begun:
        fail_running(search.study, lost.get(search.method, KILLED))


def _ended(
    arguments: Sequence[tuple[Any, ...]], jobs: int, threads: int, timeout: float | None
) -> Iterator[tuple[int, str | None]]:
    """Run trials; as each ends, its place, and why its worker was lost, if it was."""
    if jobs == 1 and timeout is None:
        for place, each in enumerate(arguments):
            run_trial(*each)
            yield place, None
        return
    for outcome in run_tasks(run_trial, arguments, jobs=jobs, threads=threads, seconds=timeout):
        if outcome.error is not None:
            raise outcome.error
        yield outcome.index, outcome.lost


def _count(search: _Search, *states: TrialState) -> int:
    """Trials in some states, or in any."""
    return len(search.study.get_trials(deepcopy=False, states=states or None))


def _queue_default(search: _Search) -> None:
    """Let the next trial be that of the base as it is, unless there is one that was not lost."""
    kept = search.study.get_trials(deepcopy=False, states=(TrialState.WAITING, *SPENT))
    if any(DEFAULT in trial.user_attrs for trial in kept):
        return
    whole = complete(search.sweep.base, search.sweep.space)
    values = {option: value_at(whole, option) for option, entry in search.sweep.space.items()}
    inside = {o: as_drawn(search.sweep.space[o], v) for o, v in values.items() if holds(search.sweep.space[o], v)}
    search.study.enqueue_trial(inside, user_attrs={DEFAULT: list(inside)})


def _row(search: _Search, metric: str) -> dict[str, Any]:
    """A method's row of the table."""
    trials = search.study.get_trials(deepcopy=False)
    table = trial_table(search.study, search.sweep)
    counts = table["state"].value_counts()
    default = [t.value for t in trials if DEFAULT in t.user_attrs and t.state == TrialState.COMPLETE]
    best = trials[int(table["trial"][0])] if counts.get("complete", 0) else None
    attributes = {} if best is None else best.user_attrs
    whole = None if best is None else complete(best.user_attrs["options"], search.sweep.space)
    errors = [error for error in table["error"] if isinstance(error, str)]
    return {
        "method": search.method,
        "metric": metric,
        "value": float("nan") if best is None else best.value,
        "default": default[0] if default else float("nan"),
        **{state: int(counts.get(key, 0)) for state, key in _STATES.items()},
        **{key: attributes.get(key) for key in ("parameters", "seconds_an_epoch", "peak_memory_mb")},
        "seconds": round(sum(trial.user_attrs.get("seconds", 0.0) for trial in trials), 2),
        **{option: None if whole is None else value_at(whole, option) for option in search.sweep.space},
        "error": errors[0] if errors else None,
    }


_STATES = {"complete": "complete", "pruned": "pruned", "failed": "fail"}


def _write(begun: Sequence[_Search], table: pd.DataFrame, root: Path, data: str) -> None:
    """Write the trials and the best configuration of every method, all chosen options, and last the table."""
    make_folder(root / "best")
    chosen: dict[str, Any] = {}
    spent: dict[str, int] = {}
    for search in begun:
        trials = trial_table(search.study, search.sweep)
        write_trials(search.folder, trials)
        if not (trials["state"] == "complete").any():
            continue
        text = best_configuration(search.study, search.sweep, trials)
        write_text(root / "best" / f"{slug(search.method)}.yaml", text)
        chosen[search.method] = {k: v for k, v in yaml.safe_load(text).items() if k not in _NO_OPTIONS}
        spent[search.method] = _count(search, *SPENT)
    about = {"metric": str(table["metric"].iloc[0]), "trials": spent, "data": data}
    head = "# Options by method, chosen on validation: pase reproduce table1 --tuned THIS_FILE\n"
    write_text(root / "options.yaml", head + yaml.safe_dump({"about": about, **chosen}, sort_keys=False))
    with replacing(root / "methods.csv") as partial_file:
        table.to_csv(partial_file, index=False)


def method_lines(table: pd.DataFrame) -> list[str]:
    """The table of `run_method_sweep` in Markdown."""
    fixed = ["method", "metric", "value", "default", *_STATES]
    costs = {"parameters": "{:,.0f}", "seconds_an_epoch": "{:.2f}", "peak_memory_mb": "{:.0f}", "seconds": "{:.0f}"}
    options = [name for name in table.columns if name not in {*fixed, *costs, "error"}]
    heads = ["method", f"{table['metric'].iloc[0]}, best", "default", "trials", "pruned", "failed"]
    heads += ["parameters", "s per epoch", "peak memory, MiB", "s in all", *options]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in table.to_dict("records"):
        cells = [row["method"], *(_number(row[key], "{:.4g}") for key in ("value", "default"))]
        cells += [str(row["complete"] + row["pruned"]), str(row["pruned"]), str(row["failed"])]
        cells += [_number(row[key], form) for key, form in costs.items()]
        lines.append("| " + " | ".join([*cells, *(_number(row[name], "{:.4g}") for name in options)]) + " |")
    return lines


def _number(value: Any, form: str) -> str:
    """A cell: a number in its format, nothing for what is missing, all else as it is."""
    if value is None or value != value:
        return "n/a"
    return form.format(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
