"""Table 4: subsets of the modalities, each trained alone, and one checkpoint with the others withheld."""

from __future__ import annotations

import pandas as pd

from pase_msa.evaluation.statistics import estimate
from pase_msa.figures import rates, subsets
from pase_msa.figures.quoted import quoted
from pase_msa.report.numbers import metric_label
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part, Picture
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import heading, mean_sd, number, reading
from pase_msa.reproduce.subject import Options, Subject
from pase_msa.reproduce.subset_methods import name_of, on
from pase_msa.reproduce.subset_methods import subsets as all_subsets

_TRAINED = "trained"
_COLUMNS = {_TRAINED: "trained alone", "on": "withheld, imputed", "off": "withheld, not imputed"}
_LOST = {"on": "lost, imputed", "off": "lost, not imputed", "none": "lost"}
_METHODS = ("concat", methods.PAPER, methods.PASE)


def variants(subject: Subject) -> dict[str, Options]:
    """Concatenation and PaSE of either equilibrium on every set of modalities."""
    return {
        name_of(method, some, subject): on(method, some, subject)
        for method in _METHODS
        for some in all_subsets(subject)
    }


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    subject = found.subject
    whole = [name for name in _METHODS if name in found.variants]
    # both are asked of a run while it is there, since they have most sets of modalities in common
    frames = [(subsets.measure([run]), rates.measure([run])) for run in found.runs(whole)]
    withheld, lost = (pd.concat(part, ignore_index=True) for part in zip(*frames, strict=True))
    data = pd.concat([_trained(found), withheld], ignore_index=True)
    label = metric_label(subject.accuracy)
    # one that says the same of all who lost their text has an accuracy of luck: the error stands beside it
    both = list(dict.fromkeys([subject.accuracy, subject.tested[0]]))
    stems = {name: "table4-lost" if name == subject.accuracy else f"table4-lost-{name}" for name in both}
    return Part(
        f"Table 4: subsets of the modalities on {subject.name}",
        [_grid(found, data), *(_rates_grid(lost, name, stem) for name, stem in stems.items())],
        [
            Picture(
                "table4-withheld",
                f"{label} of one checkpoint that is given some modalities.",
                subsets.draw(withheld, subject.accuracy),
                withheld,
            ),
            Picture(
                "table4-rates",
                f"{' and '.join(map(metric_label, both))} where each modality is lost at random.",
                rates.draw(lost, *both),
                lost,
            ),
        ],
        [
            *reading(found)[:1],
            "Trained alone: a run of its own on these modalities. Withheld: the run on all modalities, which is given "
            "these only. The paper does not say which of the two its rows are.",
            f"With the equilibrium on held-out contributions ({methods.PASE}) a modality that is not trusted changes "
            "nothing when it is lost.",
            "At random, the last modality of an utterance is never lost; how much was in fact lost is in the CSV.",
        ],
    )


def _trained(found: Results) -> pd.DataFrame:
    subject = found.subject
    rows = []
    for method in _METHODS:
        for some in all_subsets(subject):
            mine = found.rows(name_of(method, some, subject))
            for metric in (subject.accuracy, subject.f1):
                column = f"{subject.split}/{metric}"
                rows += [
                    {
                        "method": method,
                        "seed": row["seed"],
                        "split": subject.split,
                        "imputation": _TRAINED,
                        "modalities": "+".join(some),
                        "metric": metric,
                        "value": row[column],
                    }
                    for _, row in mine.iterrows()
                    if column in mine
                ]
    return pd.DataFrame(rows)


def _grid(found: Results, data: pd.DataFrame) -> Grid:
    """A row a set of modalities and method; columns by metric and by how the others were left out; quoted figures."""
    subject = found.subject
    metrics = [subject.accuracy, subject.f1]
    columns = ["modalities", "method", *(f"{how}: {heading(m)}" for m in metrics for how in _COLUMNS.values()), "seeds"]
    printed = {}
    if subject.quoted is not None:
        columns[-1:-1] = [f"quoted: {metric_label(metric)}" for metric in metrics]
        lines = quoted(4)
        lines = lines[lines["dataset"] == subject.quoted]
        printed = {(row.method, row.metric): row.value for row in lines.itertuples()}
        printed |= {(method, "accuracy"): value for (method, metric), value in printed.items() if metric == "wa"}
    rows = []
    for some in all_subsets(subject):
        names = "+".join(some)
        here = data[data["modalities"] == names]
        for method, part in here.groupby("method", sort=False):
            # without imputation in the model, what is withheld is left out
            shown = part["imputation"].replace("none", "off")
            line = [subsets.letters(names), str(method)]
            for metric in metrics:
                for how in _COLUMNS:
                    alike = some == subject.modalities and how != _TRAINED  # nothing is withheld
                    values = part[(shown == how) & (part["metric"] == metric)]["value"].tolist()
                    line.append("" if alike or not values else mean_sd(metric, values))
            if printed:
                line += [_print(printed.get((subsets.letters(names), m))) for m in metrics]
            rows.append([*line, str(part["seed"].nunique())])
    data = data[data["metric"].isin(subject.shown)]
    return Grid("table4", "Sets of modalities: trained alone, and withheld from one checkpoint", columns, rows, data)


def _print(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _rates_grid(lost: pd.DataFrame, metric: str, stem: str) -> Grid:
    mine = lost[lost["metric"] == metric]
    levels = sorted(mine["rate"].unique())
    rows, data = [], []
    for (method, how), part in mine.groupby(["method", "imputation"], sort=False):
        line = [str(method), _LOST[str(how)]]
        for level in levels:
            # draws of one seed are averaged first
            about = estimate(part[part["rate"] == level].groupby("seed")["value"].mean())
            line.append(number(metric, about.mean) + (f" ± {number(metric, about.sd)}" if about.count > 1 else ""))
            data.append({"method": method, "imputation": how, "rate": level, "metric": metric, **vars(about)})
        rows.append(line)
    columns = ["method", "how", *(f"{level:g}" for level in levels)]
    title = f"{metric_label(metric)} where each modality is lost with this probability"
    return Grid(stem, title, columns, rows, pd.DataFrame(data))
