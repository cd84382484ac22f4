"""The contributions of every modality as rows of a table and as pictures: closed-form reference beside network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from pase_msa.heldout.contributions import Estimate
from pase_msa.heldout.table import HEADINGS
from pase_msa.report.diagnosis_picture import Limits, common_limits, draw_estimates
from pase_msa.report.page import Picture, picture
from pase_msa.report.style import png, tone

COLUMNS = (
    *(("reference", source, heading) for source, heading in HEADINGS.items()),
    ("network", "train", "training"),
    ("network", "valid", "validation"),
)
"""Side of an estimate, its key and its heading, from left to right."""


def estimates(row: Mapping[str, Any]) -> list[Estimate]:
    """The estimates of a modality, in the order of `COLUMNS`."""
    return [Estimate.from_dict(row[side][key]) for side, key, _ in COLUMNS]


def interval(estimate: Estimate) -> str:
    """The 95 % interval, or that there is none."""
    return "no interval" if estimate.error == float("inf") else f"{estimate.low:+.3f} to {estimate.high:+.3f}"


def modality_pictures(report: Mapping[str, Any] | None, modalities: Sequence[str]) -> list[Picture]:
    """One picture per modality of a modality report; its title says so where they have different scales.

    Args:
        report: `modality_report` of an evaluation.
        modalities: in the order of the task, so that each has its colour.
    """
    rows = (report or {}).get("modalities") or {}
    limits = common_limits([estimates(row) for row in rows.values()])
    own = ", on a scale of its own" if limits is None and len(rows) > 1 else ""
    return [
        picture(
            f"{name}: {row['verdict']}{own}",
            "; ".join(
                f"{side}, {heading} {estimate.value:+.3f} ({interval(estimate)})"
                for (side, _, heading), estimate in zip(COLUMNS, estimates(row), strict=True)
            ),
            partial(contributions_plot, row, name=name, modalities=modalities, limits=limits),
        )
        for name, row in rows.items()
    ]


def contributions_plot(
    row: Mapping[str, Any],
    *,
    name: str = "",
    modalities: Sequence[str] = (),
    limits: Limits | None = None,
    dark: bool = False,
) -> bytes:
    """The estimates of one modality with their intervals: the reference's four, then the network's two.

    Args:
        row: of the modality, in a modality report.
        name: of the modality, for its colour.
        modalities: in the order of the task.
        limits: of the vertical axis; those of the estimates if left out.
        dark: for a dark page.
    """
    row_estimates = estimates(row)

    def draw(axes: Axes, ink: dict[str, str], colors: Sequence[str]) -> None:
        labels = [heading for _, _, heading in COLUMNS]
        color = tone(name, modalities, ink, colors)
        draw_estimates(axes, row_estimates, labels, ink, color, parts=(len(HEADINGS), 2), limits=limits)
        for x, word in ((1.5, "reference"), (len(HEADINGS) + 1.1, "network")):
            axes.annotate(
                word, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points", ha="center"
            )
        axes.axvline(len(HEADINGS) - 0.2, color=ink["grid"], linewidth=1.0)
        axes.set_ylabel("nats per utterance")

    return png(draw, height=3.2, dark=dark)
