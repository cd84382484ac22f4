"""Figure 4: how far the gates of prototype-gated fusion are open, by modality and class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.figures.grouping import groups
from pase_msa.figures.panels import methods, panels
from pase_msa.report.style import short, styled


def measure(runs: Sequence[LoadedRun]) -> pd.DataFrame:
    """Mean gate of each modality over the utterances of each class that have it.

    An utterance's gate is the mean of g_m (eq. 12) over its D components; its share is the gate over the sum of the
    gates of the modalities that the utterance has. The gates are those of the network that is given all modalities,
    also where the prediction trusts only some; `trust` tells the modality's share of the prediction.

    Returns:
        Columns method, seed, split, group (class or polarity), modality, count (utterances), gate, gate_sd, share,
        share_sd, trust. The deviations are over utterances (N - 1).

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
                        "coalition_weights": run.model.prediction_weight(name),
                    }
                )
    return pd.DataFrame(rows)


def _moments(name: str, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    return {
        name: float(values.mean()) if len(values) else float("nan"),
        f"{name}_sd": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
    }


def draw(
    frame: pd.DataFrame, value: Literal["gate", "share"] = "share", *, span: tuple[float, float] | None = (0.0, 1.0)
) -> Figure:
    """A heat map a method, classes in rows and modalities in columns; several seeds are averaged.

    Each cell has the mean and, smaller, the deviation over utterances.

    Args:
        frame: from `measure`.
        value: the gate itself, or its share.
        span: of the colours. All that is possible by default, so that gates that hardly differ look alike; None for the
            range of the cells, which shows differences however small.
    """
    names, spread_of = methods(frame), f"{value}_sd"
    found = (
        frame.groupby(["method", "group", "modality"], sort=False)[[value, spread_of, "coalition_weights"]]
        .mean()
        .reset_index()
    )
    groups_, modalities = list(dict.fromkeys(found["group"])), list(dict.fromkeys(found["modality"]))
    low, high = span or (found[value].min(), found[value].max())
    with styled():
        size = {"width": 1.6 + 1.05 * len(modalities), "height": 1.5 + 0.55 * len(groups_)}
        figure, axes = panels(len(names), **size, most=2)
        image: AxesImage | None = None
        for name, part in zip(names, axes, strict=True):
            mine = found[found["method"] == name].set_index(["group", "modality"])
            cells = np.array([[_cell(mine, g, m, value) for m in modalities] for g in groups_])
            image = part.imshow(cells, cmap="cividis", vmin=low, vmax=high if high > low else low + 1e-9, aspect="auto")
            for i, group in enumerate(groups_):
                for k, modality in enumerate(modalities):
                    mean, deviation = cells[i, k], _cell(mine, group, modality, spread_of)
                    dark = not np.isfinite(mean) or (mean - low) < 0.55 * (high - low)
                    color = "#ffffff" if dark else "#000000"
                    part.text(k, i, _number(mean), ha="center", va="bottom", color=color)
                    part.text(k, i + 0.06, f"± {_number(deviation)}", ha="center", va="top", color=color, fontsize=8.5)
            part.set_xticks(range(len(modalities)), [_column(mine, groups_, m) for m in modalities])
            part.set_yticks(range(len(groups_)), [short(group) for group in groups_])
            part.grid(visible=False)
            part.spines[:].set_visible(False)
            part.tick_params(length=0)
            part.set_title(short(name, 34), fontsize=11)
            part.set_xlabel("modality")
        axes[0].set_ylabel("true class")
        words = {"gate": "mean gate (0 to 1)", "share": "share of the gates (0 to 1)"}
        assert image is not None
        figure.colorbar(image, ax=axes, label=words[value])
    return figure


def _cell(mine: pd.DataFrame, group: str, modality: str, column: str) -> float:
    return float(mine[column].get((group, modality), float("nan")))


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "none"


def _column(mine: pd.DataFrame, order: Sequence[str], modality: str) -> str:
    """A modality, and what the prediction takes of it where that is not all."""
    trust = max((_cell(mine, group, modality, "prediction_weight") for group in order), default=1.0)
    return short(modality, 12) + (f"\n({100 * trust:.0f} % trusted)" if trust < 0.995 else "")
