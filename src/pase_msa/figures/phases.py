"""Figure 5: contributions of the modalities and the validation metric over the epochs, with and without balancing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pase_msa.errors import PaSEError
from pase_msa.figures.panels import axis, methods, panels, scale
from pase_msa.files import read_json
from pase_msa.report.numbers import metric_label
from pase_msa.report.style import DASHES, MARKERS, short, styled
from pase_msa.training.run_folder import RunFolder


def measure(runs: Mapping[str, str | Path], metric: str = "acc2_negpos") -> pd.DataFrame:
    """Shapley values of eq. 18 and a validation metric an epoch, from the logs of run folders.

    Args:
        runs: what figures call it -> run folder. The Shapley values of eq. 19 are logged by the equilibrium of the
            paper, also with `--phases.start never`, which is the same run without SGM.
        metric: in the log as "val/NAME".

    Returns:
        Columns method, epoch, quantity ("psi", "phi" or "metric"), modality (empty for the metric), metric (its name),
        value, active (whether SGM acted in the epoch), switched_at (the epoch at whose end SGM was switched on, or
        empty). Psi is smoothed over epochs as in training, and without a unit; phi is the learning-rate factor.

    Errors:
        PaSEError: an incomplete run, a log without Shapley values, or without the metric.
    """
    rows = []
    for name, path in runs.items():
        folder = RunFolder.complete(path)
        history, results = folder.history(), read_json(folder.results)
        phases = results["phases"]
        known = {key for row in history for key in row}
        if not any(key.startswith("psi/") for key in known):
            raise PaSEError(
                f"The log of {folder.path} has no Shapley values; train with --balancing sgm (and "
                "--phases.start never for a run without SGM)."
            )
        if f"val/{metric}" not in known:
            raise PaSEError(
                f"The log of {folder.path} has no val/{metric}; it has "
                f"{', '.join(sorted(key for key in known if key.startswith('val/')))}."
            )
        order = list(results["balancing"][-1]["psi"])  # of the task; the log is sorted by name
        for row in history:
            common = {"method": name, "epoch": row["epoch"]}
            more = {"active": row.get("phase") == 1.0, "switched_at": phases["switched_at"]}
            for kind, modality in itertools.product(("psi", "phi"), order):
                value = row.get(f"{kind}/{modality}", float("nan"))
                rows.append(common | {"quantity": kind, "modality": modality, "metric": "", "value": value} | more)
            value = row.get(f"val/{metric}", float("nan"))
            rows.append(common | {"quantity": "metric", "modality": "", "metric": metric, "value": value} | more)
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel a run: contributions on the left axis, the metric on the right one, both alike in all panels."""
    names = methods(frame)
    psi, best = frame[frame["quantity"] == "psi"], frame[frame["quantity"] == "metric"]
    metric = best["metric"].iloc[0]
    modalities = list(dict.fromkeys(psi["modality"]))
    heights = best["value"] * scale(metric)
    room = 0.06 * (heights.max() - heights.min() or 1.0)
    with styled() as (ink, colors):
        figure, axes = panels(len(names), width=4.4, height=3.6, most=2, sharex=True, sharey=True)
        seconds = []
        for number, (name, part) in enumerate(zip(names, axes, strict=True)):
            for k, modality in enumerate(modalities):
                rows = psi[(psi["method"] == name) & (psi["modality"] == modality)]
                part.plot(
                    rows["epoch"],
                    rows["value"],
                    label=f"contribution of {short(modality, 16)}",
                    color=colors[k % len(colors)],
                    linestyle=DASHES[k % len(DASHES)],
                    marker=MARKERS[k % len(MARKERS)],
                    markevery=(k, max(1, len(rows) // 8)),
                    markersize=5,
                )
            second = part.twinx()
            seconds.append(second)
            rows = best[best["method"] == name]
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
            part.set_title(
                f"{short(name, 30)}: {'SGM on from the line' if pd.notna(switched) else 'SGM never on'}", fontsize=11
            )
            part.set_xlabel("epoch")
            part.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            last = number % 2 == 1 or number == len(names) - 1
            second.tick_params(labelright=last)
            if last:
                second.set_ylabel(f"validation {axis(metric)}")
        axes[0].set_ylabel("Shapley value ψ (utility, no unit)")
        handles, labels = axes[0].get_legend_handles_labels()
        more = seconds[0].get_legend_handles_labels()
        figure.legend(handles + more[0], labels + more[1], loc="outside lower center", ncols=2, frameon=False)
    return figure
