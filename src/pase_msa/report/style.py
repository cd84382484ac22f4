"""The look of all figures: inks, colours, markers, for a light and for a dark page.

On a page a colour always stands for the same modality; what belongs to no modality is drawn in grey. Figures can be
read without colour: series differ by marker and dash, bars by hatch or by their names.
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

# a light and a dark tone of the colour-blind safe set of Okabe and Ito (2008), in an order of unequal greys
_LIGHT = {"ink": "#1d2430", "muted": "#667085", "grid": "#d7dce4", "page": "#ffffff"}
_DARK = {"ink": "#e6e9ef", "muted": "#98a2b3", "grid": "#3a4250", "page": "#171b22"}
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
_SERIES_DARK = ("#56b4e9", "#f28e4b", "#2fc59b", "#e3a3c6", "#f0c341", "#a9d6f5")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "+++")


def draw_reliability(axes: Axes, bins: Sequence[Mapping[str, Any]], ink: Mapping[str, str]) -> None:
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
            facecolor=ink["grid"],
            edgecolor=ink["muted"],
            hatch="///",
        )
    axes.scatter(
        [row["confidence"] for row in filled],
        [row["accuracy"] for row in filled],
        s=[18 + 110 * row["count"] / most for row in filled],
        color=ink["ink"],
        edgecolor=ink["page"],
        zorder=3,
        clip_on=False,
        label="bin mean (area: count)",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated confidence", ylabel="actual accuracy")


@contextlib.contextmanager
def styled(*, dark: bool = False) -> Iterator[tuple[dict[str, str], Sequence[str]]]:
    """The look of all figures while one is drawn and saved.

    Yields:
        Inks by their use ("ink", "muted", "grid", "page"), and the colours of series in order.
    """
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


def tone(name: str, modalities: Sequence[str], ink: Mapping[str, str], colors: Sequence[str]) -> str:
    """The colour of a modality, the same in every figure of a page; grey for what is no modality."""
    return colors[list(modalities).index(name) % len(colors)] if name in modalities else ink["muted"]


def png(draw: Callable[[Axes, dict[str, str], Sequence[str]], None], *, height: float, dark: bool) -> bytes:
    """A figure as PNG bytes, of the width that all figures of a page have.

    Args:
        draw: draws into the axes, given inks and colours.
        height: in inches.
        dark: for a dark page.
    """
    with styled(dark=dark) as (ink, colors):
        figure = Figure(figsize=(5.0, min(height, 12.0)), layout="constrained")
        draw(figure.subplots(), ink, colors)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def short(name: str, most: int = 22) -> str:
    """A name, cut off where it has more than `most` letters."""
    return name if len(name) <= most else name[: most - 1] + "…"
