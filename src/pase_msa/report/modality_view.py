"""What became of every modality as rows of a table and as pictures: the reference's estimates beside the network's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from pase_msa.heldout.contributions import Estimate
from pase_msa.heldout.table import HEADINGS
from pase_msa.report import style as figures
from pase_msa.report.diagnosis_picture import draw_estimates

COLUMNS = (
    *(("reference", source, heading) for source, heading in HEADINGS.items()),
    ("network", "train", "training"),
    ("network", "valid", "validation"),
)
"""Whose estimate, its key and its heading, from left to right."""


def estimates(row: Mapping[str, Any]) -> list[Estimate]:
    """The estimates of a modality, in the order of `COLUMNS`."""
    return [Estimate.from_dict(row[whose][key]) for whose, key, _ in COLUMNS]


def interval(found: Estimate) -> str:
    """The 95 % interval, or that there is none."""
    return "no interval" if found.error == float("inf") else f"{found.low:+.3f} to {found.high:+.3f}"


def contributions_plot(row: Mapping[str, Any], *, dark: bool = False) -> bytes:
    """The estimates of one modality with their intervals: the reference's four, then the network's two."""
    found = estimates(row)

    def draw(axes: Axes, ink: dict[str, str], colors: Sequence[str]) -> None:
        labels = [heading for _, _, heading in COLUMNS]
        draw_estimates(axes, found, labels, ink, colors, parts=(len(HEADINGS), 2))
        for x, word in ((1.5, "reference"), (len(HEADINGS) + 1.1, "network")):
            axes.annotate(
                word, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points", ha="center"
            )
        axes.axvline(len(HEADINGS) - 0.2, color=ink["grid"], linewidth=1.0)
        axes.set_ylabel("nats an utterance")

    return figures.png(draw, height=3.2, dark=dark)
