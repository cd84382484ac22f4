"""Figure 1: what further modalities add to text, by method; each set of modalities is a run of its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as MplFigure

from pase_msa.errors import PaSEError
from pase_msa.evaluation.statistics import estimate
from pase_msa.paper import methods
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.panels import drawable, legend_below, method_order, one_metric, panels, spread
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.quoted import quoted
from pase_msa.paper.results import Results
from pase_msa.paper.scores import LOWER_IS_BETTER
from pase_msa.paper.subset_methods import all_subsets, letters, name_of, trained_on
from pase_msa.report.numbers import format_interval, is_percent, mean_sd, metric_label, scale
from pase_msa.report.style import HATCHES, short, styled

_BASELINES = ("lf_dnn", "lmf")


def _methods(protocol: Protocol) -> list[str]:
    baselines = [name for name in _BASELINES if name in methods.baselines() and protocol.text == "frozen"]
    return ["concat", *baselines, methods.PAPER, methods.PASE]


def _base(protocol: Protocol) -> str:
    return "text" if "text" in protocol.modalities else protocol.modalities[0]


def variants(protocol: Protocol) -> dict[str, Options]:
    """Every method on the base modality, and on every set that holds it.

    Errors:
        PaSEError: the data have one modality only.
    """
    if len(protocol.modalities) < 2:
        raise PaSEError(
            f"Figure 1 wants two modalities or more, {protocol.name} has {protocol.modalities[0]} alone; name other "
            "data."
        )
    return {
        name_of(method, subset, protocol): trained_on(method, subset, protocol)
        for method in _methods(protocol)
        for subset in all_subsets(protocol)
        if _base(protocol) in subset
    }


def measure(scores: pd.DataFrame, metric: str = "f1_negpos", base: str = "text") -> pd.DataFrame:
    """Improvement over the modality `base` of every further set that was measured, paired by method and seed.

    Args:
        scores: columns method, seed, modalities ("text+audio"), metric, value, with one value each.
            `evaluation.loaded.score_table` makes it of runs that were trained with some modalities, `table4.measure`
            of runs that are given some.
        metric: for MAE a fall is an improvement.
        base: modality, or several joined by "+".

    Returns:
        Columns method, base, added ("audio+vision"), seed, metric, value: percentage points, or the metric's own unit.
        A seed without the base is left out.

    Errors:
        PaSEError: no pair to compare, or two values for one method, seed and modalities.
    """
    values = one_metric(scores, metric)
    keys = ["method", "seed", "modalities"]
    if (twice := values[values.duplicated(keys)]).shape[0]:
        raise PaSEError(
            f"A gain wants one value per method, seed and set of modalities; {twice.iloc[0]['method']!r} has several "
            f"for {twice.iloc[0]['modalities']}; select one setting first."
        )
    sign, start = (-1.0 if metric in LOWER_IS_BETTER else 1.0), frozenset(base.split("+"))
    rows = []
    for (method, seed), group in values.groupby(["method", "seed"], sort=False):
        by_set = {frozenset(row.modalities.split("+")): row for row in group.itertuples()}
        if start not in by_set:
            continue
        for given, row in by_set.items():
            if given > start:
                added = "+".join(name for name in row.modalities.split("+") if name not in start)
                gain = sign * (row.value - by_set[start].value)
                rows.append(
                    {"method": method, "base": base, "added": added, "seed": seed, "metric": metric, "value": gain}
                )
    if not rows:
        raise PaSEError(
            f"No method has runs with {base} alone and with more, of one seed; there is "
            f"{', '.join(dict.fromkeys(values['modalities']))}."
        )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> MplFigure:
    """One group of bars per method, one bar per set of added modalities; the error bar is a deviation over seeds.

    Args:
        frame: from `measure`.
    """
    summary = spread(drawable(frame, "method", "added", "metric", "base", "value"), ("method", "added"))
    names = method_order(summary)
    added = sorted(dict.fromkeys(summary["added"]), key=lambda name: (name.count("+"), name))
    metric, base = frame["metric"].iloc[0], frame["base"].iloc[0]
    with styled() as (ink, colors):
        figure, (axes,) = panels(1, width=max(4.0, 1.6 + 1.15 * len(names)), height=3.6)
        width = 0.8 / len(added)
        for k, what in enumerate(added):
            rows = summary[summary["added"] == what]
            places = np.array([names.index(name) for name in rows["method"]]) + (k - (len(added) - 1) / 2) * width
            axes.bar(
                places,
                rows["mean"],
                yerr=rows["std"] if (rows["std"] > 0).any() else None,
                width=width,
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


def build(results: Results) -> Section:
    """The improvement by method and added modalities, as a table and as bars.

    Errors:
        PaSEError: no method has runs on the base modality and on more.
    """
    protocol = results.protocol
    metric, base = protocol.f1, _base(protocol)
    if not results.variants:
        raise PaSEError("No run of Figure 1 is finished, so it cannot be made; train its variants first.")
    frame = measure(_scores(results, metric), metric, base)
    rows, data = [], []
    for (method, added), part in frame.groupby(["method", "added"], sort=False):
        about = estimate(part["value"])
        # values are in percentage points already
        unit = scale(metric)
        interval = format_interval(metric, about.low / unit, about.high / unit, signed=True)
        rows.append(
            [
                str(method),
                f"+{letters(str(added))}",
                mean_sd(part["value"] / unit, metric, signed=True),
                interval if about.count > 1 else "n/a",
                str(about.count),
            ]
        )
        data.append({"method": method, "base": base, "added": added, "metric": metric, **vars(about)})
    if protocol.quoted == "mosi":
        for row in quoted("figure1").itertuples():
            added = row.metric.removeprefix("f1_gain_T+").removesuffix("_over_T")
            rows.append([f"quoted: {row.method}", f"+{added}", f"{row.value:+.2f}", "", "quoted"])
    label = metric_label(metric)
    what = ", ".join(str(name).replace("+", " and ") for name in dict.fromkeys(frame["added"]))
    columns = ["method", "added", f"improvement of {label}, points", "95 % interval", "seeds"]
    title = f"Improvement over {base} alone, paired by seed"
    return Section(
        f"Figure 1: what is added to {base} on {protocol.name}",
        [Table("figure1-gains", title, columns, rows, pd.DataFrame(data))],
        [Figure("figure1", f"Improvement of {label} over {base} alone by adding {what}.", draw(frame), frame)],
        [
            "Each method is compared with itself on one modality, so that a weak start makes a large gain. Read the "
            "heights beside the scores of Table 1."
        ],
    )


def _scores(results: Results, metric: str) -> pd.DataFrame:
    """The metric of every run, with the modalities that it was trained on."""
    protocol = results.protocol
    column = f"{protocol.split}/{metric}"
    rows = [
        {"method": m, "seed": row["seed"], "modalities": "+".join(subset), "metric": metric, "value": row[column]}
        for m in _methods(protocol)
        for subset in all_subsets(protocol)
        for _, row in results.rows(name_of(m, subset, protocol)).iterrows()
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "modalities", "metric", "value"])
