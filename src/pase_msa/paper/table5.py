"""Table 5: language models that are asked for the label, beside PaSE and the published results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.language_models.prediction import predict_split, summary
from pase_msa.paper import methods
from pase_msa.paper.layout import Section, Table
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.quoted import quoted
from pase_msa.paper.results import Results
from pase_msa.paper.scores import as_printed, heading
from pase_msa.report.numbers import format_value, mean_sd, metric_label, scale


def variants(protocol: Protocol) -> dict[str, Options]:
    """Both versions of PaSE."""
    return methods.both_versions()


def build(results: Results) -> Section:
    """One row per version of PaSE, language model that was asked, and published method.

    Errors:
        PaSEError: a language model was named, and its server or folder does not answer, or there is no text.
    """
    protocol = results.protocol
    metrics = [protocol.accuracy, protocol.tested[0]]
    rows, data = [], []
    for name in results.variants:
        values = {metric: results.values(name, metric) for metric in metrics}
        cells = [mean_sd(values[metric], metric) for metric in metrics]
        rows.append([name, *cells, "n/a", str(len(results.rows(name)))])
        data += [{"method": name, "metric": metric, "value": v} for metric in metrics for v in values[metric]]
    for name in protocol.language_models.get("names", []):
        result = _asked(protocol, name)
        title = f"{Path(name).name}, {_way(protocol)}"
        cells = [format_value(metric, result["metrics"][metric]) for metric in metrics]
        rows.append([title, *cells, f"{result['counts']['answered']} of {result['count']}", "n/a"])
        data += [{"method": title, "metric": m, "value": result["metrics"][m]} for m in metrics]
    if protocol.quoted is not None:
        printed = quoted(5)
        for row in printed[printed["dataset"] == protocol.quoted].itertuples():
            key = "accuracy" if row.metric == "wa" else row.metric
            cells = [as_printed(metric, row.value) if metric == key else "" for metric in metrics]
            rows.append([f"quoted: {row.method}", *cells, "", "quoted"])
            data.append({"method": f"quoted: {row.method}", "metric": key, "value": row.value / scale(key)})
    columns = ["method", *map(heading, metrics), "answered", "seeds"]
    return Section(
        f"Table 5: language models on {protocol.name}",
        [Table("table5", "PaSE and language models", columns, rows, pd.DataFrame(data))],
        notes=_notes(protocol),
    )


def _way(protocol: Protocol) -> str:
    """How the language models were asked, in the words of a row."""
    shots = protocol.language_models.get("shots", 0)
    words = "graded" if protocol.language_models.get("choices") else "asked"
    return f"{words}, {shots} examples" if shots else words


def _notes(protocol: Protocol) -> list[str]:
    if protocol.language_models.get("names"):
        first = (
            "Asked: one question per utterance, text only, temperature 0. An utterance without an answer counts as "
            "the mean or the most frequent class of the training split."
            if not protocol.language_models.get("choices")
            else "Graded: the likelihood of every answer, text only; a score is their expectation."
        )
    else:
        first = (
            "No language model was asked, since none was named: their rows are quoted. Name one with --language-model."
        )
    return [
        first,
        "Public language models may have seen these transcripts with their labels. "
        f"{metric_label(protocol.accuracy)} is what the paper prints.",
    ]


def _asked(protocol: Protocol, name: str) -> dict[str, Any]:
    """Summary of the answers of one language model."""
    options = protocol.language_models
    try:
        frame = predict_split(
            protocol.table,
            protocol.split,
            name,
            task=protocol.task,
            base_url=options.get("base_url"),
            key=options.get("key"),
            shots=options.get("shots", 0),
            choices=options.get("choices", False),
        )
    except PaSEError as error:
        raise PaSEError(f"{name} could not be asked: {error}") from error
    return summary(frame, protocol.task)
