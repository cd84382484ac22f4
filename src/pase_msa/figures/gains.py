"""Figure 1: what further modalities add to one, by method, from a table of runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pase_msa.errors import PaSEError
from pase_msa.figures.panels import legend_below, methods, one_metric, panels, spread
from pase_msa.figures.subsets import letters
from pase_msa.report.numbers import is_percent, metric_label
from pase_msa.report.style import HATCHES, short, styled

LESS_IS_BETTER = ("mae", "entropy", "nll")


def measure(scores: pd.DataFrame, metric: str = "f1_negpos", base: str = "text") -> pd.DataFrame:
    """Improvement over the modality `base` of every further set that was measured, paired by method and seed.

    Args:
        scores: columns method, seed, modalities ("text+audio"), metric, value; one value each. `runs.score_table`
            makes it of runs that were trained with some modalities, `subsets.measure` of a run that is given some.
        metric: an improvement of MAE is a fall.
        base: modality, or several joined by "+".

    Returns:
        Columns method, base, added ("audio+vision"), seed, metric, value: percentage points, or the metric's own unit.
        A seed without the base is left out.

    Errors:
        PaSEError: no pair to compare, or two values for one method, seed and modalities.
    """
    found = one_metric(scores, metric)
    keys = ["method", "seed", "modalities"]
    if (twice := found[found.duplicated(keys)]).shape[0]:
        raise PaSEError(
            f"A gain wants one value a method, seed and set of modalities; {twice.iloc[0]['method']!r} has several for "
            f"{twice.iloc[0]['modalities']}; select one setting first."
        )
    sign, start = (-1.0 if metric in LESS_IS_BETTER else 1.0), set(base.split("+"))
    rows = []
    for (method, seed), group in found.groupby(["method", "seed"], sort=False):
        values = {frozenset(row.modalities.split("+")): row for row in group.itertuples()}
        if frozenset(start) not in values:
            continue
        for given, row in values.items():
            if given > start:
                added = "+".join(name for name in row.modalities.split("+") if name not in start)
                gain = sign * (row.value - values[frozenset(start)].value)
                rows.append(
                    {"method": method, "base": base, "added": added, "seed": seed, "metric": metric, "value": gain}
                )
    if not rows:
        raise PaSEError(
            f"No method has runs with {base} alone and with more, of one seed; there is "
            f"{', '.join(dict.fromkeys(found['modalities']))}."
        )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> Figure:
    """Groups of bars: a group a method, a bar a set of added modalities, with a deviation over seeds."""
    found = spread(frame, ("method", "added"))
    names = methods(found)
    added = sorted(dict.fromkeys(found["added"]), key=lambda name: (name.count("+"), name))
    metric, base = frame["metric"].iloc[0], frame["base"].iloc[0]
    with styled() as (ink, colors):
        figure, (axes,) = panels(1, width=max(4.0, 1.6 + 1.15 * len(names)), height=3.6)
        thick = 0.8 / len(added)
        for k, what in enumerate(added):
            rows = found[found["added"] == what]
            places = np.array([names.index(name) for name in rows["method"]]) + (k - (len(added) - 1) / 2) * thick
            axes.bar(
                places,
                rows["mean"],
                yerr=rows["std"] if (rows["std"] > 0).any() else None,
                width=thick,
                label=f"+{letters(what).replace('+', '')}",
                color=colors[k % len(colors)],
                edgecolor=ink["page"],
                hatch=HATCHES[k % len(HATCHES)],
                error_kw={"ecolor": ink["ink"], "capsize": 2.5},
            )
        axes.axhline(0, color=ink["muted"], linewidth=0.8)
        axes.set_xticks(range(len(names)), [short(name, 14) for name in names], rotation=30 if len(names) > 5 else 0)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("method")
        unit = "percentage points" if is_percent(metric) else "label units" if metric == "mae" else "no unit"
        axes.set_ylabel(f"improvement of {metric_label(metric)}\nover {short(letters(base))} ({unit})")
        legend_below(figure, [axes], 4)
    return figure
