"""Table 4: subsets of the modalities, each trained alone, and one checkpoint with the others masked."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure as MplFigure

from pase_msa.evaluation.evaluate import subsets
from pase_msa.evaluation.imputation import Imputation, settings
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.evaluation.statistics import estimate
from pase_msa.paper import equity, methods, rates
from pase_msa.paper.balance_tables import LOST, NOTES, balance_table, imbalanced_table
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.panels import legend_below, method_order, one_metric, panels, spread
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.quoted import quoted
from pase_msa.paper.results import Results
from pase_msa.paper.scores import as_printed, heading, how_to_read
from pase_msa.paper.subset_methods import all_subsets, letters, name_of, trained_on
from pase_msa.report.numbers import mean_sd, metric_label, scale, with_unit
from pase_msa.report.style import MARKERS, short, styled
from pase_msa.shapley import coalitions

_TRAINED = "trained"
_COLUMNS = {_TRAINED: "trained alone", "on": "masked, imputed", "off": "masked, not imputed"}
_METHODS = ("concat", methods.PAPER, methods.PASE)


def variants(protocol: Protocol) -> dict[str, Options]:
    """Concatenation and both versions of PaSE, each on every set of modalities."""
    return {
        name_of(method, subset, protocol): trained_on(method, subset, protocol)
        for method in _METHODS
        for subset in all_subsets(protocol)
    }


def measure(runs: Sequence[LoadedRun], imputation: Sequence[Imputation] = ("on", "off")) -> pd.DataFrame:
    """Metrics with every other modality masked, for all 2^k - 1 subsets of k modalities.

    The other modalities are marked absent for every utterance. Nothing is trained again. The paper does not say
    whether its rows are of one model or of one model per subset.

    Args:
        runs: on one split.
        imputation: settings to measure models with that have imputation.

    Returns:
        Columns method, seed, split, imputation, modalities ("text+audio"), metric, value.
    """
    rows = []
    for run in runs:
        names = run.task.modalities
        # beyond five modalities `subsets` leaves some out, and Table 4 wants all
        given = sorted(coalitions(names)[1:], key=len) if len(names) > 5 else subsets(names)
        for setting in settings(run.model, imputation):
            rows += [
                {
                    **run.stamp,
                    "imputation": setting,
                    "modalities": "+".join(name for name in names if name in coalition),
                    "metric": metric,
                    "value": value,
                }
                for coalition, logits in zip(given, run.given(given, setting), strict=True)
                for metric, value in run.metrics(logits).items()
            ]
    return pd.DataFrame(rows)


def beside_quoted(
    frame: pd.DataFrame, dataset: str, metrics: Sequence[str] = ("acc2_negpos", "f1_negpos")
) -> pd.DataFrame:
    """Measured rows beside what the paper prints for the same modalities, in the unit of print.

    Args:
        frame: from `measure`.
        dataset: whose results are quoted: "mosi", "mosei" or "iemocap".
        metrics: for IEMOCAP ("wa",).

    Returns:
        Columns method, imputation, modalities, metric, mean, std, count (seeds), quoted; the last is empty where the
        paper has no such row.
    """
    summary = spread(frame[frame["metric"].isin(metrics)], ("method", "imputation", "modalities", "metric"))
    factors = summary["metric"].map(scale)
    summary["mean"], summary["std"] = summary["mean"] * factors, summary["std"] * factors
    values = {(row.method, row.metric): row.value for row in quoted(4, dataset).itertuples()}
    keys = zip(summary["modalities"], summary["metric"], strict=True)
    summary["quoted"] = [values.get((letters(names), metric), float("nan")) for names, metric in keys]
    return summary


def draw(frame: pd.DataFrame, metric: str = "acc2_negpos") -> MplFigure:
    """One panel per method: a metric by modalities given, one point per setting of the imputation.

    Args:
        frame: from `measure`. Several seeds are averaged, with their deviation as a bar.
        metric: on the horizontal axis.
    """
    summary = spread(one_metric(frame, metric), ("method", "imputation", "modalities"))
    names, given = method_order(summary), list(dict.fromkeys(summary["modalities"]))
    words = {"on": "imputed", "off": "left out", "none": "no imputation"}
    with styled() as (ink, colors):
        figure, axes = panels(len(names), width=4.2, height=1.1 + 0.42 * len(given), most=2, sharex=True)
        for name, part in zip(names, axes, strict=True):
            own = summary[summary["method"] == name]
            kinds = list(dict.fromkeys(own["imputation"]))
            distance = 0.5 / len(kinds)
            for k, kind in enumerate(kinds):
                rows = own[own["imputation"] == kind]
                places = [given.index(g) + (k - (len(kinds) - 1) / 2) * distance for g in rows["modalities"]]
                number = list(words).index(kind)
                # points and not bars: the axis does not begin at zero, where no difference would be visible
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
            part.set_yticks(range(len(given)), [short(letters(group)) for group in given])
            part.set_ylim(len(given) - 0.5, -0.5)
            part.grid(visible=True, axis="both")
            part.set_title(short(name, 40), fontsize=11)
            part.set_xlabel(with_unit(metric))
            part.tick_params(labelbottom=True)  # also where nothing, or a title, stands below
        axes[0].set_ylabel("modalities given")
        legend_below(figure, axes, 2)
    return figure


def build(results: Results) -> Section:
    """All sets of modalities, trained alone and masked; and modalities that are lost at random.

    Errors:
        PaSEError: no method has a finished run on all modalities.
    """
    protocol = results.protocol
    whole = [name for name in _METHODS if name in results.variants]
    # all are measured while a run is in memory, since they have most sets of modalities in common
    masked, lost, uneven, balance = _measured(results, whole)
    data = pd.concat([_trained(results), masked], ignore_index=True)
    label = metric_label(protocol.accuracy)
    # a model that predicts the same for all who lost their text has an accuracy of chance: the error stands beside it
    both = list(dict.fromkeys([protocol.accuracy, protocol.tested[0]]))
    stems = {name: "" if name == protocol.accuracy else f"-{name}" for name in both}
    tables = [_subsets_table(results, data), *(_rates_table(lost, m, f"table4-lost{stems[m]}") for m in both)]
    masked_caption = f"{label} of one checkpoint that is given some modalities."
    rates_caption = f"{' and '.join(map(metric_label, both))} where each modality is lost at random."
    figures = [
        Figure("table4-masked", masked_caption, draw(masked, protocol.accuracy), masked),
        Figure("table4-rates", rates_caption, rates.draw(lost, *both), lost),
    ]
    notes = [
        *how_to_read(results)[:1],
        "Trained alone: a run of its own on these modalities. Masked: the run on all modalities, which is given "
        "these only. The paper does not say which of the two its rows are.",
        f"Balanced by held-out contributions ({methods.PASE}), a modality with a prediction weight of 0 changes "
        "nothing when it is lost.",
        "At random, the last modality of an utterance is never lost. How much was lost is in the CSV file.",
    ]
    if len(protocol.modalities) > 1:
        tables += [imbalanced_table(uneven, m, f"table4-imbalanced{stems[m]}") for m in both]
        tables.append(balance_table(balance, protocol.accuracy, "table4-balance"))
        caption = f"{' and '.join(map(metric_label, both))} where some modalities are lost more often than others."
        figures.append(Figure("table4-imbalanced-rates", caption, rates.draw_imbalanced(uneven, *both), uneven))
        notes += NOTES
    return Section(f"Table 4: subsets of the modalities on {protocol.name}", tables, figures, notes)


def _measured(results: Results, variants: Sequence[str]) -> list[pd.DataFrame]:
    """What is measured on the runs on all modalities: sets that are masked, losses of both kinds, and balance."""
    frames = []
    for run in results.runs(variants):
        masked = measure([run])
        balance = equity.measure(run, masked, results.protocol.accuracy)
        frames.append((masked, rates.measure([run]), rates.measure_imbalanced([run]), balance))
    return [pd.concat(part, ignore_index=True) for part in zip(*frames, strict=True)]


def _trained(results: Results) -> pd.DataFrame:
    """The metrics of the runs that were trained on some modalities, in the columns of `measure`."""
    protocol = results.protocol
    rows = []
    for method in _METHODS:
        for subset in all_subsets(protocol):
            cells = results.rows(name_of(method, subset, protocol))
            for metric in (protocol.accuracy, protocol.f1):
                column = f"{protocol.split}/{metric}"
                rows += [
                    {
                        "method": method,
                        "seed": row["seed"],
                        "split": protocol.split,
                        "imputation": _TRAINED,
                        "modalities": "+".join(subset),
                        "metric": metric,
                        "value": row[column],
                    }
                    for _, row in cells.iterrows()
                    if column in cells
                ]
    return pd.DataFrame(rows)


def _subsets_table(results: Results, data: pd.DataFrame) -> Table:
    """One row per set of modalities and method; columns by metric and by how the others were left out; quoted ones."""
    protocol = results.protocol
    metrics = [protocol.accuracy, protocol.f1]
    columns = ["modalities", "method", *(f"{how}: {heading(m)}" for m in metrics for how in _COLUMNS.values())]
    printed = _quoted_values(protocol)
    columns += [f"quoted: {metric_label(metric)}" for metric in metrics] if protocol.quoted is not None else []
    rows = []
    for subset in all_subsets(protocol):
        names = "+".join(subset)
        for method, part in data[data["modalities"] == names].groupby("method", sort=False):
            # without imputation in the model, a masked modality is left out
            how_masked = part["imputation"].replace("none", "off")
            line = [letters(names), str(method)]
            for metric in metrics:
                for how in _COLUMNS:
                    # on all modalities nothing is masked, so that the columns would repeat each other
                    repeated = subset == protocol.modalities and how != _TRAINED
                    values = part[(how_masked == how) & (part["metric"] == metric)]["value"]
                    line.append("" if repeated or values.empty else mean_sd(values, metric))
            if protocol.quoted is not None:
                line += [as_printed(metric, printed.get((letters(names), metric))) for metric in metrics]
            rows.append([*line, str(part["seed"].nunique())])
    data = data[data["metric"].isin(protocol.metrics)]
    title = "Sets of modalities: trained alone, and the others masked in one checkpoint"
    return Table("table4", title, [*columns, "seeds"], rows, data)


def _quoted_values(protocol: Protocol) -> dict[tuple[str, str], float]:
    """What the paper prints, by letters of the modalities and metric."""
    lines = quoted(4)
    lines = lines[lines["dataset"] == protocol.quoted]
    values = {(row.method, row.metric): row.value for row in lines.itertuples()}
    # where the data have classes, the paper's WA is the accuracy
    return values | {(method, "accuracy"): value for (method, metric), value in values.items() if metric == "wa"}


def _rates_table(lost: pd.DataFrame, metric: str, stem: str) -> Table:
    """One row per method and setting of the imputation; columns by the probability of a loss."""
    values = lost[lost["metric"] == metric]
    levels = sorted(values["rate"].unique())
    rows, data = [], []
    for (method, how), part in values.groupby(["method", "imputation"], sort=False):
        line = [str(method), LOST[str(how)]]
        for level in levels:
            # draws of one seed are averaged first: the spread is over seeds
            by_seed = part[part["rate"] == level].groupby("seed")["value"].mean()
            line.append(mean_sd(by_seed, metric))
            about = vars(estimate(by_seed))
            data.append({"method": method, "imputation": how, "rate": level, "metric": metric, **about})
        rows.append(line)
    columns = ["method", "how", *(f"{level:g}" for level in levels)]
    title = f"{metric_label(metric)} where each modality is lost with this probability"
    return Table(stem, title, columns, rows, pd.DataFrame(data))
