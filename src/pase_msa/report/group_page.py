"""Several evaluated runs as one HTML page: groups of seeds, compared on the same test utterances."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError
from pase_msa.evaluation.compare import compare
from pase_msa.evaluation.statistics import Estimate, estimate, holm
from pase_msa.files import read_json
from pase_msa.metrics import headline
from pase_msa.report.numbers import SHOWN, finite, format_interval, mean_sd, metric_label, with_unit
from pase_msa.report.page import bars_picture, flat_settings, write_html
from pase_msa.task import Task
from pase_msa.training.run_folder import RunFolder

_OWN = ("seed", "out", "data")  # what runs of one group may differ in
_SEED = re.compile(r"[-_]?seed\d+.*$")


class Group:
    """Runs of one configuration.

    Attributes:
        name: of the folders, without the seed.
        runs: by seed.
        config: without seed and places.
        results: evaluations by seed.
    """

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name, self.config = name, config
        self.runs: dict[int, RunFolder] = {}
        self.results: dict[int, dict[str, Any]] = {}

    def values(self, metric: str) -> list[float]:
        """A metric, one value per seed."""
        values = [finite(result["metrics"].get(metric)) for _, result in sorted(self.results.items())]
        return [value for value in values if value is not None]

    def estimate(self, metric: str) -> Estimate | None:
        """Mean, deviation and interval of a metric over seeds; None where no run has it."""
        values = self.values(metric)
        return estimate(values) if values else None


def grouped(runs: Sequence[str | Path]) -> list[Group]:
    """Runs in groups that differ by seed only, in the order given.

    Errors:
        PaSEError: a run is not evaluated, two runs of a group have one seed, or the runs are not of one data set
            and task.
    """
    if not runs:
        raise PaSEError("A report wants one run folder or more; name some.")
    groups: dict[str, Group] = {}
    first: dict[str, Any] = {}
    for run in runs:
        folder = RunFolder.complete(run)
        result = folder.read_evaluation()
        first = first or {**result, "path": folder.path}
        _check_alike(folder.path, result, first)
        whole = folder.read_config()
        config = {key: value for key, value in whole.items() if key not in _OWN}
        key = json.dumps(config, sort_keys=True)
        name = _SEED.sub("", folder.path.name) or folder.path.name
        group = groups.setdefault(key, Group(name, config))
        seed = int(whole["seed"])
        if seed in group.runs:
            raise PaSEError(
                f"{group.runs[seed].path} and {folder.path} are runs of one configuration and seed; name one of them."
            )
        group.runs[seed], group.results[seed] = folder, result
    everyone = list(groups.values())
    for group in everyone:
        if sum(other.name == group.name for other in everyone) > 1:
            group.name = f"{group.name} ({_distinguishing(group, everyone)})"
    return everyone


def _check_alike(path: Path, result: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    mine, other = Task.from_dict(result["task"]), Task.from_dict(first["task"])
    alike = (mine.label, mine.classes, mine.values) == (other.label, other.classes, other.values)
    same = result["data"]["fingerprint"] == first["data"]["fingerprint"] and result["convention"] == first["convention"]
    if not alike or not same:
        raise PaSEError(
            f"{first['path']} and {path} are of different data, tasks or conventions; make a report for each of them."
        )


def _distinguishing(group: Group, groups: Sequence[Group]) -> str:
    """The options in which a group differs from others of its name."""
    flat = [flat_settings(other.config) for other in groups if _SEED.sub("", other.name).split(" (")[0] == group.name]
    mine = flat_settings(group.config)
    return ", ".join(f"{key} {value}" for key, value in mine.items() if any(o.get(key) != value for o in flat)) or "?"


def write_group_report(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Write the page: scores by group, the best compared with every other, figures, protocol, environment.

    Groups are compared with the one that is best in the metric which selects epochs, over the seeds that both have, by
    a permutation test over test videos; p-values are corrected for the number of groups (Holm). Nothing is fetched, and
    every text is escaped.

    Args:
        runs: evaluated run folders of one data set.
        out: the HTML file.

    Errors:
        PaSEError: as in `grouped`, or the file cannot be written.
    """
    groups = grouped(runs)
    result = next(iter(groups[0].results.values()))
    task = Task.from_dict(result["task"])
    main, mode = headline(task)
    shown = [main, *(name for name in SHOWN[task.kind] if name != main)]
    ranked = sorted(groups, key=lambda g: (g.estimate(main) or estimate([0.0])).mean, reverse=mode == "max")
    best = ranked[0]
    means = {group.name: about.mean for group in ranked if (about := group.estimate(main)) is not None}
    axis, label = with_unit(main), metric_label(main)
    compared = list(dict.fromkeys([main, shown[2]]))
    content = {
        "groups": ranked,
        "best": best,
        "task": task,
        "data": result["data"],
        "convention": result["convention"],
        "main": main,
        "shown": shown,
        "compared": compared,
        "mean_sd": mean_sd,
        "format_interval": format_interval,
        "costs": _costs(ranked),
        "comparisons": _comparisons(best, ranked[1:], compared),
        "scores": bars_picture(f"{label} by group", axis, means, main),
        "subsets": [
            picture
            for group in ranked
            if len(subsets := _subsets(group, main)) > 1
            for picture in bars_picture(
                f"{group.name}: {label} by modalities given", axis, subsets, main, modalities=task.modalities
            )
        ],
        "differences": _differences(ranked),
        "environments": _environments(ranked),
    }
    return write_html("group_page.html", Path(out), content)


def _costs(groups: Sequence[Group]) -> dict[str, dict[str, str]]:
    """Parameters and seconds of training, by name of the group."""
    costs = {}
    for group in groups:
        results = [read_json(run.results) for run in group.runs.values()]
        seconds = estimate([row["seconds"] for row in results]).mean
        costs[group.name] = {"parameters": f"{results[0]['parameters']:,}", "seconds": f"{seconds:.1f}"}
    return costs


def _comparisons(best: Group, others: Sequence[Group], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The best group minus every other, one row each."""
    rows: list[dict[str, Any]] = []
    for other in others:
        seeds = sorted(best.runs.keys() & other.runs.keys())
        if not seeds:
            rows.append({"name": other.name, "why": "no seed in common"})
        elif best.results[seeds[0]]["count"] != other.results[seeds[0]]["count"]:
            rows.append({"name": other.name, "why": "tested on other utterances, those that have its modalities"})
        else:
            result = compare([best.runs[s].path for s in seeds], [other.runs[s].path for s in seeds])
            rows.append({"name": other.name, "seeds": len(seeds), "videos": result["videos"], **result["metrics"]})
    for metric in metrics:
        corrected = holm({row["name"]: row[metric]["p"] for row in rows if metric in row})
        for row in rows:
            if metric in row:
                row[metric] = {**row[metric], "p_groups": corrected[row["name"]]}
    return rows


def _subsets(group: Group, metric: str) -> dict[str, float]:
    """A metric by modalities given, the mean over seeds."""
    values: dict[str, list[float]] = {}
    for result in group.results.values():
        for name, row in (result.get("subsets") or {}).items():
            if (value := finite(row.get(metric))) is not None:
                values.setdefault(name, []).append(value)
    return {name: sum(by_seed) / len(by_seed) for name, by_seed in values.items()}


def _differences(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Options in which the groups differ, and each group's value."""
    flat = [flat_settings(group.config) for group in groups]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    return {
        key: [settings.get(key, "") for settings in flat]
        for key in keys
        if len({settings.get(key, "") for settings in flat}) > 1
    }


def _environments(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Every setting of the environment, with all values that runs had."""
    settings: dict[str, list[str]] = {}
    for group in groups:
        for result in group.results.values():
            for name, value in flat_settings(result.get("environment") or {}).items():
                values = settings.setdefault(name, [])
                values += [] if value in values else [value]
    return settings
