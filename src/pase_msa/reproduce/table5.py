"""Table 5: language models that are asked for the label, beside PaSE and the published figures."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.figures.panels import scale
from pase_msa.figures.quoted import quoted
from pase_msa.language_models.prediction import predict_split, summary
from pase_msa.report.numbers import is_percent, metric_label
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import heading, mean_sd, number
from pase_msa.reproduce.subject import Options, Subject


def variants(subject: Subject) -> dict[str, Options]:
    """PaSE of either equilibrium."""
    return {name: methods.named(name) for name in (methods.PAPER, methods.PASE)}


def build(found: Results) -> Part:
    """The plug-in's entry point.

    Errors:
        PaSEError: a language model was named, and its server or folder does not answer, or there is no text.
    """
    subject = found.subject
    metrics = [subject.accuracy, subject.tested[0]]
    rows, data = [], []
    for name in found.variants:
        rows.append([name, *(mean_sd(m, found.values(name, m)) for m in metrics), "n/a", str(len(found.rows(name)))])
        data += [{"method": name, "metric": m, "value": v} for m in metrics for v in found.values(name, m)]
    for name in subject.language_models.get("names", []):
        answer = _asked(subject, name)
        counts = answer["counts"]
        cells = [number(m, answer["metrics"][m]) for m in metrics]
        rows.append([f"{name}, asked", *cells, f"{counts['answered']} of {answer['count']}", "n/a"])
        data += [{"method": f"{name}, asked", "metric": m, "value": answer["metrics"][m]} for m in metrics]
    if subject.quoted is not None:
        printed = quoted(5)
        for row in printed[printed["dataset"] == subject.quoted].itertuples():
            key = "accuracy" if row.metric == "wa" else row.metric
            cells = [f"{row.value:.{2 if is_percent(m) else 3}f}" if m == key else "" for m in metrics]
            rows.append([f"quoted: {row.method}", *cells, "", "quoted"])
            data.append({"method": f"quoted: {row.method}", "metric": key, "value": row.value / scale(key)})
    columns = ["method", *map(heading, metrics), "answered", "seeds"]
    notes = []
    if subject.language_models.get("names"):
        notes.append(
            "Asked: one question an utterance, text only, temperature 0. An utterance without an answer counts as the "
            "mean or the most frequent class of the training split."
        )
    else:
        notes.append(
            "No language model was asked, since none was named: their rows are quoted. Name one with --language-model."
        )
    notes.append(
        "Public language models may have seen these transcripts with their labels. "
        f"{metric_label(subject.accuracy)} is what the paper prints."
    )
    return Part(
        f"Table 5: language models on {subject.name}",
        [Grid("table5", "PaSE and language models", columns, rows, pd.DataFrame(data))],
        notes=notes,
    )


def _asked(subject: Subject, name: str) -> dict[str, Any]:
    given = subject.language_models
    try:
        frame = predict_split(
            subject.table,
            subject.split,
            name,
            task=subject.task,
            base_url=given.get("base_url"),
            key=given.get("key"),
            shots=given.get("shots", 0),
        )
    except PaSEError as error:
        raise PaSEError(f"{name} could not be asked: {error}") from error
    return summary(frame, subject.task)
