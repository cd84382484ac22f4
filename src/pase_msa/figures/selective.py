"""Beyond the paper: the error rate when only the most confident predictions are kept (selective prediction)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pase_msa.calibration import confidence, correct, risk_coverage
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.figures.panels import methods, panels
from pase_msa.report.style import DASHES, MARKERS, short, styled


def measure(runs: Sequence[LoadedRun]) -> pd.DataFrame:
    """Risk-coverage curves (Geifman and El-Yaniv, 2017), with the area under each.

    Risk is the error rate of class or polarity among the predictions that are kept. `best` is the area of a perfect
    ranking of the same predictions: every right one before every wrong one.

    Returns:
        Columns method, seed, split, coverage (in (0, 1]), risk, aurc, best.
    """
    frames = []
    for run in runs:
        logits = run.logits()
        right = correct(run.task, logits, run.labels)
        curve = risk_coverage(confidence(run.task, logits, float(run.model.temperature)), right)
        best = risk_coverage(right.double(), right)["aurc"]
        columns = {"coverage": curve["coverage"], "risk": curve["risk"], "aurc": curve["aurc"], "best": best}
        frames.append(pd.DataFrame({**run.stamp, **columns}))
    return pd.concat(frames, ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """A curve a method, the mean over its seeds within a band of one deviation; areas in the legend."""
    with styled() as (_, colors):
        figure, (axes,) = panels(1, width=5.0, height=4.0)
        for number, name in enumerate(methods(frame)):
            mine = frame[frame["method"] == name]
            found = mine.groupby("coverage")["risk"].agg(["mean", "std"]).fillna(0.0)
            share, risk, deviation = (100 * np.asarray(part) for part in (found.index, found["mean"], found["std"]))
            areas = mine.groupby("seed")[["aurc", "best"]].first().mean()
            color = colors[number % len(colors)]
            axes.plot(
                share,
                risk,
                label=f"{short(name, 24)}: AURC {areas['aurc']:.3f} (best possible {areas['best']:.3f})",
                color=color,
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKERS[number % len(MARKERS)],
                markevery=(number * max(1, len(share) // 40), max(1, len(share) // 8)),
                markersize=5,
            )
            if (deviation > 0).any():
                axes.fill_between(share, risk - deviation, risk + deviation, color=color, alpha=0.15, linewidth=0)
        axes.set(xlim=(0, 100), xlabel="coverage: share of the predictions that is kept (%)")
        axes.set_ylabel("risk: errors among those (%)")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure
