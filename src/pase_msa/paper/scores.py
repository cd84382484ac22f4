"""Tables of scores and of differences: mean ± standard deviation over seeds, intervals, paired tests, quoted rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.evaluation.compare import compare
from pase_msa.evaluation.statistics import estimate, holm, paired_differences, sign_flip_test
from pase_msa.paper import reduced
from pase_msa.paper.layout import Table
from pase_msa.paper.quoted import DOUBT, doubts, quoted
from pase_msa.paper.results import Results
from pase_msa.report.numbers import format_interval, format_value, is_percent, mean_sd, metric_label, scale

LOWER_IS_BETTER = ("mae", "entropy", "nll")
COSTS = {
    "parameters": ("parameters", "{:,.0f}"),
    "seconds_an_epoch": ("s per epoch", "{:.2f}"),
    "peak_memory_mb": ("peak memory, MiB", "{:.0f}"),
}
"""Columns on what a method costs: key in the table of a study -> heading, format."""


def heading(metric: str) -> str:
    """A metric's label with an arrow in the direction of better values."""
    return metric_label(metric) + (" ↓" if metric in LOWER_IS_BETTER else " ↑")


def as_printed(metric: str, value: float | None) -> str:
    """A quoted value with the decimals that the paper prints; empty for None."""
    return "" if value is None else f"{value:.{2 if is_percent(metric) else 3}f}"


def metric_table(
    results: Results,
    stem: str,
    title: str,
    variants: Sequence[str],
    *,
    table: int | None = None,
    names: Mapping[str, str] | None = None,
    metrics: Sequence[str] | None = None,
    costs: bool = False,
) -> Table:
    """Methods in rows and metrics in columns; published rows below, marked as quoted.

    Args:
        results: finished cells.
        stem: of the CSV file.
        title: printed above the table.
        variants: methods, one per row.
        table: number of the paper's table whose rows for these data are quoted; none if left out.
        names: what a variant is called in this table.
        metrics: columns; the metrics of the protocol if left out.
        costs: whether to add parameters, seconds per epoch and peak memory.

    Errors:
        PaSEError: none of the variants has a finished run.
    """
    metrics = list(metrics or results.protocol.metrics)
    main = results.protocol.tested[0]
    more = COSTS if costs else {}
    columns = ["method", *map(heading, metrics), f"{metric_label(main)}, 95 % interval", *(h for h, _ in more.values())]
    rows, data = [], []
    for variant in variants:
        cells = results.rows(variant)
        if cells.empty:
            continue
        name = (names or {}).get(variant, variant)
        source = {"source": "measured", **_mark(variant)}
        line = [reduced.row_name(variant, name)]
        for metric in metrics:
            values = results.values(variant, metric)
            line.append(mean_sd(values, metric))
            if values:
                data.append({"method": name, "metric": metric, **vars(estimate(values)), **source})
        about = estimate(values) if (values := results.values(variant, main)) else None
        # the spread over a single seed is unknown
        line.append("n/a" if about is None or about.count < 2 else format_interval(main, about.low, about.high))
        line += [_cost(cells, key, form) for key, (_, form) in more.items()]
        data += [
            {"method": name, "metric": key, **vars(estimate(cells[key].dropna())), **source}
            for key in more
            if key in cells and cells[key].notna().any()
        ]
        rows.append([*line, str(cells["seed"].nunique())])
    if not rows:
        raise PaSEError(f"No run of {results.name} is finished, so it cannot be made; train its variants first.")
    if table is not None and results.protocol.quoted is not None:
        quoted_rows, quoted_data = _quoted(table, results.protocol.quoted, metrics, len(more))
        rows, data = rows + quoted_rows, data + quoted_data
    return Table(stem, title, [*columns, "seeds"], rows, pd.DataFrame(data))


def _quoted(
    table: int, dataset: str, metrics: Sequence[str], costs: int
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Rows and data of the published methods."""
    rows, data = [], []
    printed = quoted(table)
    doubtful = {(row.method, row.metric): {"doubt": row.doubt} for row in doubts(table, dataset).itertuples()}
    for method, lines in printed[printed["dataset"] == dataset].groupby("method", sort=False):
        values = dict(zip(lines["metric"], lines["value"], strict=True))
        # where the data have classes, the paper's WA is the accuracy
        values |= {"accuracy": values["wa"]} if "wa" in values else {}
        marks = {metric: f" {DOUBT}" if (method, metric) in doubtful else "" for metric in metrics}
        cells = [as_printed(metric, values.get(metric)) + marks[metric] for metric in metrics]
        if any(cells):
            rows.append([reduced.quoted_name(str(method)), *cells, *[""] * (1 + costs), "quoted"])
            data += [
                {"method": f"quoted: {method}", "metric": m, "mean": values[m] / scale(m), "source": s}
                | doubtful.get((method, m), {})
                for m, s in zip(lines["metric"], lines["source"], strict=True)
            ]
    return rows, data


def _mark(variant: str) -> dict[str, str]:
    """What makes a method a reduced version, for the rows of a CSV file; nothing for a whole one."""
    return {"reduced": words} if (words := reduced.reduction(variant)) else {}


def _cost(cells: pd.DataFrame, column: str, form: str) -> str:
    values = cells[column].dropna() if column in cells else []
    return form.format(sum(values) / len(values)) if len(values) else "n/a"


def best_of(results: Results, variants: Sequence[str]) -> str | None:
    """The method with the best mean of the metric that selects epochs."""
    metric = results.protocol.tested[0]
    means = {v: estimate(values).mean for v in variants if (values := results.values(v, metric))}
    if not means:
        return None
    return min(means, key=lambda v: means[v]) if metric in LOWER_IS_BETTER else max(means, key=lambda v: means[v])


def difference_table(
    results: Results,
    stem: str,
    title: str,
    ours: str,
    others: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    baselines: Sequence[str] = (),
) -> Table | None:
    """Our method minus every other method, paired by seed and by test video, corrected for their number (Holm).

    By seed the unit is a run: would other seeds agree? With several data sets (folds) the unit is one of these, the
    mean over its seeds. By video the unit is a test video, of all folds: would other videos agree? This needs
    predictions on the test split, and is left out where that was not read.

    Args:
        results: finished cells.
        stem: of the CSV file.
        title: printed above the table.
        ours: our method.
        others: the methods that it is compared with.
        names: what they are called in this table.
        baselines: those of the others that are not our work; the best of them is marked.

    Returns:
        None where there is nothing to compare with.
    """
    tested = results.protocol.tested
    entries: list[dict[str, Any]] = []
    for metric in tested:
        entries += _by_seeds(results, metric, ours, others)
    if results.protocol.split == "test":
        entries += _by_videos(results, ours, others)
    if not entries:
        return None
    data = pd.DataFrame([{**entry, **_mark(entry["baseline"])} for entry in entries])
    # how many p-values each was corrected for: a method without pairs is not among them
    data["comparisons"] = data.groupby(["metric", "unit"])["baseline"].transform("size")
    best = best_of(results, baselines)
    pairs = [(metric, unit) for metric in tested for unit in dict.fromkeys(data["unit"])]
    columns = ["minus"]
    for metric, unit in pairs:
        count = int(((data["metric"] == metric) & (data["unit"] == unit)).sum())
        columns += [f"{metric_label(metric)}, 95 % over {unit}", f"p (Holm, of {count})"]
    rows = []
    for other in dict.fromkeys(data["baseline"]):
        name = reduced.row_name(other, (names or {}).get(other, other))
        line = [name + (" (best baseline)" if other == best else "")]
        for metric, unit in pairs:
            line += _difference_cells(
                data[(data["baseline"] == other) & (data["metric"] == metric) & (data["unit"] == unit)], metric
            )
        rows.append(line)
    return Table(stem, title, columns, rows, data)


def _difference_cells(entry: pd.DataFrame, metric: str) -> list[str]:
    """Difference with its interval, and p; `entry` has one row or none."""
    if entry.empty:
        return ["n/a", "n/a"]
    row = entry.iloc[0]
    # the spread of a single difference is unknown
    interval = " " + format_interval(metric, row["low"], row["high"], signed=True) if row["count"] > 1 else ""
    return [f"{format_value(metric, row['difference'], signed=True)}{interval}", f"{row['p_holm']:.3f}"]


def _by_seeds(results: Results, metric: str, ours: str, others: Sequence[str]) -> list[dict[str, Any]]:
    column = f"{results.protocol.split}/{metric}"
    # seeds of one fold are not independent folds
    by, unit = (["seed"], "seeds") if results.done["data"].nunique() == 1 else (["data"], "data sets")
    gaps = {}
    for other in others:
        both = results.done[results.done["variant"].isin([ours, other])]
        if column not in both or set(both["variant"]) != {ours, other}:
            continue
        # cells may have failed: only pairs that both methods have are compared
        counts = both.dropna(subset=[column]).groupby(["data", "seed"])["variant"].transform("nunique")
        paired = both.loc[counts.index[counts == 2]]
        if not paired.empty:
            gaps[other] = paired_differences(paired, column, ours, other, by=by)
    p = {other: sign_flip_test(gap) for other, gap in gaps.items()}
    corrected = holm(p)
    entries = []
    for other, gap in gaps.items():
        about = estimate(gap)
        entries.append(
            {
                "ours": ours,
                "baseline": other,
                "metric": metric,
                "unit": unit,
                "difference": about.mean,
                "low": about.low,
                "high": about.high,
                "count": about.count,
                "p": p[other],
                "p_holm": corrected[other],
            }
        )
    return entries


def _by_videos(results: Results, ours: str, others: Sequence[str]) -> list[dict[str, Any]]:
    own, folds = results.folds(ours), results.done["data"].nunique()
    comparisons = {}
    for name in others:
        other = results.folds(name)
        # a cell may have failed: a seed counts with all its folds
        seeds = [s for s in sorted(own.keys() & other.keys()) if len(own[s]) == len(other[s]) == folds]
        # a method on a modality that some utterances lack was tested on fewer utterances: no pairs
        if seeds and results.count(name) == results.count(ours):
            comparisons[name] = compare(*([run for s in seeds for run in side[s]] for side in (own, other)))
    entries = []
    for metric in results.protocol.tested:
        rows = {name: found["metrics"][metric] for name, found in comparisons.items() if metric in found["metrics"]}
        corrected = holm({name: row["p"] for name, row in rows.items()})
        entries += [
            {
                "ours": ours,
                "baseline": name,
                "metric": metric,
                "unit": "videos",
                **{key: row[key] for key in ("difference", "low", "high", "p")},
                "count": comparisons[name]["videos"],
                "p_holm": corrected[name],
            }
            for name, row in rows.items()
        ]
    return entries


def how_to_read(results: Results) -> list[str]:
    """Sentences on how to read tables of scores and differences."""
    data, seeds = results.done["data"].nunique(), len(results.protocol.seeds)
    unit, count = ("seed", seeds) if data == 1 else ("data set", data)
    videos = " and by test video (permutation test of predictions)" if results.protocol.split == "test" else ""
    if videos and data > 1:
        videos += ", whose predictions are pooled over data sets"
    lines = [
        "Mean ± standard deviation over seeds. The interval is a bootstrap of the mean over seeds. Accuracies and F1 "
        "are in percent.",
        f"Differences are ours minus the other's, paired by {unit} (sign-flip test){videos}. p-values are corrected "
        "by Holm's method for the number of methods that are compared, which stands above them.",
        f"The smallest p-value that {count} {unit}{'s' if count > 1 else ''} can give is {2.0 ** (1 - count):.3g}, "
        "before correction.",
    ]
    counts = {name: count for name in results.variants if (count := results.count(name)) is not None}
    fewer = [f"{name} ({count})" for name, count in counts.items() if count < max(counts.values())]
    if fewer:
        lines.append(
            f"Of {max(counts.values())} test utterances, these were measured on fewer, those that have their "
            f"modalities: {', '.join(fewer)}. They are not compared by video."
        )
    if results.protocol.quoted is not None:
        lines.append(
            "Rows marked quoted are printed in the paper, with its features, encoders and splits. They were not "
            "measured here and do not share this protocol. The CSV file names the source of each."
        )
    return lines
