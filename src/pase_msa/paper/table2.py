"""Table 2: emotions, one against the rest, leaving one recording session out at a time (IEMOCAP's five folds)."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from pase_msa.data.table import ARROW, FeatureTable, Utterance
from pase_msa.errors import PaSEError
from pase_msa.evaluation.statistics import estimate
from pase_msa.paper import methods
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
    """Single modalities, baseline models, both versions of PaSE.

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
    baselines = {name: methods.model(name) for name in methods.baselines()} if protocol.text == "frozen" else {}
    concat = {"concat": methods.model("concat")}
    return {**methods.single_modalities(protocol), **baselines, **concat, **methods.both_versions()}


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
    """F1 by emotion, scores over all emotions, and either version of PaSE minus its baselines."""
    order = results.variants
    ours = [name for name in (methods.PAPER, methods.PASE) if name in order]
    baselines = [name for name in order if name not in ours]
    tables = [_emotions(results, order), metric_table(results, "table2-overall", "Over all emotions", order)]
    for name, stem in zip(ours, ("table2-differences-paper", "table2-differences"), strict=False):
        title = f"{name} minus its baselines, paired by session"
        if differences := difference_table(results, stem, title, name, baselines, baselines=baselines):
            tables.append(differences)
    return Section(
        f"Table 2: emotions on {results.protocol.name}",
        tables,
        notes=[
            *how_to_read(results),
            "Leaving one session out: it is the test split, the next one selects epochs, all others train. The "
            "speakers of a session are in no other. Deviations are over seeds of the mean over sessions.",
            "F1 of an emotion against all others, weighted by support over both sides, as published for IEMOCAP.",
        ],
    )


def _emotions(results: Results, order: list[str]) -> Table:
    """F1 by emotion: the mean over sessions of each seed, then over seeds."""
    protocol = results.protocol
    classes = list(protocol.task.classes)
    rows, data = [], []
    for method in order:
        line = [method]
        for name in classes:
            column = f"{protocol.split}/per_class/{name}/f1"
            values = results.rows(method).groupby("seed")[column].mean().dropna() if column in results.done else []
            line.append(mean_sd(values, "f1"))
            if len(values):
                data.append({"method": method, "class": name, "metric": "f1", **vars(estimate(values))})
        rows.append([*line, str(results.rows(method)["seed"].nunique())])
    if protocol.quoted == "iemocap":
        for method, lines in quoted(2).groupby("method", sort=False):
            values = dict(zip(lines["metric"].str.removeprefix("f1_"), lines["value"], strict=True))
            cells = [f"{values[name.lower()]:.1f}" if name.lower() in values else "" for name in classes]
            rows.append([f"quoted: {method}", *cells, "quoted"])
            data += [
                {"method": f"quoted: {method}", "class": row.metric.removeprefix("f1_"), "mean": row.value / 100}
                for row in lines.itertuples()
            ]
    columns = ["method", *(f"F1 {name} ↑" for name in classes), "seeds"]
    return Table("table2", "F1 by emotion, the mean over sessions", columns, rows, pd.DataFrame(data))
