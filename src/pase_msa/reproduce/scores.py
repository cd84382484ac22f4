"""Tables of scores: mean ± standard deviation over seeds, intervals, paired tests against rivals, quoted rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pase_msa.evaluation.compare import compare
from pase_msa.evaluation.statistics import Estimate, estimate, holm, paired_differences, sign_flip_test
from pase_msa.figures.gains import LESS_IS_BETTER
from pase_msa.figures.panels import scale
from pase_msa.figures.quoted import quoted
from pase_msa.report.numbers import is_percent, metric_label
from pase_msa.reproduce.layout import Grid
from pase_msa.reproduce.results import Results

EXTRAS = {
    "parameters": ("parameters", "{:,.0f}"),
    "seconds_an_epoch": ("s an epoch", "{:.2f}"),
    "peak_memory_mb": ("peak memory, MiB", "{:.0f}"),
}


def heading(metric: str) -> str:
    """A metric with its direction."""
    return metric_label(metric) + (" ↓" if metric in LESS_IS_BETTER else " ↑")


def number(metric: str, value: float, *, signed: bool = False) -> str:
    """A value as it is printed: percent with one decimal, or plain with three."""
    return f"{scale(metric) * value:{'+' if signed else ''}.{1 if is_percent(metric) else 3}f}"


def mean_sd(metric: str, values: Sequence[float]) -> str:
    """Mean ± standard deviation; one value has no deviation."""
    if not values:
        return "n/a"
    found = estimate(values)
    spread = f" ± {number(metric, found.sd)}" if found.count > 1 else ""
    return number(metric, found.mean) + spread


def plain(found: Estimate, factor: float = 1.0, digits: int = 3) -> str:
    """Mean ± standard deviation of what is no metric."""
    spread = f" ± {factor * found.sd:.{digits}f}" if found.count > 1 else ""
    return f"{factor * found.mean:.{digits}f}{spread}"


def interval(metric: str, low: float, high: float, *, signed: bool = False) -> str:
    """Both ends."""
    return f"[{number(metric, low, signed=signed)}, {number(metric, high, signed=signed)}]"


def score_grid(
    found: Results,
    stem: str,
    title: str,
    variants: Sequence[str],
    *,
    table: int | None = None,
    names: Mapping[str, str] | None = None,
    metrics: Sequence[str] | None = None,
    extras: bool = False,
) -> Grid:
    """Methods in rows and metrics in columns; published rows below, marked as quoted.

    Args:
        found: finished cells.
        stem: of the CSV.
        title: above.
        variants: rows.
        table: of the paper, whose rows for these data are quoted below.
        names: what a variant is called here.
        metrics: columns; those of the task.
        extras: parameters, seconds an epoch and peak memory too.
    """
    metrics = list(metrics or found.subject.shown)
    main = found.subject.tested[0]
    more = EXTRAS if extras else {}
    columns = ["method", *map(heading, metrics), f"{metric_label(main)}, 95 % interval", *(h for h, _ in more.values())]
    columns.append("seeds")
    rows, data = [], []
    for variant in variants:
        mine = found.rows(variant)
        if mine.empty:
            continue
        shown = (names or {}).get(variant, variant)
        line = [shown]
        for metric in metrics:
            values = found.values(variant, metric)
            line.append(mean_sd(metric, values))
            if values:
                data.append({"method": shown, "metric": metric, **vars(estimate(values)), "source": "measured"})
        ends = estimate(values) if (values := found.values(variant, main)) else None
        line.append("n/a" if ends is None or ends.count < 2 else interval(main, ends.low, ends.high))
        line += [_extra(mine, key, form) for key, (_, form) in more.items()]
        data += [
            {"method": shown, "metric": key, **vars(estimate(mine[key].dropna())), "source": "measured"}
            for key in more
            if key in mine and mine[key].notna().any()
        ]
        rows.append([*line, str(mine["seed"].nunique())])
    if table is not None and found.subject.quoted is not None:
        printed = quoted(table)
        printed = printed[printed["dataset"] == found.subject.quoted]
        for method, lines in printed.groupby("method", sort=False):
            known = dict(zip(lines["metric"], lines["value"], strict=True))
            # where the data have classes, the paper's WA is the accuracy
            known |= {"accuracy": known["wa"]} if "wa" in known else {}
            cells = [f"{known[m]:.{2 if is_percent(m) else 3}f}" if m in known else "" for m in metrics]
            if any(cells):
                rows.append([f"quoted: {method}", *cells, "", *("" for _ in more), "quoted"])
                data += [
                    {"method": f"quoted: {method}", "metric": m, "mean": known[m] / scale(m), "source": s}
                    for m, s in zip(lines["metric"], lines["source"], strict=True)
                ]
    return Grid(stem, title, columns, rows, pd.DataFrame(data))


def _extra(rows: pd.DataFrame, column: str, form: str) -> str:
    values = rows[column].dropna() if column in rows else []
    return form.format(sum(values) / len(values)) if len(values) else "n/a"


def best_of(found: Results, variants: Sequence[str]) -> str | None:
    """The method with the best mean of the metric that selects epochs."""
    metric = found.subject.tested[0]
    means = {v: estimate(values).mean for v in variants if (values := found.values(v, metric))}
    if not means:
        return None
    return min(means, key=lambda v: means[v]) if metric in LESS_IS_BETTER else max(means, key=lambda v: means[v])


def comparison_grid(
    found: Results,
    stem: str,
    title: str,
    ours: str,
    others: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    rivals: Sequence[str] = (),
) -> Grid | None:
    """Our paired difference from every other method, by seeds and by test videos, corrected over them (Holm).

    By seeds the unit is a run: would other seeds say the same? Where there are several data sets (folds), it is one of
    these, the mean over its seeds. By videos it is a test video: would other videos? The latter wants predictions on
    the test split and is left out where that was not read.

    Args:
        found: finished cells.
        stem: of the CSV.
        title: above.
        ours: a method.
        others: those it is compared with.
        names: what they are called here.
        rivals: those of the others that are no work of ours, of which the best is marked.

    Returns:
        None where there is nothing to compare with.
    """
    entries: list[dict[str, Any]] = []
    for metric in found.subject.tested:
        entries += _by_seeds(found, metric, ours, others)
    # predictions on several data sets are of other videos each
    if found.subject.split == "test" and found.done["data"].nunique() == 1:
        entries += _by_videos(found, ours, others)
    if not entries:
        return None
    data = pd.DataFrame(entries)
    best = best_of(found, rivals)
    columns = ["less"]
    shown = []
    for metric in found.subject.tested:
        for unit in dict.fromkeys(data["unit"]):
            columns += [f"{metric_label(metric)}, 95 % over {unit}", "p (Holm)"]
    for rival in dict.fromkeys(data["rival"]):
        line = [(names or {}).get(rival, rival) + (" (best rival)" if rival == best else "")]
        for metric in found.subject.tested:
            for unit in dict.fromkeys(data["unit"]):
                chosen = data[(data["rival"] == rival) & (data["metric"] == metric) & (data["unit"] == unit)]
                if chosen.empty:
                    line += ["n/a", "n/a"]
                    continue
                row = chosen.iloc[0]
                # of one difference nothing is known about the spread
                ends = " " + interval(metric, row["low"], row["high"], signed=True) if row["count"] > 1 else ""
                line += [f"{number(metric, row['difference'], signed=True)}{ends}", f"{row['p_holm']:.3f}"]
        shown.append(line)
    return Grid(stem, title, columns, shown, data)


def _by_seeds(found: Results, metric: str, ours: str, rivals: Sequence[str]) -> list[dict[str, Any]]:
    column = f"{found.subject.split}/{metric}"
    # seeds of one fold are no further folds
    by, unit = (["seed"], "seeds") if found.done["data"].nunique() == 1 else (["data"], "data sets")
    gaps = {}
    for rival in rivals:
        both = found.done[found.done["variant"].isin([ours, rival])]
        if column not in both or set(both["variant"]) != {ours, rival}:
            continue
        # cells may have failed: what both have is compared
        counts = both.dropna(subset=[column]).groupby(["data", "seed"])["variant"].transform("nunique")
        paired = both.loc[counts.index[counts == 2]]
        if not paired.empty:
            gaps[rival] = paired_differences(paired, column, ours, rival, by=by)
    p = {rival: sign_flip_test(gap) for rival, gap in gaps.items()}
    corrected = holm(p)
    entries = []
    for rival, gap in gaps.items():
        about = estimate(gap)
        entries.append(
            {
                "ours": ours,
                "rival": rival,
                "metric": metric,
                "unit": unit,
                "difference": about.mean,
                "low": about.low,
                "high": about.high,
                "count": about.count,
                "p": p[rival],
                "p_holm": corrected[rival],
            }
        )
    return entries


def _by_videos(found: Results, ours: str, rivals: Sequence[str]) -> list[dict[str, Any]]:
    mine = found.folders(ours)
    results = {}
    for rival in rivals:
        other = found.folders(rival)
        seeds = sorted(mine.keys() & other.keys())
        # a modality that some utterances lack cannot be tested on these: another set of utterances
        if seeds and found.count(rival) == found.count(ours):
            results[rival] = compare([mine[s] for s in seeds], [other[s] for s in seeds])
    entries = []
    for metric in found.subject.tested:
        known = {rival: result["metrics"][metric] for rival, result in results.items() if metric in result["metrics"]}
        corrected = holm({rival: row["p"] for rival, row in known.items()})
        entries += [
            {
                "ours": ours,
                "rival": rival,
                "metric": metric,
                "unit": "videos",
                **{key: row[key] for key in ("difference", "low", "high", "p")},
                "count": results[rival]["videos"],
                "p_holm": corrected[rival],
            }
            for rival, row in known.items()
        ]
    return entries


def reading(found: Results) -> list[str]:
    """How the tables of scores are to be read."""
    data, seeds = found.done["data"].nunique(), len(found.subject.seeds)
    unit, count = ("seed", seeds) if data == 1 else ("data set", data)
    videos = (
        " and by test video (permutation test of predictions)" if found.subject.split == "test" and data == 1 else ""
    )
    lines = [
        "Mean ± standard deviation over seeds; the interval is a bootstrap of the mean over seeds. Accuracies and F1 "
        "are in percent.",
        f"Differences are ours less the other's, paired by {unit} (sign-flip test){videos}; p-values are corrected for "
        "the number of rows (Holm).",
        f"The smallest p-value that {count} {unit}{'s' if count > 1 else ''} can give is {2.0 ** (1 - count):.3g}, "
        "before correction.",
    ]
    counts = {name: count for name in found.variants if (count := found.count(name)) is not None}
    fewer = [f"{name} ({count})" for name, count in counts.items() if count < max(counts.values())]
    if fewer:
        lines.append(
            f"Of {max(counts.values())} test utterances, these were measured on fewer, those that have their "
            f"modalities: {', '.join(fewer)}. They are not compared by video."
        )
    if found.subject.quoted is not None:
        lines.append(
            "Rows marked quoted are printed in the paper, with its features, encoders and splits; they were not "
            "measured here and do not share this protocol. Who they were taken from is in the CSV."
        )
    return lines
