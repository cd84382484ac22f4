"""What the figures have in common: panels, the spread over runs, and series that differ without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure

from pase_msa.errors import PaSEError
from pase_msa.report.numbers import scale
from pase_msa.report.style import DASHES, MARKERS, short


def panels(
    count: int, *, width: float = 3.5, height: float = 3.0, most: int = 3, **options: Any
) -> tuple[MplFigure, list[Axes]]:
    """A figure with `count` panels, at most `most` in a row; sizes in inches per panel.

    Errors:
        PaSEError: `count` is 0, so that there is nothing to draw.
    """
    if count < 1:
        raise PaSEError("There is nothing to draw: no method was measured; finish its runs first.")
    columns = min(count, most)
    rows = -(-count // columns)
    figure = MplFigure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def spread(frame: pd.DataFrame, by: Sequence[str], value: str = "value") -> pd.DataFrame:
    """Mean, standard deviation (N - 1; 0 of a single value) and count of a column, in the order of appearance."""
    summary = frame.groupby(list(by), sort=False, dropna=False)[value].agg(["mean", "std", "count"]).reset_index()
    summary["std"] = summary["std"].where(summary["count"] > 1, 0.0)
    return summary


def line(
    axes: Axes, x: Any, mean: Any, deviation: Any, label: str, number: int, colors: Sequence[str], *, shift: float = 0.0
) -> None:
    """Draw one series with a bar of one standard deviation at each point.

    Dash, marker and colour go by its `number`. It is moved to the right by `shift` times its number, so that series
    that coincide are all visible.
    """
    axes.errorbar(
        x + shift * number,
        mean,
        yerr=deviation if (deviation > 0).any() else None,
        label=short(label, 30),
        color=colors[number % len(colors)],
        linestyle=DASHES[number % len(DASHES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4.5,
        linewidth=1.4,
        capsize=2.5,
    )


def legend_below(figure: MplFigure, axes: Sequence[Axes], columns: int = 3) -> None:
    """One legend for all panels with each label once; none where there is a single label."""
    handles: dict[str, Any] = {}
    for part in axes:
        for handle, label in zip(*part.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) > 1:
        entry = 0.6 + 0.095 * max(map(len, handles))  # inches, at the size of the other text
        columns = max(1, min(columns, len(handles), int(figure.get_size_inches()[0] / entry)))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False)


def one_metric(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of a metric, with values in the unit in which it is written.

    Errors:
        PaSEError: the frame does not hold it.
    """
    rows = drawable(frame, "metric", "value")
    rows = rows[rows["metric"] == metric]
    if rows.empty:
        raise PaSEError(f"Metric {metric!r} was not measured; there is {', '.join(dict.fromkeys(frame['metric']))}.")
    return rows.assign(value=rows["value"] * scale(metric))


def drawable(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The frame, if it has rows and these columns.

    Errors:
        PaSEError: it is empty, or a column is missing.
    """
    if frame.empty:
        raise PaSEError("There is nothing to draw: the measurement has no rows; finish the runs that it needs first.")
    if missing := [name for name in columns if name not in frame]:
        raise PaSEError(
            f"This figure cannot be drawn without the column {missing[0]!r}; the measurement has "
            f"{', '.join(map(str, frame.columns))}."
        )
    return frame


def method_order(frame: pd.DataFrame) -> list[str]:
    """Methods in the order of appearance."""
    return list(dict.fromkeys(frame["method"]))
