"""The figures of a page as PNG bytes, narrow enough for a phone: bars, curves, reliability, scatter, confusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pase_msa.report.style import DASHES, MARKERS, draw_reliability, png, short, tone

Points = Sequence[tuple[float, float]]
Text = Callable[[float], str]
Ink = dict[str, str]


def bars(
    values: Mapping[str, float], label: str, text: Text, *, modalities: Sequence[str] = (), dark: bool = False
) -> bytes:
    """Horizontal bars, one per name, from the top.

    Args:
        values: by name.
        label: of the axis.
        text: writes a value at the end of its bar.
        modalities: names that have a colour of their own, in the order of the task.
        dark: for a dark page.
    """

    def draw(axes: Axes, ink: Ink, colors: Sequence[str]) -> None:
        tones = [tone(name, modalities, ink, colors) for name in values]
        axes.barh(range(len(values)), list(values.values()), height=0.62, color=tones, edgecolor=ink["page"])
        for k, value in enumerate(values.values()):
            axes.annotate(
                text(value),
                (value, k),
                xytext=(-4 if value < 0 else 4, 0),
                textcoords="offset points",
                va="center",
                ha="right" if value < 0 else "left",
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
    modalities: Sequence[str] = (),
    fractions: bool = False,
    dark: bool = False,
) -> bytes:
    """One line per name over the epochs.

    Args:
        series: points (epoch, value) by name.
        marks: epochs of vertical lines, by the word above each.
        span: first and last epoch of the axis.
        modalities: names that have a colour of their own, in the order of the task.
        fractions: whether values lie in [0, 1], all of which the axis has then.
        dark: for a dark page.
    """

    def draw(axes: Axes, ink: Ink, colors: Sequence[str]) -> None:
        others = [name for name in series if name not in modalities]
        first = len(modalities) if len(others) < len(series) else 0
        for name, points in series.items():
            number = list(modalities).index(name) if name in modalities else first + others.index(name)
            # the first line that is no modality's is the darkest
            color = ink["ink"] if others[:1] == [name] else tone(name, modalities, ink, colors)
            axes.plot(
                *zip(*points, strict=True),
                label=short(name),
                color=color,
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKERS[number % len(MARKERS)],
                # staggered, so that lines that coincide are both visible
                markevery=(number % 2, max(1, len(points) // 12)),
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
                ha="left" if k or epoch < sum(span) / 2 else "right",
                fontsize=10,
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        room = max(0.05 * (span[1] - span[0]), 0.5)
        axes.set_xlim(span[0] - room, span[1] + room)
        axes.margins(y=0.12)
        if fractions:
            axes.set_ylim(-0.06, 1.06)
        if len(series) > 1:
            axes.figure.legend(loc="outside lower center", ncols=3, frameon=False)

    return png(draw, height=3.1, dark=dark)


def reliability_plot(bins: Sequence[Mapping[str, Any]], *, dark: bool = False) -> bytes:
    """Accuracy against confidence, one bar per bin, beside the diagonal; a dot's area is the bin's count."""

    def draw(axes: Axes, ink: Ink, colors: Sequence[str]) -> None:
        draw_reliability(axes, bins, ink)
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)

    return png(draw, height=3.6, dark=dark)


def scatter(truth: NDArray[np.float64], score: NDArray[np.float64], *, dark: bool = False) -> bytes:
    """Predicted against true scores, both [N], one dot per utterance, beside the diagonal."""

    def draw(axes: Axes, ink: Ink, colors: Sequence[str]) -> None:
        low, high = (float(end) for end in (min(truth.min(), score.min()), max(truth.max(), score.max())))
        room = 0.05 * (high - low or 1.0)
        ends = (low - room, high + room)
        axes.plot(ends, ends, color=ink["muted"], linestyle="--", linewidth=1.0)
        # transparent, so that many dots in one place are darker than one
        axes.scatter(truth, score, s=16, color=ink["ink"], alpha=max(0.25, min(0.8, 60 / len(truth))), linewidth=0)
        axes.set(xlim=ends, ylim=ends, xlabel="true score", ylabel="predicted score", aspect="equal")
        axes.grid(visible=True, axis="both")

    return png(draw, height=4.4, dark=dark)


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], *, dark: bool = False) -> bytes:
    """Utterances by true class (row) and predicted class (column), [K, K]; shades are shares of the row."""

    def draw(axes: Axes, ink: Ink, colors: Sequence[str]) -> None:
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Greys_r" if dark else "Greys", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(*counts.shape):
            strong = shares[row, column] > 0.5
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                # on a dark page a strong share is bright
                color=("#000000" if strong else "#ffffff") if dark else ("#ffffff" if strong else "#000000"),
            )
        names = [short(name, 12) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 4 else 0)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    return png(draw, height=1.4 + 0.45 * len(classes), dark=dark)
