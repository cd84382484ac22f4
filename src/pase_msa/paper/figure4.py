"""Figure 4: how far the gates of prototype-gated fusion are open, by modality and class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.image import AxesImage

from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.evaluation.statistics import estimate
from pase_msa.paper import methods
from pase_msa.paper.grouping import groups
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.panels import drawable, panels
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.quoted import quoted
from pase_msa.paper.results import Results
from pase_msa.report.numbers import mean_sd
from pase_msa.report.style import short, styled

Value = Literal["gate", "share"]


def variants(protocol: Protocol) -> dict[str, Options]:
    """Both versions of PaSE."""
    return methods.both_versions()


def measure(runs: Sequence[LoadedRun]) -> pd.DataFrame:
    """Mean gate of each modality over the utterances of each class that have it.

    An utterance's gate is the mean of g_m (eq. 12) over its D components. Its share is the gate divided by the sum of
    the gates of the modalities that the utterance has. The gates are those of the network given all modalities, also
    where the prediction is a mixture over fewer.

    Returns:
        Columns method, seed, split, group (class or polarity), modality, count (utterances), gate, gate_sd, share,
        share_sd, prediction_weight (what the modality has of the prediction). The deviations are over utterances
        (N - 1).

    Errors:
        PaSEError: a model without gates.
    """
    rows = []
    for run in runs:
        outputs = run.outputs(network=True)
        if not all(output.gates for output in outputs):
            raise PaSEError(
                f"{run.method} has no gates: this figure wants PaSE with --model.fusion gated; leave the run out."
            )
        names = list(run.task.modalities)
        gate = torch.cat([torch.stack([o.gates[n].float().mean(1) for n in names], 1) for o in outputs]).cpu().numpy()
        there = torch.cat([torch.stack([o.present[n] for n in names], 1) for o in outputs]).cpu().numpy()
        # an absent modality has a gate that nothing passes through: it takes no share
        share = np.where(there, gate, 0.0) / np.where(there, gate, 0.0).sum(1, keepdims=True)
        member, order = groups(run)
        for group in order:
            for k, name in enumerate(names):
                chosen = (member == group) & there[:, k]
                rows.append(
                    {
                        **run.stamp,
                        "group": group,
                        "modality": name,
                        "count": int(chosen.sum()),
                        **_moments("gate", gate[chosen, k]),
                        **_moments("share", share[chosen, k]),
                        "prediction_weight": run.model.prediction_weight(name),
                    }
                )
    return pd.DataFrame(rows)


def _moments(name: str, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    """Mean and standard deviation of values [n]; NaN where there are too few."""
    return {
        name: float(values.mean()) if len(values) else float("nan"),
        f"{name}_sd": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
    }


def draw(frame: pd.DataFrame, value: Value = "share", *, span: tuple[float, float] | None = (0.0, 1.0)) -> MplFigure:
    """One heat map per method, classes in rows and modalities in columns; several seeds are averaged.

    Each cell has the mean and, smaller, the deviation over utterances.

    Args:
        frame: from `measure`.
        value: the gate itself, or its share.
        span: of the colours. By default all that is possible, so that gates that hardly differ look alike. None for the
            range of the cells, which makes every difference visible, however small.
    """
    deviation = f"{value}_sd"
    drawable(frame, "method", "group", "modality", value, deviation, "prediction_weight")
    means = (
        frame.groupby(["method", "group", "modality"], sort=False)[[value, deviation, "prediction_weight"]]
        .mean()
        .reset_index()
    )
    names, classes, modalities = (list(dict.fromkeys(means[key])) for key in ("method", "group", "modality"))
    low, high = span or (means[value].min(), means[value].max())
    with styled():
        size = {"width": 1.6 + 1.05 * len(modalities), "height": 1.5 + 0.55 * len(classes)}
        figure, axes = panels(len(names), **size, most=2)
        images = [
            _heat_map(part, means[means["method"] == name].set_index(["group", "modality"]), value, (low, high))
            for name, part in zip(names, axes, strict=True)
        ]
        for name, part in zip(names, axes, strict=True):
            part.set_title(short(name, 34), fontsize=11)
        axes[0].set_ylabel("true class")
        words = {"gate": "mean gate (0 to 1)", "share": "share of the gates (0 to 1)"}
        figure.colorbar(images[0], ax=axes, label=words[value])
    return figure


def _heat_map(axes: Axes, means: pd.DataFrame, value: Value, span: tuple[float, float]) -> AxesImage:
    """One method: colours of the mean, numbers of mean and deviation."""
    classes, modalities = (list(dict.fromkeys(means.index.get_level_values(k))) for k in (0, 1))
    low, high = span
    cells = np.array([[_cell(means, group, modality, value) for modality in modalities] for group in classes])
    image = axes.imshow(cells, cmap="cividis", vmin=low, vmax=high if high > low else low + 1e-9, aspect="auto")
    for i, group in enumerate(classes):
        for k, modality in enumerate(modalities):
            mean, deviation = cells[i, k], _cell(means, group, modality, f"{value}_sd")
            # the middle of the colour map counts as dark
            dark = not np.isfinite(mean) or (mean - low) < 0.55 * (high - low)
            color = "#ffffff" if dark else "#000000"
            axes.text(k, i, _number(mean), ha="center", va="bottom", color=color)
            axes.text(k, i + 0.06, f"(sd {_number(deviation)})", ha="center", va="top", color=color, fontsize=8.5)
    axes.set_xticks(range(len(modalities)), [_column(means, classes, modality) for modality in modalities])
    axes.set_yticks(range(len(classes)), [short(group) for group in classes])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("modality")
    return image


def _cell(means: pd.DataFrame, group: str, modality: str, column: str) -> float:
    return float(means[column].get((group, modality), float("nan")))


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "none"


def _column(means: pd.DataFrame, classes: Sequence[str], modality: str) -> str:
    """A modality, with its prediction weight where that is not all."""
    weight = max((_cell(means, group, modality, "prediction_weight") for group in classes), default=1.0)
    return short(modality, 12) + (f"\n(weight {100 * weight:.0f} %)" if weight < 0.995 else "")


def build(results: Results) -> Section:
    """The mean gate and share by class and modality, as a table and as heat maps.

    Errors:
        PaSEError: no run is finished, or a model has no gates.
    """
    frame = results.each_run(results.variants, lambda runs: measure(runs))
    rows, data = [], []
    for (method, group, modality), part in frame.groupby(["method", "group", "modality"], sort=False):
        line = [str(method), str(group), str(modality)]
        for column in ("gate", "share"):
            values = part[column].dropna()
            line.append(mean_sd(values) if len(values) else "none")
            if len(values):
                about = vars(estimate(values))
                data.append({"method": method, "group": group, "modality": modality, "value": column, **about})
        rows.append([*line, str(part["seed"].nunique())])
    notes = ["± is the deviation over seeds of the mean of a class. The heat map has the deviation over utterances."]
    if results.protocol.quoted == "iemocap":
        published = ", ".join(f"{row.metric} {row.value:.3f}" for row in quoted("figure4").itertuples())
        notes.append(f"Quoted from the paper's text: {published}.")
    notes.append("Gates begin at .88. Where all cells look alike, training has hardly moved them: that is the result.")
    columns = ["method", "class", "modality", "gate", "share", "seeds"]
    title = "Mean gate, and its share among the modalities"
    return Section(
        f"Figure 4: gates of the fusion on {results.protocol.name}",
        [Table("figure4-means", title, columns, rows, pd.DataFrame(data))],
        [
            Figure("figure4", "Share of the gates by class and modality.", draw(frame, "share"), frame),
            Figure("figure4-gates", "The gates themselves.", draw(frame, "gate"), frame),
        ],
        notes,
    )
