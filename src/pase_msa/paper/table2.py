"""Table 2: emotions, one against the rest, leaving one recording session out at a time (IEMOCAP's five folds)."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from pase_msa.data.table import ARROW, FeatureTable, Utterance
from pase_msa.errors import PaSEError
from pase_msa.evaluation.statistics import estimate
from pase_msa.paper import methods, reduced
from pase_msa.paper.layout import Section, Table
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.quoted import quoted
from pase_msa.paper.results import Results
from pase_msa.paper.scores import difference_table, how_to_read, metric_table
from pase_msa.report.numbers import mean_sd

#: IEMOCAP names its videos "Ses01F_impro01": the session comes first
_SESSION = re.compile(r"^(?:.*[^A-Za-z])?(ses(?:sion)?[_ -]?\d+)", re.IGNORECASE)
_LEAST = 3  # one to test, one to validate, one to train


def sessions(table: FeatureTable) -> list[str | None]:
    """The recording session in the name of each utterance's video, or None."""
    matches = [_SESSION.match(str(video)) for video in table.videos]
    return [None if match is None else match[1].lower() for match in matches]


def variants(protocol: Protocol) -> dict[str, Options]:
    """Single modalities, baseline models, balancing methods on concatenation, both versions of PaSE.

    Errors:
        PaSEError: the labels are scores, or the videos name fewer than three sessions.
    """
    if protocol.task.kind != "classification":
        raise PaSEError(
            f"Table 2 is about emotions, and the label {protocol.task.label!r} of {protocol.name} holds scores; name "
            "data with a column of classes."
        )
    count = len({name for name in sessions(protocol.table) if name is not None})
    if count < _LEAST:
        raise PaSEError(
            f"Table 2 leaves one recording session out at a time and wants {_LEAST} or more, named in the video "
            f"column as 'Ses01F_impro01' is; {protocol.name} has {count}."
        )
    alone, concat = methods.single_modalities(protocol), {"concat": methods.model("concat")}
    ours = methods.both_versions()
    if protocol.text == "fine-tuned":  # a run takes minutes: the short list
        return {**alone, **concat, **ours}
    baselines = {name: methods.model(name) for name in methods.baselines()}
    return {**alone, **baselines, **concat, **_balanced(), **ours}


def _balanced() -> dict[str, Options]:
    return {**methods.balanced("concat"), **methods.with_our_balancing("concat")}


def datasets(protocol: Protocol, root: Path) -> list[str]:
    """One table per session: that session is the test split, the next one validation, all others training."""
    by_row = sessions(protocol.table)
    order = sorted({name for name in by_row if name is not None})
    mark = protocol.table.fingerprint()[:12]
    folders = []
    for place, tested in enumerate(order):
        folder = root / "sessions" / mark / f"{protocol.name.replace('/', '-')}-without-{tested}"
        if not (folder / ARROW).is_file():
            split = {tested: "test", order[(place + 1) % len(order)]: "valid"}
            rows = (
                _in_split(protocol.table.utterance(row), split.get(name, "train"))
                for row, name in enumerate(by_row)
                if name is not None
            )
            FeatureTable.build(rows, protocol.table.schema, path=folder, meta=protocol.table.meta)
        folders.append(str(folder.resolve()))
    return folders


def _in_split(utterance: Utterance, split: str) -> Utterance:
    utterance.split = split
    return utterance


def build(results: Results) -> Section:
    """F1 by emotion, scores over all emotions with what each method costs, and PaSE minus each of the others."""
    order = results.variants
    ours = [name for name in (methods.PAPER, methods.PASE) if name in order]
    others = [name for name in order if name not in ours]
    balanced = [name for name in others if " + " in name]
    models = [name for name in order if name not in balanced] or order
    costs = "Over all emotions, with what each method costs"
    tables = [_emotions(results, models), metric_table(results, "table2-overall", costs, models, costs=True)]
    if balanced:
        rows = [name for name in ("concat", *balanced, *ours) if name in order]
        title = "Balancing methods on concatenation"
        tables += [
            _emotions(results, rows, "table2-balancing", f"{title}: F1 by emotion"),
            metric_table(results, "table2-balancing-overall", f"{title}: over all emotions", rows, costs=True),
        ]
    stems = {methods.PAPER: "table2-differences-paper", methods.PASE: "table2-differences"}
    baselines = list(filter(methods.is_baseline, others))
    for name in ours:
        title = f"{name} minus each of the others, paired by session and by video"
        if differences := difference_table(results, stems[name], title, name, others, baselines=baselines):
            tables.append(differences)
    return Section(
        f"Table 2: emotions on {results.protocol.name}",
        tables,
        notes=[
            *how_to_read(results),
            "Leaving one session out: it is the test split, the next one selects epochs, all others train. The "
            "speakers of a session are in no other. Deviations are over seeds of the mean over sessions.",
            "F1 of an emotion against all others, weighted by support over both sides, as published for IEMOCAP.",
            "Accuracy is the WA of the field, UA the mean recall. Parameters, seconds and memory are means over seeds "
            "and sessions. Seconds depend on what else ran on the machine.",
            *reduced.notes(order),
        ],
    )


def _emotions(
    results: Results, order: list[str], stem: str = "table2", title: str = "F1 by emotion, the mean over sessions"
) -> Table:
    """F1 by emotion: the mean over sessions of each seed, then over seeds; the first table has the quoted rows."""
    protocol = results.protocol
    classes = list(protocol.task.classes)
    rows, data = [], []
    for method in order:
        line = [reduced.row_name(method, method)]
        for name in classes:
            column = f"{protocol.split}/per_class/{name}/f1"
            values = results.rows(method).groupby("seed")[column].mean().dropna() if column in results.done else []
            line.append(mean_sd(values, "f1"))
            if len(values):
                about = {"method": method, "class": name, "metric": "f1", **vars(estimate(values))}
                data.append({**about, "reduced": reduced.reduction(method)})
        rows.append([*line, str(results.rows(method)["seed"].nunique())])
    if protocol.quoted == "iemocap" and stem == "table2":
        for method, lines in quoted(2).groupby("method", sort=False):
            values = dict(zip(lines["metric"].str.removeprefix("f1_"), lines["value"], strict=True))
            cells = [_quoted_value(values, name) for name in classes]
            rows.append([reduced.quoted_name(str(method)), *cells, "quoted"])
            data += [
                {"method": f"quoted: {method}", "class": row.metric.removeprefix("f1_"), "mean": row.value / 100}
                for row in lines.itertuples()
            ]
    columns = ["method", *(f"F1 {name} ↑" for name in classes), "seeds"]
    return Table(stem, title, columns, rows, pd.DataFrame(data))


def _quoted_value(values: dict[str, float], name: str) -> str:
    """What is printed for a class, which the data may call by its first letters: "hap" is "happy"."""
    return next((f"{value:.1f}" for word, value in values.items() if word.startswith(name.lower()[:3])), "")
