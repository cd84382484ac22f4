"""Beyond the paper: whether the stated confidence can be believed, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from pase_msa.calibration import confidence, correct, expected_calibration_error, reliability
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.figures.panels import legend_below, methods, panels
from pase_msa.report.style import draw_reliability, short, styled


def measure(runs: Sequence[LoadedRun], bins: int = 10) -> pd.DataFrame:
    """Reliability tables and expected calibration error (Guo et al., 2017).

    The confidence is that the class, or the score's polarity, is right. Its temperature was fitted on validation, so on
    that split it looks better than it is.

    Returns:
        Columns method, seed, split, temperature (the one that divided the logits: 1 or the fitted one), scaled, low,
        high, count, confidence, accuracy (empty where a bin is), ece (of the whole table, in [0, 1]).
    """
    rows = []
    for run in runs:
        logits = run.logits()
        right = correct(run.task, logits, run.labels)
        for scaled in (False, True):
            temperature = float(run.model.temperature) if scaled else 1.0
            sure = confidence(run.task, logits, temperature)
            error = expected_calibration_error(sure, right, bins)
            common = {**run.stamp, "temperature": temperature, "scaled": scaled}
            rows += [{**common, **row, "ece": error} for row in reliability(sure, right, bins)]
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> Figure:
    """A reliability diagram a method, after scaling; several seeds are pooled. The title has the mean error."""
    names = methods(frame)
    with styled() as (ink, colors):
        figure, axes = panels(len(names), width=3.5, height=3.7, sharey=True)
        for name, part in zip(names, axes, strict=True):
            mine = frame[(frame["method"] == name) & frame["scaled"]]
            before = frame[(frame["method"] == name) & ~frame["scaled"]]
            errors = [rows.groupby("seed")["ece"].first().mean() for rows in (before, mine)]
            draw_reliability(part, _pooled(mine), ink, colors)
            part.set_title(f"{short(name, 30)}\nECE {errors[1]:.3f} (unscaled {errors[0]:.3f})", fontsize=11)
            part.label_outer()
        for part in axes:
            part.set_xlabel("stated confidence")
        legend_below(figure, axes, 2)
    return figure


def _pooled(frame: pd.DataFrame) -> list[dict[str, float]]:
    """Bins over all seeds, each seed by its count."""
    filled = frame[frame["count"] > 0]
    rows = []
    for (low, high), group in filled.groupby(["low", "high"]):
        weights = group["count"] / group["count"].sum()
        rows.append(
            {
                "low": low,
                "high": high,
                "count": int(group["count"].sum()),
                "confidence": float((group["confidence"] * weights).sum()),
                "accuracy": float((group["accuracy"] * weights).sum()),
            }
        )
    return rows
