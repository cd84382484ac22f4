"""Robustness to modalities that are missing at random: the metrics against the probability of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray
from torch import Tensor

from pase_msa.errors import PaSEError
from pase_msa.evaluation.imputation import Imputation, settings
from pase_msa.evaluation.loaded import LoadedRun, generator
from pase_msa.paper.panels import legend_below, line, one_metric, panels, spread
from pase_msa.report.numbers import with_unit
from pase_msa.report.style import styled

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
Flags = dict[str, NDArray[np.bool_]]
_COLUMNS = ["method", "seed", "split", "imputation", "rate", "draw", "lost", "metric", "value"]


def measure(
    runs: Sequence[LoadedRun],
    rates: Sequence[float] = RATES,
    *,
    draws: int = 5,
    seed: int = 0,
    imputation: Sequence[Imputation] = ("on", "off"),
) -> pd.DataFrame:
    """Metrics where each modality of each utterance is lost with a probability, but never the last one.

    Losses are paired: runs with the same modalities lose the same ones, and what is lost at a rate is lost at every
    higher rate of the same draw. At rate 0 nothing is lost, which is the full evaluation.

    Args:
        runs: on one split.
        rates: probabilities in [0, 1].
        draws: of what is lost, at each rate above 0.
        seed: of the draws.
        imputation: settings to measure models with that have imputation.

    Returns:
        Columns method, seed, split, imputation, rate, draw, lost (the share that was lost of the modalities that
        were there, lower than `rate` because one always stays), metric, value.

    Errors:
        PaSEError: a rate outside [0, 1], or fewer than one draw.
    """
    if draws < 1 or not all(0 <= rate <= 1 for rate in rates):
        raise PaSEError(f"Rates lie in [0, 1] with one draw or more, found {list(rates)} and {draws}.")
    rows = []
    for run in runs:
        there = {name: run.dataset.columns[name].present[run.dataset.rows] for name in run.task.modalities}
        left = {(rate, n): keep(there, rate, seed, n) for rate in rates for n in range(draws if rate > 0 else 1)}
        coalitions, which = _occurring(run.task.modalities, list(left.values()))
        present = sum(flags.sum() for flags in there.values())
        predictions = {setting: run.given(coalitions, setting) for setting in settings(run.model, imputation)}
        for ((rate, number), flags), places in zip(left.items(), which, strict=True):
            lost = float(1 - sum(row.sum() for row in flags.values()) / present)
            about = {**run.stamp, "rate": rate, "draw": number, "lost": lost}
            rows += [
                {**about, "imputation": setting, "metric": metric, "value": value}
                for setting, logits in predictions.items()
                for metric, value in run.metrics(logits[places, torch.arange(len(places))]).items()
            ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def keep(there: Flags, rate: float, seed: int, number: int) -> Flags:
    """What stays of the modalities that are there: each is lost with probability `rate`, and the last one stays.

    Args:
        there: by modality, whether each utterance has it, [N].
        rate: of loss.
        seed: of the draws.
        number: of the draw.
    """
    # a modality's random number does not depend on the rate or on what other modalities there are
    chance = {name: generator(seed, number, name).random(len(flags)) for name, flags in there.items()}
    stacked = np.stack([np.where(flags, chance[name], -1.0) for name, flags in there.items()])
    stays = stacked >= rate
    # where all would be lost, the one that would have gone last stays
    stays[stacked.argmax(0), np.arange(stacked.shape[1])] = True
    return {name: row & flags for (name, flags), row in zip(there.items(), stays, strict=True)}


def _occurring(modalities: Sequence[str], left: Sequence[Flags]) -> tuple[list[frozenset[str]], list[Tensor]]:
    """The sets of modalities that utterances are left with, and for each draw which of them each utterance has, [N].

    The prediction of an utterance depends on its own modalities alone. So each set is predicted once for all draws.
    """
    table = np.concatenate([[flags[name] for name in modalities] for flags in left], axis=1)
    sets, which = np.unique(table, axis=1, return_inverse=True)
    coalitions = [frozenset(name for name, has in zip(modalities, one, strict=True) if has) for one in sets.T]
    return coalitions, list(torch.from_numpy(which.reshape(len(left), -1)).unbind())


def draw(frame: pd.DataFrame, metric: str = "acc2_negpos", *more: str) -> MplFigure:
    """One panel per metric against the rate, one line per method and setting; bars are deviations over draws and seeds.

    Args:
        frame: from `measure`.
        metric: of the first panel.
        more: of the further panels.
    """
    metrics = list(dict.fromkeys((metric, *more)))
    words: dict[Any, str] = {"on": ", imputed", "off": ", left out", "none": ""}
    with styled() as (_, colors):
        figure, places = panels(len(metrics), width=5.0, height=3.8)
        for axes, name in zip(places, metrics, strict=True):
            summary = spread(one_metric(frame, name), ("method", "imputation", "rate"))
            for number, ((method, setting), part) in enumerate(summary.groupby(["method", "imputation"], sort=False)):
                rows, label = part.sort_values("rate"), f"{method}{words[setting]}"
                line(axes, rows["rate"], rows["mean"], rows["std"], label, number, colors, shift=0.006)
            axes.set_xlabel("probability that a modality is lost")
            axes.set_ylabel(with_unit(name))
        legend_below(figure, places, 2 * len(metrics))
    return figure
