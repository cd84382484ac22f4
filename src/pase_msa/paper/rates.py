"""Robustness to modalities that are missing at random: the metrics against the probability of a loss.

The probability is the same for all modalities (`measure`), or high for some and low for the others
(`measure_imbalanced`), as where a microphone is broken and the camera is not. The second is the protocol of MissBench
(Pham et al. 2026), which compares it with a probability for all that has the same mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from pase_msa.paper.panels import drawable, legend_below, line, one_metric, panels, spread
from pase_msa.paper.subset_methods import letters
from pase_msa.report.numbers import with_unit
from pase_msa.report.style import MARKERS, short, styled

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
#: probabilities of a loss where they differ: of the modalities that are often lost, and of the others
HIGH, LOW = 0.7, 0.1
Flags = dict[str, NDArray[np.bool_]]
#: probability of a loss, of all modalities or of each
Rate = float | Mapping[str, float]
_COLUMNS = ["method", "seed", "split", "imputation", "rate", "draw", "lost", "metric", "value"]
_DRAWS = 5


def measure(
    runs: Sequence[LoadedRun],
    rates: Sequence[float] = RATES,
    *,
    draws: int = _DRAWS,
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
    cases = [({"rate": rate, "draw": n}, rate) for rate in rates for n in range(draws if rate > 0 else 1)]
    rows = [row for run in runs for row in _measured(run, cases, seed, imputation)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def imbalanced(modalities: Sequence[str]) -> dict[tuple[str, ...], dict[str, float]]:
    """Probabilities of a loss by the modalities that are often lost: these are lost at `HIGH`, the others at `LOW`.

    Either one modality is often lost, or all but one are. There is none for a single modality.
    """
    names = tuple(modalities)
    several = [tuple(name for name in names if name != other) for other in names]
    often = dict.fromkeys([*((name,) for name in names), *several] if len(names) > 1 else [])
    return {those: {name: HIGH if name in those else LOW for name in names} for those in often}


def measure_imbalanced(
    runs: Sequence[LoadedRun],
    *,
    draws: int = _DRAWS,
    seed: int = 0,
    imputation: Sequence[Imputation] = ("on", "off"),
) -> pd.DataFrame:
    """Metrics where some modalities are often lost and the others seldom, beside losses alike for all of the same mean.

    Args:
        runs: on one split.
        draws: of what is lost.
        seed: of the draws, which are paired as in `measure`.
        imputation: settings to measure models with that have imputation.

    Returns:
        The columns of `measure`, where "rate" is the mean over modalities, and often (the modalities that are lost at
        `HIGH`, joined by "+"; empty where all are lost at the same rate).
    """
    rows = []
    for run in runs:
        rates = {"+".join(names): rate for names, rate in imbalanced(run.task.modalities).items()}
        means = {often: round(float(np.mean(list(rate.values()))), 6) for often, rate in rates.items()}
        listed: list[tuple[str, float, Rate]] = [("", mean, mean) for mean in dict.fromkeys(means.values())]
        listed += [(often, means[often], rate) for often, rate in rates.items()]
        cases = [
            ({"rate": mean, "often": often, "draw": number}, rate)
            for often, mean, rate in listed
            for number in range(draws)
        ]
        rows += list(_measured(run, cases, seed, imputation))
    return pd.DataFrame(rows, columns=[*_COLUMNS[:4], "often", *_COLUMNS[4:]])


def _measured(
    run: LoadedRun, cases: Sequence[tuple[Mapping[str, Any], Rate]], seed: int, imputation: Sequence[Imputation]
) -> Iterator[dict[str, Any]]:
    """Rows of a run: the metrics of each case, which is what is said of it, its "draw" included, and its rate."""
    there = {name: run.dataset.columns[name].present[run.dataset.rows] for name in run.task.modalities}
    left = [keep(there, rate, seed, about["draw"]) for about, rate in cases]
    if not left:
        return
    coalitions, which = _occurring(run.task.modalities, left)
    present = sum(flags.sum() for flags in there.values())
    predictions = {setting: run.given(coalitions, setting) for setting in settings(run.model, imputation)}
    for (about, _), flags, places in zip(cases, left, which, strict=True):
        lost = float(1 - sum(row.sum() for row in flags.values()) / present)
        for setting, logits in predictions.items():
            for metric, value in run.metrics(logits[places, torch.arange(len(places))]).items():
                yield {**run.stamp, **about, "lost": lost, "imputation": setting, "metric": metric, "value": value}


def keep(there: Flags, rate: Rate, seed: int, number: int) -> Flags:
    """What stays of the modalities that are there: each is lost with a probability, and the last one stays.

    Args:
        there: by modality, whether each utterance has it, [N].
        rate: of loss; by modality where it differs.
        seed: of the draws.
        number: of the draw.
    """
    rates = np.array([[rate[name] if isinstance(rate, Mapping) else rate] for name in there])
    # a modality's random number does not depend on the rate or on what other modalities there are
    chance = {name: generator(seed, number, name).random(len(flags)) for name, flags in there.items()}
    stacked = np.stack([np.where(flags, chance[name], -1.0) for name, flags in there.items()])
    stays = stacked >= rates
    # where all would be lost, the one stays that would have gone last if all rates had risen from zero
    last = np.where(stacked < 0, -1.0, stacked / np.maximum(rates, np.finfo(float).tiny)).argmax(0)
    stays[last, np.arange(stacked.shape[1])] = True
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
    with styled() as (_, colors):
        figure, places = panels(len(metrics), width=5.0, height=3.8)
        for axes, name in zip(places, metrics, strict=True):
            for number, (label, part) in enumerate(_series(frame, name, "rate")):
                rows = part.sort_values("rate")
                line(axes, rows["rate"], rows["mean"], rows["std"], label, number, colors, shift=0.006)
            axes.set_xlabel("probability that a modality is lost")
            axes.set_ylabel(with_unit(name))
        legend_below(figure, places, 2 * len(metrics))
    return figure


def draw_imbalanced(frame: pd.DataFrame, metric: str = "acc2_negpos", *more: str) -> MplFigure:
    """One panel per metric: what is often lost on the horizontal axis, one series per method and setting.

    Args:
        frame: from `measure_imbalanced`.
        metric: of the first panel.
        more: of the further panels.
    """
    metrics = list(dict.fromkeys((metric, *more)))
    drawable(frame, "method", "imputation", "rate", "often", "metric", "value")
    cases = by_mean_rate(frame)
    with styled() as (_, colors):
        figure, places = panels(len(metrics), width=1.8 + 0.75 * len(cases), height=4.0)
        for axes, name in zip(places, metrics, strict=True):
            series = _series(frame, name, "rate", "often")
            for number, (label, part) in enumerate(series):
                rows = part.set_index(["rate", "often"]).loc[cases]
                axes.errorbar(
                    np.arange(len(cases)) + (number - (len(series) - 1) / 2) * 0.6 / len(series),
                    rows["mean"],
                    yerr=rows["std"] if (rows["std"] > 0).any() else None,
                    label=short(label, 30),
                    color=colors[number % len(colors)],
                    marker=MARKERS[number % len(MARKERS)],
                    markersize=6,
                    linestyle="none",
                    capsize=2.5,
                )
            axes.set_xticks(
                range(len(cases)),
                [f"{short(letters(often), 12) if often else 'all'}\n{rate:g}" for rate, often in cases],
            )
            axes.set_xlabel("lost most often, and the mean probability of a loss")
            axes.set_ylabel(with_unit(name))
        legend_below(figure, places, 2 * len(metrics))
    return figure


def _series(frame: pd.DataFrame, metric: str, *by: str) -> list[tuple[str, pd.DataFrame]]:
    """What a panel shows of each method and setting of the imputation: its label, and mean and deviation by `by`."""
    words: dict[Any, str] = {"on": ", imputed", "off": ", left out", "none": ""}
    summary = spread(one_metric(frame, metric), ("method", "imputation", *by))
    groups = summary.groupby(["method", "imputation"], sort=False)
    return [(f"{method}{words[setting]}", part) for (method, setting), part in groups]


def by_mean_rate(frame: pd.DataFrame) -> list[tuple[float, str]]:
    """Mean rates, each with what is often lost at it: first nothing in particular."""
    pairs = dict.fromkeys(zip(frame["rate"], frame["often"], strict=True))
    return sorted(pairs, key=lambda pair: pair[0])
