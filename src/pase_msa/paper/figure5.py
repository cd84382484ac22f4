"""Figure 5: contributions of the modalities and the validation metric over the epochs, with SGM and without it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import MaxNLocator

from pase_msa.errors import PaSEError
from pase_msa.files import read_json
from pase_msa.paper import methods
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.panels import drawable, method_order, panels
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.results import Results
from pase_msa.report.numbers import mean_sd, metric_label, scale, with_unit
from pase_msa.report.style import DASHES, MARKERS, short, styled
from pase_msa.training.run_folder import RunFolder

_LABELS = {methods.PAPER: "with SGM", methods.NO_SGM: "without SGM"}


def variants(protocol: Protocol) -> dict[str, Options]:
    """PaSE balanced as in the paper, and the same run without balancing."""
    return {name: methods.named(name) for name in _LABELS}


def measure(runs: Mapping[str, str | Path], metric: str = "acc2_negpos") -> pd.DataFrame:
    """Shapley values of eq. 18 and a validation metric per epoch, from the logs of run folders.

    Args:
        runs: label -> run folder. The Shapley values of eq. 19 are logged by `--balancing sgm`, also with
            `--phases.start never`, which is the same run without SGM.
        metric: in the log as "val/NAME".

    Returns:
        Columns method, epoch, quantity ("psi", "phi" or "metric"), modality (empty for the metric), metric (its name),
        value, active (whether SGM acted in the epoch), switched_at (the epoch at whose end SGM was switched on, or
        empty). Psi is smoothed over epochs as in training, and has no unit; phi is the learning-rate factor.

    Errors:
        PaSEError: an incomplete run, a log without Shapley values, or without the metric.
    """
    rows = []
    for name, path in runs.items():
        folder = RunFolder.complete(path)
        history, results = folder.history(), read_json(folder.results)
        logged = {key for row in history for key in row}
        if not any(key.startswith("psi/") for key in logged):
            raise PaSEError(
                f"The log of {folder.path} has no Shapley values; train with --balancing sgm (and "
                "--phases.start never for a run without SGM)."
            )
        if f"val/{metric}" not in logged:
            raise PaSEError(
                f"The log of {folder.path} has no val/{metric}; it has "
                f"{', '.join(sorted(key for key in logged if key.startswith('val/')))}."
            )
        order = list(results["balancing"][-1]["psi"])  # of the task; the log is sorted by name
        for row in history:
            common = {"method": name, "epoch": row["epoch"]}
            more = {"active": row.get("phase") == 1.0, "switched_at": results["phases"]["switched_at"]}
            for quantity, modality in itertools.product(("psi", "phi"), order):
                value = row.get(f"{quantity}/{modality}", float("nan"))
                rows.append(common | {"quantity": quantity, "modality": modality, "metric": "", "value": value} | more)
            value = row.get(f"val/{metric}", float("nan"))
            rows.append(common | {"quantity": "metric", "modality": "", "metric": metric, "value": value} | more)
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> MplFigure:
    """One panel per run: contributions on the left axis, the metric on the right one, both alike in all panels.

    Args:
        frame: from `measure`.
    """
    drawable(frame, "method", "quantity", "modality", "metric", "epoch", "value", "switched_at")
    names = method_order(frame)
    psi, metric_rows = frame[frame["quantity"] == "psi"], frame[frame["quantity"] == "metric"]
    drawable(psi), drawable(metric_rows)
    metric = metric_rows["metric"].iloc[0]
    heights = metric_rows["value"] * scale(metric)
    room = 0.06 * (heights.max() - heights.min() or 1.0)
    with styled() as (ink, colors):
        figure, axes = panels(len(names), width=4.4, height=3.6, most=2, sharex=True, sharey=True)
        right: list[Axes] = []
        for number, (name, part) in enumerate(zip(names, axes, strict=True)):
            _contributions(part, psi[psi["method"] == name], colors)
            second = part.twinx()
            right.append(second)
            rows = metric_rows[metric_rows["method"] == name]
            second.plot(
                rows["epoch"],
                rows["value"] * scale(metric),
                label=f"validation {metric_label(metric)} (right)",
                color=ink["ink"],
                linewidth=2.2,
                alpha=0.75,
            )
            second.set_ylim(heights.min() - room, heights.max() + room)
            second.grid(visible=False)
            switched = rows["switched_at"].iloc[0]
            if pd.notna(switched):
                # switched on at the end of that epoch
                part.axvline(switched + 0.5, color=ink["ink"], linewidth=1.1, linestyle=(0, (4, 3)))
            state = "SGM on from the line" if pd.notna(switched) else "SGM never on"
            part.set_title(f"{short(name, 30)}: {state}", fontsize=11)
            last = number % 2 == 1 or number == len(names) - 1
            second.tick_params(labelright=last)
            if last:
                second.set_ylabel(f"validation {with_unit(metric)}")
        axes[0].set_ylabel("Shapley value ψ (utility, no unit)")
        handles, labels = axes[0].get_legend_handles_labels()
        more = right[0].get_legend_handles_labels()
        figure.legend(handles + more[0], labels + more[1], loc="outside lower center", ncols=2, frameon=False)
    return figure


def _contributions(axes: Axes, psi: pd.DataFrame, colors: Sequence[str]) -> None:
    """One line per modality."""
    for k, modality in enumerate(dict.fromkeys(psi["modality"])):
        rows = psi[psi["modality"] == modality]
        axes.plot(
            rows["epoch"],
            rows["value"],
            label=f"contribution of {short(modality, 16)}",
            color=colors[k % len(colors)],
            linestyle=DASHES[k % len(DASHES)],
            marker=MARKERS[k % len(MARKERS)],
            # staggered, so that lines that coincide are all visible
            markevery=(k, max(1, len(rows) // 8)),
            markersize=5,
        )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def build(results: Results) -> Section:
    """Shares of the contributions at the last epoch as a table, and the curves of one seed.

    Errors:
        PaSEError: no seed has both runs.
    """
    metric = results.protocol.accuracy
    folders = {label: results.folders(name) for name, label in _LABELS.items()}
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in folders.values())))
    if not seeds:
        raise PaSEError("Figure 5 wants a run with SGM and one without it of the same seed, and found none.")
    frames = [
        measure({label: by_seed[seed] for label, by_seed in folders.items()}, metric).assign(seed=seed)
        for seed in seeds
    ]
    data = pd.concat(frames, ignore_index=True)
    ends = _last_epochs(data)
    shares = [str(column) for column in ends if str(column).startswith("share of ")]
    rows = []
    for method, part in ends.groupby("method", sort=False):
        line = [str(method), *(mean_sd(100 * part[name], digits=1) for name in shares)]
        rows.append([*line, mean_sd(part["best"], metric), f"{int(part['acted'].sum())} of {len(part)}"])
    label = metric_label(metric)
    columns = ["run", *(f"{name}, %" for name in shares), f"best validation {label}", "runs in which SGM acted"]
    caption = f"Shapley values of eq. 19 and validation {label} over the epochs, seed {seeds[0]}."
    return Section(
        f"Figure 5: contributions over the epochs on {results.protocol.name}",
        [Table("figure5-ends", "Shares of the Shapley values at the last epoch, all seeds", columns, rows, ends)],
        [Figure("figure5", caption, draw(frames[0]), data)],
        [
            "Shapley values of eq. 19 are measured on training batches. Balanced values are no evidence about new "
            "data.",
            "The metric is on the validation split, as logged in training. The dashed line is where SGM came on.",
        ],
    )


def _last_epochs(data: pd.DataFrame) -> pd.DataFrame:
    """One row per run: each modality's share of the last epoch's values, the best metric, whether SGM acted."""
    rows = []
    for (method, seed), run in data.groupby(["method", "seed"], sort=False):
        psi = run[run["quantity"] == "psi"].dropna(subset=["value"])
        last = psi[psi["epoch"] == psi["epoch"].max()]
        total = last["value"].clip(lower=0).sum()
        shares = {
            f"share of {row.modality}": max(row.value, 0.0) / total if total else float("nan")
            for row in last.itertuples()
        }
        best = run[run["quantity"] == "metric"]["value"].max()
        rows.append({"method": method, "seed": seed, **shares, "best": best, "acted": bool(run["active"].any())})
    return pd.DataFrame(rows)
