"""Figures of an evaluation as PNG bytes, for a light and for a dark page.

Narrow enough for a phone, and readable in grey: series differ by marker and dash, bars by hatch.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# a light and a dark tone of the colour-blind safe set of Okabe and Ito (2008), in an order of unequal greys
_LIGHT = {"ink": "#1d2430", "muted": "#667085", "grid": "#d7dce4", "page": "#ffffff"}
_DARK = {"ink": "#e6e9ef", "muted": "#98a2b3", "grid": "#3a4250", "page": "#171b22"}
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
_SERIES_DARK = ("#56b4e9", "#f28e4b", "#2fc59b", "#e3a3c6", "#f0c341", "#a9d6f5")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "+++")

Points = Sequence[tuple[float, float]]
Text = Callable[[float], str]


def bars(values: Mapping[str, float], label: str, text: Text, *, dark: bool = False) -> bytes:
    """Horizontal bars, one a name, from the top; `text` writes the value at a bar's end."""

    def draw(axes: Axes, ink: dict[str, str], colors: Sequence[str]) -> None:
        drawn = axes.barh(range(len(values)), list(values.values()), height=0.62, color=colors[0])
        for k, (bar, value) in enumerate(zip(drawn, values.values(), strict=True)):
            # names joined by "+" are coalitions: one hatch a size
            size = list(values)[k].count("+") if any("+" in name for name in values) else k
            bar.set(facecolor=colors[size % len(colors)], hatch=HATCHES[size % len(HATCHES)])
            bar.set_edgecolor(ink["page"])
            end = "right" if value < 0 else "left"
            axes.annotate(
                text(value),
                (value, k),
                xytext=(-4 if value < 0 else 4, 0),
                textcoords="offset points",
                va="center",
                ha=end,
                color=ink["ink"],
            )
        axes.set_yticks(range(len(values)), [short(name) for name in values])
        axes.invert_yaxis()
        axes.margins(x=0.16)
        axes.axvline(0, color=ink["muted"], linewidth=0.8)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)

    return png(draw, height=1.0 + 0.36 * len(values), dark=dark)


def curves(
    series: Mapping[str, Points],
    marks: Mapping[str, float],
    span: tuple[float, float],
    *,
    shares: bool = False,
    dark: bool = False,
) -> bytes:
    """One line a name over the epochs of `span`; `marks` are vertical lines with a word above each; `shares` lie in
    [0, 1] and are shown on all of it."""

    def draw(axes: Axes, ink: dict[str, str], colors: Sequence[str]) -> None:
        for k, (name, points) in enumerate(series.items()):
            axes.plot(
                *zip(*points, strict=True),
                label=short(name),
                color=colors[k % len(colors)],
                linestyle=DASHES[k % len(DASHES)],
                marker=MARKERS[k % len(MARKERS)],
                # staggered, so that lines that coincide are both seen
                markevery=(k % 2, max(1, len(points) // 12)),
                markersize=5,
            )
        for k, (word, epoch) in enumerate(marks.items()):
            axes.axvline(epoch, color=ink["ink"], linewidth=1.1, linestyle=(0, (4, 3)))
            # two marks may be close: one word ends at its line, the other begins there
            axes.annotate(
                word,
                (epoch, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="left" if k else "right",
                fontsize=10,
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        room = max(0.05 * (span[1] - span[0]), 0.5)
        axes.set_xlim(span[0] - room, span[1] + room)
        axes.margins(y=0.12)
        if shares:
            axes.set_ylim(-0.06, 1.06)
        if len(series) > 1:
            axes.figure.legend(loc="outside lower center", ncols=3, frameon=False)

    return png(draw, height=3.1, dark=dark)


def reliability_plot(bins: Sequence[Mapping[str, Any]], *, dark: bool = False) -> bytes:
    """Accuracy against confidence, one bar a bin, beside the diagonal; a dot's area is the bin's count."""

    def draw(axes: Axes, ink: dict[str, str], colors: Sequence[str]) -> None:
        draw_reliability(axes, bins, ink, colors)
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)

    return png(draw, height=3.6, dark=dark)


def draw_reliability(
    axes: Axes, bins: Sequence[Mapping[str, Any]], ink: Mapping[str, str], colors: Sequence[str]
) -> None:
    """A reliability diagram (DeGroot and Fienberg, 1983) of the rows of `calibration.reliability`, without a legend."""
    filled = [row for row in bins if row.get("count")]
    most = max((row["count"] for row in filled), default=1)
    axes.plot([0, 1], [0, 1], color=ink["muted"], linestyle="--", label="perfectly calibrated")
    for row in filled:
        axes.bar(
            row["low"],
            row["accuracy"],
            width=row["high"] - row["low"],
            align="edge",
            facecolor=colors[0] + "55",
            edgecolor=colors[0],
            hatch="///",
        )
    axes.scatter(
        [row["confidence"] for row in filled],
        [row["accuracy"] for row in filled],
        s=[18 + 110 * row["count"] / most for row in filled],
        color=colors[1],
        edgecolor=ink["page"],
        zorder=3,
        clip_on=False,
        label="bin mean (area: count)",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated confidence", ylabel="actual accuracy")


@contextlib.contextmanager
def styled(*, dark: bool = False) -> Iterator[tuple[dict[str, str], Sequence[str]]]:
    """The look of all figures while one is drawn and saved; gives the inks and the colours of series."""
    ink, colors = (_DARK, _SERIES_DARK) if dark else (_LIGHT, _SERIES)
    style: Any = {
        "text.parse_math": False,  # a name may hold a dollar
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": ink["page"],
        "axes.edgecolor": ink["grid"],
        "axes.labelcolor": ink["muted"],
        "figure.facecolor": ink["page"],
        "grid.color": ink["grid"],
        "grid.linewidth": 0.7,
        "xtick.color": ink["muted"],
        "ytick.color": ink["muted"],
        "ytick.labelcolor": ink["ink"],
        "text.color": ink["ink"],
        "hatch.linewidth": 0.6,
        "svg.hashsalt": "pase",  # the same figure gives the same file
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in scripts without a font here
        yield ink, colors


def png(draw: Callable[[Axes, dict[str, str], Sequence[str]], None], *, height: float, dark: bool) -> bytes:
    """What `draw` draws, of the width that all figures of a page have."""
    with styled(dark=dark) as (ink, colors):
        figure = Figure(figsize=(5.0, min(height, 12.0)), layout="constrained")
        draw(figure.subplots(), ink, colors)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def short(name: str, most: int = 22) -> str:
    """A name, cut where it is too long for a figure."""
    return name if len(name) <= most else name[: most - 1] + "…"
