"""Table 4: the metrics of one trained model that is given only some of its modalities, beside the quoted figures."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from pase_msa.evaluation.evaluate import subsets
from pase_msa.evaluation.imputation import Imputation, settings
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.figures.panels import axis, legend_below, methods, one_metric, panels, scale, spread
from pase_msa.figures.quoted import quoted
from pase_msa.report.style import MARKERS, short, styled
from pase_msa.shapley import coalitions

LETTERS = {"text": "T", "audio": "A", "vision": "V"}
"""How the paper writes modalities, in its order."""


def measure(runs: Sequence[LoadedRun], imputation: Sequence[Imputation] = ("on", "off")) -> pd.DataFrame:
    """Metrics with every other modality withheld, for all 2^k - 1 subsets of k modalities.

    The other modalities are marked absent for every utterance. Nothing is trained anew; the paper does not say whether
    its rows are of one model or of one model a subset.

    Args:
        runs: on one split.
        imputation: settings to measure models with that know imputation.

    Returns:
        Columns method, seed, split, imputation, modalities ("text+audio"), metric, value.
    """
    rows = []
    for run in runs:
        names = run.task.modalities
        # beyond five modalities `subsets` leaves some out, and Table 4 wants all
        games = sorted(coalitions(names)[1:], key=len) if len(names) > 5 else subsets(names)
        for setting in settings(run.model, imputation):
            rows += [
                {
                    **run.stamp,
                    "imputation": setting,
                    "modalities": "+".join(name for name in names if name in game),
                    "metric": metric,
                    "value": value,
                }
                for game, said in zip(games, run.given(games, setting), strict=True)
                for metric, value in run.metrics(said).items()
            ]
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame, dataset: str, metrics: Sequence[str] = ("acc2_negpos", "f1_negpos")) -> pd.DataFrame:
    """Rows beside what the paper prints for the same modalities, in the unit of print.

    Args:
        frame: from `measure`.
        dataset: whose figures are quoted: "mosi", "mosei" or "iemocap".
        metrics: for IEMOCAP ("wa",).

    Returns:
        Columns method, imputation, modalities, metric, mean, std, count (seeds), quoted; the last is empty where the
        paper has no such row.
    """
    found = spread(frame[frame["metric"].isin(metrics)], ("method", "imputation", "modalities", "metric"))
    factors = found["metric"].map(scale)
    found["mean"], found["std"] = found["mean"] * factors, found["std"] * factors
    printed = quoted(4, dataset)
    values = {(row.method, row.metric): row.value for row in printed.itertuples()}
    keys = zip(found["modalities"], found["metric"], strict=True)
    found["quoted"] = [values.get((letters(names), metric), float("nan")) for names, metric in keys]
    return found


def letters(modalities: str) -> str:
    """ "text+audio" as the paper writes it: "T+A". Names that it does not know stay."""
    names = modalities.split("+")
    order = [*LETTERS, *names]
    return "+".join(LETTERS.get(name, name) for name in sorted(names, key=order.index))


def draw(frame: pd.DataFrame, metric: str = "acc2_negpos") -> Figure:
    """One metric by modalities given: a panel a method, a point a setting of the imputation; deviations over seeds."""
    found = spread(one_metric(frame, metric), ("method", "imputation", "modalities"))
    names, groups = methods(found), list(dict.fromkeys(found["modalities"]))
    words = {"on": "imputed", "off": "left out", "none": "no imputation"}
    with styled() as (ink, colors):
        figure, axes = panels(len(names), width=4.2, height=1.1 + 0.42 * len(groups), most=2, sharex=True)
        for name, part in zip(names, axes, strict=True):
            mine = found[found["method"] == name]
            kinds = list(dict.fromkeys(mine["imputation"]))
            thick = 0.5 / len(kinds)
            for k, kind in enumerate(kinds):
                rows = mine[mine["imputation"] == kind]
                places = [groups.index(g) + (k - (len(kinds) - 1) / 2) * thick for g in rows["modalities"]]
                number = list(words).index(kind)
                # points and not bars: the axis does not begin at zero, where no difference would be seen
                part.errorbar(
                    rows["mean"],
                    places,
                    xerr=rows["std"] if (rows["std"] > 0).any() else None,
                    label=f"absent modalities: {words[kind]}",
                    color=colors[number],
                    marker=MARKERS[number],
                    markerfacecolor=ink["page"] if number == 1 else colors[number],
                    linestyle="none",
                    markersize=7,
                    capsize=2.5,
                )
            part.set_yticks(range(len(groups)), [short(letters(group)) for group in groups])
            part.set_ylim(len(groups) - 0.5, -0.5)
            part.grid(visible=True, axis="both")
            part.set_title(short(name, 40), fontsize=11)
            part.set_xlabel(axis(metric))
            part.tick_params(labelbottom=True)  # also where nothing, or a title, stands below
        axes[0].set_ylabel("modalities given")
        legend_below(figure, axes, 2)
    return figure
