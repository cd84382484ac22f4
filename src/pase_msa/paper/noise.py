"""Further than the paper: robustness to Gaussian noise in the features of one modality at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure as MplFigure
from torch import Tensor

from pase_msa.batch import Batch
from pase_msa.encoders.scaler import Standardizer
from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import LoadedRun, generator
from pase_msa.evaluation.statistics import estimate
from pase_msa.models.base import Model
from pase_msa.paper import methods
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.panels import legend_below, line, method_order, one_metric, panels, spread
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.results import Results
from pase_msa.report.numbers import mean_sd, metric_label, with_unit
from pase_msa.report.style import short, styled

LEVELS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)


def variants(protocol: Protocol) -> dict[str, Options]:
    """Concatenation, and both versions of PaSE."""
    return {"concat": methods.model("concat"), **methods.both_versions()}


def measure(
    runs: Sequence[LoadedRun], levels: Sequence[float] = LEVELS, *, draws: int = 3, seed: int = 0
) -> pd.DataFrame:
    """Metrics with noise added to every frame of one modality, in standard deviations of each of its features.

    The deviations are those of the training split. An utterance's noise depends on the seed, the draw and the modality
    only, and grows with the level, so that levels and methods are paired. A modality that comes as tokens (fine-tuned
    text) has no features to add noise to and is left out.

    Args:
        runs: on one split.
        levels: standard deviations of the noise, 0 or more.
        draws: of the noise, at each level above 0.
        seed: of the draws.

    Returns:
        Columns method, seed, split, modality (the noisy one), level, draw, metric, value.

    Errors:
        PaSEError: a negative level, fewer than one draw, or no modality with features.
    """
    if draws < 1 or min(levels, default=-1) < 0:
        raise PaSEError(f"Noise wants levels of 0 or more and one draw or more, found {list(levels)} and {draws}.")
    rows = []
    for run in runs:
        if not run.model.scalers:
            raise PaSEError(f"{run.method} has no feature sequences that noise could be added to; leave it out.")
        for name in run.model.scalers:
            for level in levels:
                for number in range(draws if level > 0 else 1):
                    logits = run.logits(partial(noisy, run.model, name, level, seed, number))
                    rows += [
                        {**run.stamp, "modality": name, "level": level, "draw": number, "metric": key, "value": value}
                        for key, value in run.metrics(logits).items()
                    ]
    return pd.DataFrame(rows)


def noisy(model: Model, modality: str, level: float, seed: int, number: int, batch: Batch, place: slice) -> Batch:
    """The batch with noise of `level` standard deviations in one modality; padding stays as it is.

    The noise of an utterance depends on its row, not on its batch.
    """
    if level == 0:
        return batch
    scaler = model.scalers[modality]
    assert isinstance(scaler, Standardizer)
    assert batch.rows is not None
    inverse = scaler.inverse_scale.cpu()
    deviation = torch.where(inverse > 0, 1 / inverse, 0.0)  # a constant feature stays constant
    features = batch.features[modality].clone()
    pairs = zip(batch.rows.tolist(), batch.lengths[modality].tolist(), strict=True)
    for k, (row, steps) in enumerate(pairs):
        features[k, :steps] += level * deviation * _normal(seed, number, modality, row, steps, len(deviation))
    return dataclasses.replace(batch, features={**batch.features, modality: features})


def _normal(seed: int, number: int, modality: str, row: int, steps: int, dim: int) -> Tensor:
    drawn = generator(seed, number, modality, row).standard_normal((steps, dim), dtype=np.float32)
    return torch.from_numpy(drawn)


def draw(frame: pd.DataFrame, metric: str = "acc2_negpos") -> MplFigure:
    """One panel per method, one line per noisy modality; bars are a deviation over draws and seeds.

    Args:
        frame: from `measure`.
        metric: on the vertical axis.
    """
    summary = spread(one_metric(frame, metric), ("method", "modality", "level"))
    names, modalities = method_order(summary), list(dict.fromkeys(summary["modality"]))
    with styled() as (_, colors):
        figure, axes = panels(len(names), width=3.5, height=3.4, sharey=True)
        for name, part in zip(names, axes, strict=True):
            for number, modality in enumerate(modalities):
                of = (summary["method"] == name) & (summary["modality"] == modality)
                rows = summary[of].sort_values("level")
                line(
                    part, rows["level"], rows["mean"], rows["std"], f"noise in {modality}", number, colors, shift=0.025
                )
            part.set_title(short(name, 34), fontsize=11)
            part.set_xlabel("noise (standard deviations\nof the features)")
        axes[0].set_ylabel(with_unit(metric))
        legend_below(figure, axes)
    return figure


def build(results: Results) -> Section:
    """The accuracy by noisy modality and level, as a table and as curves.

    Errors:
        PaSEError: no run is finished, or as in `measure`.
    """
    metric = results.protocol.accuracy
    frame = results.each_run(results.variants, lambda runs: measure(runs))
    accuracies = frame[frame["metric"] == metric]
    levels = sorted(accuracies["level"].unique())
    rows, data = [], []
    for (method, modality), part in accuracies.groupby(["method", "modality"], sort=False):
        line = [str(method), str(modality)]
        for level in levels:
            # draws of one seed are averaged first: the spread is over seeds
            values = part[part["level"] == level].groupby("seed")["value"].mean()
            line.append(mean_sd(values, metric))
            about = vars(estimate(values))
            data.append({"method": method, "modality": modality, "level": level, "metric": metric, **about})
        rows.append([*line, str(part["seed"].nunique())])
    label = metric_label(metric)
    columns = ["method", "noise in", *(f"{level:g} sd" for level in levels), "seeds"]
    return Section(
        f"Noise on {results.protocol.name}",
        [Table("noise", f"{label} with noise in one modality", columns, rows, pd.DataFrame(data))],
        [Figure("noise-curves", f"{label} against the noise in one modality.", draw(frame, metric), frame)],
        [
            "Gaussian noise in every frame, in standard deviations of each feature over the training split. Draws are "
            "paired over methods and levels."
        ],
    )
