"""Further than the paper: is the stated confidence accurate, and are the most confident predictions the right ones?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as MplFigure

from pase_msa.calibration import confidence, correct, expected_calibration_error, reliability, risk_coverage
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.evaluation.statistics import estimate
from pase_msa.paper import methods
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.panels import drawable, legend_below, method_order, panels
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.results import Results
from pase_msa.report.numbers import mean_sd
from pase_msa.report.style import DASHES, MARKERS, draw_reliability, short, styled

COVERAGE = (0.5, 0.8, 1.0)


def variants(protocol: Protocol) -> dict[str, Options]:
    """Concatenation, and both versions of PaSE."""
    return {"concat": methods.model("concat"), **methods.both_versions()}


def measure_calibration(runs: Sequence[LoadedRun], bins: int = 10) -> pd.DataFrame:
    """Reliability tables and expected calibration error (Guo et al., 2017), before and after temperature scaling.

    The confidence is that the class, or the score's polarity, is right. The temperature was fitted on validation, so
    that it looks better on that split than it is.

    Returns:
        Columns method, seed, split, temperature (1, or the fitted one), scaled, low, high, count, confidence, accuracy
        (empty where a bin is), ece (of the whole table, in [0, 1]).
    """
    rows = []
    for run in runs:
        logits = run.logits()
        right = correct(run.task, logits, run.labels)
        for scaled in (False, True):
            temperature = float(run.model.temperature) if scaled else 1.0
            stated = confidence(run.task, logits, temperature)
            error = expected_calibration_error(stated, right, bins)
            common = {**run.stamp, "temperature": temperature, "scaled": scaled}
            rows += [{**common, **row, "ece": error} for row in reliability(stated, right, bins)]
    return pd.DataFrame(rows)


def measure_selection(runs: Sequence[LoadedRun]) -> pd.DataFrame:
    """Risk-coverage curves of selective prediction (Geifman and El-Yaniv, 2017), with the area under each.

    Risk is the error rate of class or polarity among the most confident predictions. `best` is the area of a perfect
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


def draw_calibration(frame: pd.DataFrame) -> MplFigure:
    """One reliability diagram per method, after scaling; several seeds are pooled. The title has the mean error.

    Args:
        frame: from `measure_calibration`.
    """
    names = method_order(drawable(frame, "method", "seed", "scaled", "ece", "count"))
    with styled() as (ink, _):
        figure, axes = panels(len(names), width=3.5, height=3.7, sharey=True)
        for name, part in zip(names, axes, strict=True):
            own = frame[frame["method"] == name]
            before, after = own[~own["scaled"]], own[own["scaled"]]
            errors = [rows.groupby("seed")["ece"].first().mean() for rows in (before, after)]
            draw_reliability(part, _pooled(after), ink)
            part.set_title(f"{short(name, 30)}\nECE {errors[1]:.3f} (unscaled {errors[0]:.3f})", fontsize=11)
            part.label_outer()
        for part in axes:
            part.set_xlabel("stated confidence")
        legend_below(figure, axes, 2)
    return figure


def _pooled(frame: pd.DataFrame) -> list[dict[str, float]]:
    """Bins over all seeds, each seed weighted by its count."""
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


def draw_selection(frame: pd.DataFrame) -> MplFigure:
    """One curve per method, the mean over its seeds within a band of one deviation; areas in the legend.

    Args:
        frame: from `measure_selection`.
    """
    drawable(frame, "method", "seed", "coverage", "risk", "aurc", "best")
    with styled() as (_, colors):
        figure, (axes,) = panels(1, width=5.0, height=4.0)
        for number, name in enumerate(method_order(frame)):
            own = frame[frame["method"] == name]
            summary = own.groupby("coverage")["risk"].agg(["mean", "std"]).fillna(0.0)
            share, risk, deviation = (100 * np.asarray(p) for p in (summary.index, summary["mean"], summary["std"]))
            areas = own.groupby("seed")[["aurc", "best"]].first().mean()
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
        axes.set(xlim=(0, 100), xlabel="coverage: the most confident share of the predictions (%)")
        axes.set_ylabel("risk: errors among those (%)")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure


def build(results: Results) -> Section:
    """Calibration errors and risks as a table, reliability diagrams and risk-coverage curves as figures.

    Errors:
        PaSEError: no run is finished.
    """
    order = results.variants
    bins = results.each_run(order, lambda runs: measure_calibration(runs))
    curves = results.each_run(order, lambda runs: measure_selection(runs))
    rows, data = [], []
    for method in order:
        line = [method]
        for name, values in _values(bins, curves, method).items():
            line.append(mean_sd(values))
            data.append({"method": method, "measure": name, **vars(estimate(values))})
        rows.append([*line, str(len(results.rows(method)))])
    columns = ["method", *dict.fromkeys(entry["measure"] for entry in data), "seeds"]
    return Section(
        f"Confidence on {results.protocol.name}",
        [Table("confidence", "Calibration and selective prediction", columns, rows, pd.DataFrame(data))],
        [
            Figure("confidence-calibration", "Actual against stated confidence.", draw_calibration(bins), bins),
            Figure("confidence-selective", "Errors among the most confident.", draw_selection(curves), curves),
        ],
        [
            "ECE is the expected calibration error, before and after the temperature that was fitted on validation.",
            "AURC is the area under risk against coverage, beside that of a perfect ranking of the same predictions. "
            "Errors are of class or polarity.",
        ],
    )


def _values(bins: pd.DataFrame, curves: pd.DataFrame, method: str) -> dict[str, pd.Series]:
    """Each measure of a method, one value per seed."""
    own, risks = bins[bins["method"] == method], curves[curves["method"] == method]
    areas = risks.groupby("seed")[["aurc", "best"]].first()
    values = {
        "ECE unscaled": own[~own["scaled"]].groupby("seed")["ece"].first(),
        "ECE": own[own["scaled"]].groupby("seed")["ece"].first(),
        "AURC": areas["aurc"],
        "best possible": areas["best"],
    }
    for share in COVERAGE:
        covered = risks[risks["coverage"] <= share + 1e-9]
        values[f"errors at {100 * share:.0f} % coverage"] = covered.groupby("seed")["risk"].last()
    return values
