"""Beyond the paper: robustness to Gaussian noise in the features of one modality at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pase_msa.batch import Batch
from pase_msa.encoders.scaler import Standardizer
from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import LoadedRun, generator
from pase_msa.figures.panels import axis, legend_below, line, methods, one_metric, panels, spread
from pase_msa.models.base import Model
from pase_msa.report.style import short, styled

LEVELS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)


def measure(
    runs: Sequence[LoadedRun], levels: Sequence[float] = LEVELS, *, draws: int = 3, seed: int = 0
) -> pd.DataFrame:
    """Metrics with noise added to every frame of one modality, in standard deviations of each of its features.

    The deviations are those of the training split. An utterance's noise depends on the seed, the draw and the modality
    only, and grows with the level, so that levels and methods are paired. A modality that is read as tokens (fine-tuned
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
            raise PaSEError(f"{run.method} reads no feature sequences that noise could be added to; leave it out.")
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
    """The batch, wherever in the split, with noise of `level` deviations in one modality; padding stays as it is."""
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


def draw(frame: pd.DataFrame, metric: str = "acc2_negpos") -> Figure:
    """A panel a method, a line a noisy modality; bars are a deviation over draws and seeds."""
    found = spread(one_metric(frame, metric), ("method", "modality", "level"))
    names, modalities = methods(found), list(dict.fromkeys(found["modality"]))
    with styled() as (_, colors):
        figure, axes = panels(len(names), width=3.5, height=3.4, sharey=True)
        for name, part in zip(names, axes, strict=True):
            for number, modality in enumerate(modalities):
                rows = found[(found["method"] == name) & (found["modality"] == modality)].sort_values("level")
                line(
                    part, rows["level"], rows["mean"], rows["std"], f"noise in {modality}", number, colors, shift=0.025
                )
            part.set_title(short(name, 34), fontsize=11)
            part.set_xlabel("noise (standard deviations\nof the features)")
        axes[0].set_ylabel(axis(metric))
        legend_below(figure, axes)
    return figure
