"""The training log as pictures: one per quantity, one line per series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from pase_msa.report import charts
from pase_msa.report.charts import Points
from pase_msa.report.numbers import finite, metric_label
from pase_msa.report.page import Picture, picture

Rows = Sequence[Mapping[str, Any]]
#: what the log has of every modality: prefix of the key -> caption
_OF_MODALITIES = {
    "phi": "Learning-rate factor φ",
    "psi": "Shapley value ψ",
    "prediction_weight": "Part of the prediction that uses a modality (of the network's part), and the reference's",
    "weight": "Fusion weight",
    "gradient": "Norm of the gradient, before clipping",
}
_FRACTIONS = ("phi", "prediction_weight")
BALANCING_ON, BALANCING_OFF = "balancing on", "balancing off"


def phase_marks(phases: Mapping[str, Any] | None) -> dict[str, float]:
    """Epochs that curves are marked at, by the word above the line."""
    ends = {BALANCING_ON: "switched_at", BALANCING_OFF: "guarded_at"}
    return {word: epoch for word, key in ends.items() if (epoch := finite((phases or {}).get(key))) is not None}


def learning_pictures(
    history: Rows, main: str, modalities: Sequence[str], marks: Mapping[str, float]
) -> tuple[list[Picture], list[str]]:
    """Pictures of the training log, and sentences in place of those in which nothing changes.

    Args:
        history: rows of the log; several rows per epoch are averaged, empty cells are skipped.
        main: the metric that selects epochs.
        modalities: in the order of the task, so that each has its colour.
        marks: from `phase_marks`.
    """
    epochs = [epoch for row in history if (epoch := finite(row.get("epoch"))) is not None]
    first, last = min(epochs, default=0.0), max(epochs, default=0.0)
    inside = {word: epoch for word, epoch in marks.items() if first <= epoch <= last}
    pictures, constant = [], []
    for caption, keys in _groups(main, modalities).items():
        series = {name: points for name, key in keys.items() if (points := _series(history, key))}
        if not series:
            continue
        if sentence := _never_changes(caption, series):
            constant.append(sentence)
            continue
        alt = "; ".join(f"{name}: {p[0][1]:.3g} first, {p[-1][1]:.3g} last" for name, p in series.items())
        alt += "".join(f"; {word} at epoch {epoch:g}" for word, epoch in inside.items())
        fractions = caption in [_OF_MODALITIES[key] for key in _FRACTIONS]
        span = (first, last)
        draw = partial(charts.curves, series, inside, span, modalities=modalities, fractions=fractions)
        pictures.append(picture(caption, alt, draw))
    return pictures, constant


def _groups(main: str, modalities: Sequence[str]) -> dict[str, dict[str, str]]:
    """By caption: keys in the log by the name of their line."""
    groups = {
        f"Validation {metric_label(main)}": {main: f"val/{main}"},
        "Loss (validation: negative log-likelihood)": {"training": "train/loss", "validation": "val/nll"},
        "Predictive entropy on validation (nats)": {"entropy": "val/entropy"},
    }
    for prefix, caption in _OF_MODALITIES.items():
        names = dict.fromkeys([*modalities, "reference"] if prefix == "prediction_weight" else modalities)
        groups[caption] = {name: f"{prefix}/{name}" for name in names}
    return groups


def _series(history: Rows, key: str) -> Points:
    """(epoch, mean) of the cells that hold a number."""
    cells: dict[float, list[float]] = defaultdict(list)
    for row in history:
        epoch, value = finite(row.get("epoch")), finite(row.get(key))
        if epoch is not None and value is not None:
            cells[epoch].append(value)
    return [(epoch, fmean(values)) for epoch, values in sorted(cells.items())]


def _never_changes(caption: str, series: Mapping[str, Points]) -> str:
    """A sentence on curves that are flat over several epochs; empty for others."""
    values = {name: {round(value, 9) for _, value in points} for name, points in series.items()}
    several = max(map(len, series.values())) > 1
    if not several or any(len(distinct) > 1 for distinct in values.values()):
        return ""
    ends = {name: distinct.pop() for name, distinct in values.items()}
    if len(set(ends.values())) == 1:
        what = f"{next(iter(ends.values())):g}"
    else:
        what = ", ".join(f"{value:g} for {name}" for name, value in ends.items())
    return f"{caption}: {what} in every epoch."
