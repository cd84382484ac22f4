"""A diagnosis as a picture: one panel per modality, its four contributions from left to right, the verdict above."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, replacing
from pase_msa.heldout.contributions import Estimate
from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis
from pase_msa.heldout.table import HEADINGS, advice, counted
from pase_msa.report.style import MARKERS, short, styled, tone

_COLUMNS = 4
_LEAST = 0.03  # nats; half of the least height of a panel, so that no noise is blown up to look like something
_WIDEST = 3.0  # an interval may be so many times as far from zero as the furthest estimate, beyond it is cut
_SMALLEST = 1 / 8  # with a common scale, the panel with the smallest contributions fills at least this much
_FORMATS = ("png", "svg")
Limits = tuple[float, float]


def check_picture(file: str | Path) -> Path:
    """The path, if a picture can be written there.

    Errors: PaSEError for an ending other than .png and .svg, and for a folder.
    """
    target = Path(file)
    if target.suffix.lower().removeprefix(".") not in _FORMATS:
        raise PaSEError(f"A picture ends in .png or .svg, found {target.name!r}; name such a file.")
    if target.is_dir():
        raise PaSEError(f"{str(target)!r} is a folder; name a file for the picture.")
    return target


def plot_diagnosis(diagnosis: Diagnosis, file: str | Path | None = None, *, dark: bool = False) -> Figure:
    """The picture of a diagnosis, one panel per modality.

    All panels share one vertical scale, unless the contributions of one modality would be too small to see beside
    those of another. Then each panel has its own scale, and the picture says so.

    Args:
        diagnosis: the result of `pase_msa.diagnose`.
        file: .png or .svg to write, whole or not at all.
        dark: for a dark page.

    Errors: PaSEError for a file that no picture can be written to.
    """
    target = None if file is None else check_picture(file)
    with styled(dark=dark) as (ink, colors), mpl.rc_context({"svg.hashsalt": "pase", "svg.fonttype": "none"}):
        count = len(diagnosis.modalities)
        columns = min(count, _COLUMNS) if count != 5 else 3
        rows = -(-count // columns)
        figure = Figure(figsize=(max(3.1 * columns, 4.4), 3.0 * rows + 0.9), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        limits = common_limits([_estimates(row) for row in diagnosis.modalities.values()])
        for panel, (name, row) in zip(panels, diagnosis.modalities.items(), strict=False):
            color = tone(name, list(diagnosis.modalities), ink, colors)
            draw_estimates(panel, _estimates(row), list(HEADINGS.values()), ink, color, limits=limits)
            panel.set_title(f"{short(name)}: {row.verdict}", loc="left", fontsize=12, fontweight="bold", pad=18)
            panel.text(0, 1.02, advice(row), transform=panel.transAxes, fontsize=8.5, color=ink["muted"], va="bottom")
        for panel in panels[count:]:
            panel.set_visible(False)
        lines = ["What each modality contributes", counted(diagnosis)]
        if count > 1:
            lines.append("All panels share one scale." if limits else "Each panel has a scale of its own.")
        figure.suptitle("\n".join(lines), fontsize=11, color=ink["muted"])
        figure.supylabel("nats per utterance, with 95 % intervals", fontsize=11, color=ink["muted"])
        if target is not None:
            _write(figure, target)
    return figure


def _estimates(row: ModalityDiagnosis) -> list[Estimate]:
    return [getattr(row.evidence, source) for source in HEADINGS]


def common_limits(panels: Sequence[Sequence[Estimate]]) -> Limits | None:
    """Limits of a vertical axis that all panels can share; None where one of them would be too small to see.

    Args:
        panels: the estimates of each panel.
    """
    if not panels:
        return None
    limits = [_limits(estimates) for estimates in panels]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    smallest = min(part[1] - part[0] for part in limits)
    return (low, high) if smallest >= _SMALLEST * (high - low) else None


def _limits(estimates: Sequence[Estimate]) -> Limits:
    """Limits of the vertical axis for some estimates with their intervals."""
    values = [estimate.value for estimate in estimates]
    low, high = _ends(estimates)
    if not all(np.isfinite(estimate.error) for estimate in estimates):
        low = high = np.array(values)
    least, most = min(*low, -_LEAST), max(*high, _LEAST)
    return least - 0.08 * (most - least), most + 0.14 * (most - least)


def _ends(estimates: Sequence[Estimate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the intervals, cut where they are far longer than the estimates are from zero."""
    room = max(*(abs(estimate.value) for estimate in estimates), _LEAST / _WIDEST) * _WIDEST
    low, high = (np.clip([getattr(e, end) for e in estimates], -room, room) for end in ("low", "high"))
    return low, high


def draw_estimates(
    axes: Axes,
    estimates: Sequence[Estimate],
    labels: Sequence[str],
    ink: dict[str, str],
    color: str,
    *,
    parts: Sequence[int] = (),
    limits: Limits | None = None,
) -> None:
    """Estimates with their intervals from left to right, on a common zero line.

    Args:
        axes: to draw on.
        estimates: one per label. One without an interval has a hollow marker.
        labels: below each.
        ink: from `style.styled`.
        color: of the estimates, that of their modality.
        parts: sizes of groups of neighbours that are joined by a line and kept apart from the next; one if left out.
        limits: of the vertical axis; those of these estimates if left out.
    """
    values = [estimate.value for estimate in estimates]
    sizes = list(parts) or [len(values)]
    group = np.repeat(np.arange(len(sizes)), sizes)
    places = np.arange(len(values)) + 0.6 * group
    low, high = _ends(estimates)
    axes.axhline(0, color=ink["ink"], linewidth=1.0)
    for part in range(len(sizes)):
        joined = np.flatnonzero(group == part)
        line = [values[k] for k in joined]
        axes.plot(places[joined], line, color=ink["muted"], linewidth=1.0, linestyle=":", zorder=1)
    for k, (value, estimate) in enumerate(zip(values, estimates, strict=True)):
        bounded = bool(np.isfinite(estimate.error))
        axes.errorbar(
            places[k],
            value,
            yerr=[[max(value - low[k], 0.0)], [max(high[k] - value, 0.0)]] if bounded else None,
            color=color,
            marker=MARKERS[k],
            markersize=7,
            markerfacecolor=color if bounded else "none",
            capsize=3,
            elinewidth=1.8,
        )
        # above the interval, where neither the line nor a neighbour runs through it
        axes.annotate(
            f"{value:+.3f}",
            (places[k], max(high[k], value) if bounded else value),
            xytext=(0, 3 if bounded else 7),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            bbox={"facecolor": ink["page"], "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
    axes.set_ylim(*(limits or _limits(estimates)))
    axes.set_xlim(-0.5, float(places[-1]) + 0.5)
    axes.set_xticks(places, [label.replace(" ", "\n", 1) for label in labels], fontsize=8.5)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="y", labelsize=9)
    axes.grid(visible=False, axis="x")


def _write(figure: Figure, target: Path) -> None:
    kind = target.suffix.lower().removeprefix(".")
    buffer = io.BytesIO()
    # no date and no version in the file: the same diagnosis gives the same bytes
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    try:
        make_folder(target.parent)
        with replacing(target) as partial:
            partial.write_bytes(buffer.getvalue())
    except OSError as error:
        raise PaSEError(f"The picture cannot be written to {str(target)!r}: {error.strerror}.") from error
