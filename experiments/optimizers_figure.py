"""The figure of `experiments.optimizers`: per method and optimiser, the factor asked for and that of the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from pase_msa.files import make_folder, replacing
from pase_msa.report.style import MARKERS, styled

Points = dict[tuple[str, str, int], tuple[float, float]]
"""(asked, measured) by method, optimiser and steps of warm-up."""
OPTIMIZERS = ("sgd", "adam", "adamw")
TICKS = (0.25, 0.5, 1.0, 2.0, 4.0)
_GAP = 0.25  # between the optimisers of a method, in rows


def draw(points: Points, acts_on: Mapping[str, str], target: Path) -> None:
    """Write the figure.

    Args:
        points: what was measured.
        acts_on: "gradient", "rate" or "losses", by method, in the order of the rows.
        target: a file that ends in .svg or .png; its folder is made.
    """
    starts = sorted({steps for _, _, steps in points})
    with styled() as (ink, colors):
        figure = Figure(figsize=(9.0, 5.6), layout="constrained")
        panels = figure.subplots(1, len(starts), sharex=True, sharey=True, squeeze=False)[0]
        for axes, steps in zip(panels, starts, strict=True):
            title = f"method begins after {steps} plain steps" if steps else "method begins with the first step"
            axes.set_title(title, fontsize=11)
            _panel(axes, points, acts_on, steps, ink, colors)
        handles = [
            Line2D([], [], color=color, marker=marker, linestyle="", label=optimizer)
            for optimizer, color, marker in zip(OPTIMIZERS, colors, MARKERS, strict=False)
        ]
        for filled, label in ((False, "asked for"), (True, "measured")):
            face = ink["muted"] if filled else "none"
            handles.append(
                Line2D([], [], color=ink["muted"], markerfacecolor=face, marker="o", linestyle="", label=label)
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=10)
        make_folder(target.parent)
        kind = target.suffix.removeprefix(".")
        with replacing(target) as partial:
            # no date and no version in the file: the same values give the same bytes
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(partial, format=kind, dpi=100, metadata=metadata)


def _panel(
    axes: Axes, points: Points, acts_on: Mapping[str, str], steps: int, ink: Mapping[str, str], colors: Sequence[str]
) -> None:
    names = [name for name in acts_on if any(key[0] == name for key in points)]
    axes.axvline(1.0, color=ink["muted"], linewidth=1.0)
    for row, name in enumerate(names):
        if row and acts_on[name] != acts_on[names[row - 1]]:
            axes.axhline(row - 0.5, color=ink["muted"], linewidth=0.8, linestyle=":")
        for place, (optimizer, color, marker) in enumerate(zip(OPTIMIZERS, colors, MARKERS, strict=False)):
            pair = points.get((name, optimizer, steps))
            if pair is None:
                continue
            height = row + _GAP * (place - 1)
            axes.plot(pair, [height, height], color=color, linewidth=1.0)
            axes.plot(pair[0], height, color=color, marker=marker, markersize=6, markerfacecolor=ink["page"])
            axes.plot(pair[1], height, color=color, marker=marker, markersize=6)
    axes.set_xlabel("factor on the update")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}" for tick in TICKS])
    axes.set_yticks(range(len(names)), [f"{name} ({acts_on[name]})" for name in names], fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
