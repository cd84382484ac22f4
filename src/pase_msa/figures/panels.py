"""What the figures have in common: panels, how a spread is drawn, and how a metric is named on an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pase_msa.errors import PaSEError
from pase_msa.report.numbers import is_percent, metric_label
from pase_msa.report.style import DASHES, MARKERS, short


def panels(
    count: int, *, width: float = 3.5, height: float = 3.0, most: int = 3, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, up to `most` beside each other; sizes in inches a panel."""
    columns = min(count, most)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    found = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for axes in found[count:]:
        axes.set_visible(False)
    return figure, found[:count]


def spread(frame: pd.DataFrame, by: Sequence[str], value: str = "value") -> pd.DataFrame:
    """Mean, standard deviation (N - 1; 0 of a single value) and count of a column, in the order of appearance."""
    found = frame.groupby(list(by), sort=False, dropna=False)[value].agg(["mean", "std", "count"]).reset_index()
    found["std"] = found["std"].where(found["count"] > 1, 0.0)
    return found


def line(
    axes: Axes, x: Any, mean: Any, deviation: Any, label: str, number: int, colors: Sequence[str], *, shift: float = 0.0
) -> None:
    """One series with a bar of a standard deviation at each point; dash, marker and colour go by its number.

    `shift` times its number moves it to the right, so that series that coincide are all seen.
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


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int = 3) -> None:
    """One legend for all panels, each entry once, where there are two or more."""
    found: dict[str, Any] = {}
    for part in axes:
        for handle, label in zip(*part.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if len(found) > 1:
        entry = 0.6 + 0.095 * max(map(len, found))  # inches, at the size of the other text
        columns = max(1, min(columns, len(found), int(figure.get_size_inches()[0] / entry)))
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns, frameon=False)


def scale(metric: str) -> float:
    """What a metric is multiplied by to be written."""
    return 100.0 if is_percent(metric) else 1.0


def axis(metric: str) -> str:
    """A metric's name with its unit."""
    return metric_label(metric) + (" (%)" if is_percent(metric) else "")


def one_metric(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of a metric, their values as they are written.

    Errors:
        PaSEError: the frame does not hold it.
    """
    found = frame[frame["metric"] == metric]
    if found.empty:
        raise PaSEError(f"Metric {metric!r} was not measured; there is {', '.join(dict.fromkeys(frame['metric']))}.")
    return found.assign(value=found["value"] * scale(metric))


def methods(frame: pd.DataFrame) -> list[str]:
    """Methods in the order of appearance."""
    return list(dict.fromkeys(frame["method"]))
