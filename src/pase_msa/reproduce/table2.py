"""Table 2: emotions, one against the rest, leaving one recording session out at a time (IEMOCAP's five folds)."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from pase_msa.data.table import ARROW, FeatureTable, Utterance
from pase_msa.errors import PaSEError
from pase_msa.evaluation.statistics import estimate
from pase_msa.figures.quoted import quoted
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import comparison_grid, mean_sd, reading, score_grid
from pase_msa.reproduce.subject import Options, Subject

#: IEMOCAP names its videos "Ses01F_impro01": the session leads
_SESSION = re.compile(r"^(?:.*[^A-Za-z])?(ses(?:sion)?[_ -]?\d+)", re.IGNORECASE)
_LEAST = 3  # one to test, one to validate, one to train


def sessions(table: FeatureTable) -> list[str | None]:
    """The recording session that each utterance's video names, or None."""
    found = [_SESSION.match(str(video)) for video in table.videos]
    return [None if match is None else match[1].lower() for match in found]


def variants(subject: Subject) -> dict[str, Options]:
    """Single modalities, rival models, PaSE of either equilibrium.

    Errors:
        PaSEError: the labels are scores, or the videos name fewer than three sessions.
    """
    if subject.task.kind != "classification":
        raise PaSEError(
            f"Table 2 is about emotions, and the label {subject.task.label!r} of {subject.name} holds scores; name "
            "data with a column of classes."
        )
    found = {name for name in sessions(subject.table) if name is not None}
    if len(found) < _LEAST:
        raise PaSEError(
            f"Table 2 leaves one recording session out at a time and wants {_LEAST} or more, named in the video "
            f"column as 'Ses01F_impro01' is; {subject.name} has {len(found)}."
        )
    rivals = {name: methods.model(name) for name in methods.rivals()} if subject.text == "frozen" else {}
    ours = {name: methods.named(name) for name in (methods.PAPER, methods.PASE)}
    return {**methods.single_modalities(subject), **rivals, "concat": methods.model("concat"), **ours}


def datasets(subject: Subject, home: Path) -> list[str]:
    """A table a session: that one is the test split, the next one validation, all others training."""
    named = sessions(subject.table)
    order = sorted({name for name in named if name is not None})
    mark = subject.table.fingerprint()[:12]
    folders = []
    for place, tested in enumerate(order):
        folder = home / "sessions" / mark / f"{subject.name.replace('/', '-')}-without-{tested}"
        if not (folder / ARROW).is_file():
            role = {tested: "test", order[(place + 1) % len(order)]: "valid"}
            rows = (
                _moved(subject.table.utterance(row), role.get(name, "train"))
                for row, name in enumerate(named)
                if name is not None
            )
            FeatureTable.build(rows, subject.table.schema, path=folder, meta=subject.table.meta)
        folders.append(str(folder.resolve()))
    return folders


def _moved(utterance: Utterance, split: str) -> Utterance:
    utterance.split = split
    return utterance


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    order = found.variants
    ours = [name for name in (methods.PAPER, methods.PASE) if name in order]
    rivals = [name for name in order if name not in ours]
    grids = [_emotions(found, order), score_grid(found, "table2-overall", "Over all emotions", order)]
    for name, stem in zip(ours, ("table2-differences-paper", "table2-differences"), strict=False):
        if grid := comparison_grid(
            found, stem, f"{name} less its rivals, paired by session", name, rivals, rivals=rivals
        ):
            grids.append(grid)
    return Part(
        f"Table 2: emotions on {found.subject.name}",
        grids,
        notes=[
            *reading(found),
            "Leaving one session out: it is the test split, the next one selects epochs, all others train. The "
            "speakers of a session are in no other. Deviations are over seeds of the mean over sessions.",
            "F1 of an emotion against all others, weighted by support over both sides, as published for IEMOCAP.",
        ],
    )


def _emotions(found: Results, order: list[str]) -> Grid:
    """F1 by emotion: the mean over sessions of each seed, then over seeds."""
    subject = found.subject
    classes = list(subject.task.classes)
    rows, data = [], []
    for method in order:
        line = [method]
        for name in classes:
            column = f"{subject.split}/per_class/{name}/f1"
            values = found.rows(method).groupby("seed")[column].mean().dropna() if column in found.done else []
            line.append(mean_sd("f1", list(values)))
            if len(values):
                data.append({"method": method, "class": name, "metric": "f1", **vars(estimate(values))})
        rows.append([*line, str(found.rows(method)["seed"].nunique())])
    if subject.quoted == "iemocap":
        for method, lines in quoted(2).groupby("method", sort=False):
            known = dict(zip(lines["metric"].str.removeprefix("f1_"), lines["value"], strict=True))
            cells = [f"{known[name.lower()]:.1f}" if name.lower() in known else "" for name in classes]
            rows.append([f"quoted: {method}", *cells, "quoted"])
            data += [
                {"method": f"quoted: {method}", "class": row.metric.removeprefix("f1_"), "mean": row.value / 100}
                for row in lines.itertuples()
            ]
    columns = ["method", *(f"F1 {name} ↑" for name in classes), "seeds"]
    return Grid("table2", "F1 by emotion, the mean over sessions", columns, rows, pd.DataFrame(data))
