"""Figure 1: what further modalities add to text, by method; each set of modalities is a run of its own."""

from __future__ import annotations

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.evaluation.statistics import estimate
from pase_msa.figures import gains
from pase_msa.figures.panels import scale
from pase_msa.figures.quoted import quoted
from pase_msa.figures.subsets import letters
from pase_msa.report.numbers import metric_label
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part, Picture
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import interval
from pase_msa.reproduce.subject import Options, Subject
from pase_msa.reproduce.subset_methods import name_of, on, subsets

_RIVALS = ("lf_dnn", "lmf")


def _methods(subject: Subject) -> list[str]:
    some = [name for name in _RIVALS if name in methods.rivals() and subject.text == "frozen"]
    return ["concat", *some, methods.PAPER, methods.PASE]


def _base(subject: Subject) -> str:
    return "text" if "text" in subject.modalities else subject.modalities[0]


def variants(subject: Subject) -> dict[str, Options]:
    """Every method on the first modality, and on every set that holds it."""
    if len(subject.modalities) < 2:
        raise PaSEError(
            f"Figure 1 wants two modalities or more, {subject.name} has {subject.modalities[0]} alone; name other data."
        )
    return {
        name_of(method, some, subject): on(method, some, subject)
        for method in _methods(subject)
        for some in subsets(subject)
        if _base(subject) in some
    }


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    subject = found.subject
    metric, base = subject.f1, _base(subject)
    column = f"{subject.split}/{metric}"
    rows = [
        {"method": m, "seed": row["seed"], "modalities": "+".join(some), "metric": metric, "value": row[column]}
        for m in _methods(subject)
        for some in subsets(subject)
        for _, row in found.rows(name_of(m, some, subject)).iterrows()
    ]
    frame = gains.measure(pd.DataFrame(rows), metric, base)
    lines, data = [], []
    for (method, added), part in frame.groupby(["method", "added"], sort=False):
        about = estimate(part["value"])
        spread = f" ± {about.sd:.1f}" if about.count > 1 else ""
        unit = scale(metric)
        ends = interval(metric, about.low / unit, about.high / unit, signed=True) if about.count > 1 else "n/a"
        lines.append([str(method), f"+{letters(str(added))}", f"{about.mean:+.1f}{spread}", ends, str(about.count)])
        data.append({"method": method, "base": base, "added": added, "metric": metric, **vars(about)})
    if subject.quoted == "mosi":
        for row in quoted("figure1").itertuples():
            added = row.metric.removeprefix("f1_gain_T+").removesuffix("_over_T")
            lines.append([f"quoted: {row.method}", f"+{added}", f"{row.value:+.2f}", "", "quoted"])
    label = metric_label(metric)
    what = ", ".join(str(name).replace("+", " and ") for name in dict.fromkeys(frame["added"]))
    columns = ["method", "added", f"improvement of {label}, points", "95 % interval", "seeds"]
    return Part(
        f"Figure 1: what is added to {base} on {subject.name}",
        [Grid("figure1-gains", f"Improvement over {base} alone, paired by seed", columns, lines, pd.DataFrame(data))],
        [Picture("figure1", f"Improvement of {label} over {base} alone by adding {what}.", gains.draw(frame), frame)],
        [
            "Each method against itself on one modality, so that a weak start makes a large gain: read the heights "
            "beside Table 1's scores."
        ],
    )
