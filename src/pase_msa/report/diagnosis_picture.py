"""A diagnosis as a picture: a panel a modality, its four contributions from left to right, the verdict above."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pase_msa.errors import PaSEError
from pase_msa.files import replacing
from pase_msa.heldout.contributions import Estimate
from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis
from pase_msa.heldout.table import HEADINGS, advice, counted
from pase_msa.report.style import MARKERS, short, styled

_COLUMNS = 4
_LEAST = 0.03  # nats; half of the least height of a panel, so that no noise is blown up to look like something
_WIDEST = 3.0  # an interval may be so many times as far from zero as the furthest estimate, beyond it is cut
_FORMATS = ("png", "svg")


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
    """The picture of a diagnosis, a panel a modality; every panel has its own scale and starts from a common zero line.

    Args:
        diagnosis: what `pase_msa.diagnose` found.
        file: .png or .svg to write, whole or not at all.
        dark: for a dark page.

    Errors: PaSEError for a file that no picture can be written to.
    """
    target = None if file is None else check_picture(file)
    with styled(dark=dark) as (ink, colors), mpl.rc_context({"svg.hashsalt": "pase", "svg.fonttype": "none"}):
        count = len(diagnosis.modalities)
        columns = min(count, _COLUMNS) if count != 5 else 3
        rows = -(-count // columns)
        figure = Figure(figsize=(max(3.1 * columns, 4.4), 3.0 * rows + 0.7), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, (name, found) in zip(panels, diagnosis.modalities.items(), strict=False):
            _draw(panel, name, found, ink, colors)
        for panel in panels[count:]:
            panel.set_visible(False)
        figure.suptitle(f"What each modality contributes\n{counted(diagnosis)}", fontsize=11, color=ink["muted"])
        figure.supylabel("nats an utterance, with 95 % intervals", fontsize=11, color=ink["muted"])
        if target is not None:
            _write(figure, target)
    return figure


def _draw(axes: Axes, name: str, found: ModalityDiagnosis, ink: dict[str, str], colors: Sequence[str]) -> None:
    estimates = [getattr(found.evidence, source) for source in HEADINGS]
    draw_estimates(axes, estimates, list(HEADINGS.values()), ink, colors)
    axes.set_title(f"{short(name)}: {found.verdict}", loc="left", fontsize=12, fontweight="bold", pad=18)
    axes.text(0, 1.02, advice(found), transform=axes.transAxes, fontsize=8.5, color=ink["muted"], va="bottom")


def draw_estimates(
    axes: Axes,
    estimates: Sequence[Estimate],
    labels: Sequence[str],
    ink: dict[str, str],
    colors: Sequence[str],
    parts: Sequence[int] = (),
) -> None:
    """Estimates with their intervals from left to right, on a common zero line.

    Args:
        axes: to draw on.
        estimates: one a label.
        labels: below each.
        ink: from `figures.styled`.
        colors: of the estimates.
        parts: sizes of groups of neighbours that are joined by a line and kept apart from the next; one if left out.
    """
    values = [estimate.value for estimate in estimates]
    sizes = list(parts) or [len(values)]
    group = np.repeat(np.arange(len(sizes)), sizes)
    places = np.arange(len(values)) + 0.6 * group
    room = max(*map(abs, values), _LEAST / _WIDEST) * _WIDEST
    low, high = (np.clip([getattr(e, end) for e in estimates], -room, room) for end in ("low", "high"))
    axes.axhline(0, color=ink["ink"], linewidth=1.0)
    for part in range(len(sizes)):
        joined = np.flatnonzero(group == part)
        line = [values[k] for k in joined]
        axes.plot(places[joined], line, color=ink["muted"], linewidth=1.0, linestyle=":", zorder=1)
    for k, (value, estimate) in enumerate(zip(values, estimates, strict=True)):
        known = bool(np.isfinite(estimate.error))
        axes.errorbar(
            places[k],
            value,
            yerr=[[max(value - low[k], 0.0)], [max(high[k] - value, 0.0)]] if known else None,
            color=colors[k],
            marker=MARKERS[k],
            markersize=7,
            markerfacecolor=colors[k] if known else "none",
            capsize=3,
            elinewidth=1.8,
        )
        # above the interval, where neither the line nor a neighbour runs through it
        axes.annotate(
            f"{value:+.3f}",
            (places[k], max(high[k], value) if known else value),
            xytext=(0, 3 if known else 7),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            bbox={"facecolor": ink["page"], "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
    least, most = min(*low, -_LEAST), max(*high, _LEAST)
    if not all(np.isfinite(estimate.error) for estimate in estimates):
        least, most = min(*values, -_LEAST), max(*values, _LEAST)
    axes.set_ylim(least - 0.08 * (most - least), most + 0.14 * (most - least))
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
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            partial.write_bytes(buffer.getvalue())
    except OSError as error:
        raise PaSEError(f"The picture cannot be written to {str(target)!r}: {error.strerror}.") from error
