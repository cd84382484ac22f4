"""An evaluation as plain-text tables, and how a metric is named and written wherever it is shown."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table

from pase_msa.errors import PaSEError
from pase_msa.metrics import headline
from pase_msa.task import Task

LABELS = {
    "acc2_nonneg": "Acc-2 (neg./non-neg.)",
    "acc2_negpos": "Acc-2 (neg./pos.)",
    "f1_nonneg": "F1 (neg./non-neg.)",
    "f1_negpos": "F1 (neg./pos.)",
    "acc7": "Acc-7",
    "acc5": "Acc-5",
    "mae": "MAE",
    "corr": "Corr",
    "accuracy": "Accuracy",
    "recall": "Recall",
    "support": "Utterances",
    "wa": "WA",
    "ua": "UA",
    "f1": "F1",
    "f1_weighted": "F1 (weighted)",
    "f1_macro": "F1 (macro)",
    "entropy": "Entropy (nats)",
}
SHOWN = {
    "regression": ("acc2_nonneg", "acc2_negpos", "f1_negpos", "acc7", "mae", "corr"),
    "classification": ("accuracy", "ua", "f1_weighted", "f1_macro"),
}
"""The columns of a table that compares, by kind of task."""

_PLAIN = ("mae", "corr", "entropy", "loss", "temperature", "aurc", "mean_absolute", "nats", "planted")
_COUNTS = ("support", "count")


def metric_label(name: str) -> str:
    """What a reader is shown for a metric's key."""
    return LABELS.get(name, name.replace("_", " "))


def is_percent(name: str) -> bool:
    """Whether the metric is a fraction, written in percent."""
    return name not in _PLAIN and name not in _COUNTS


def format_value(name: str, value: object, *, signed: bool = False) -> str:
    """A metric as it is written: percent with two decimals, or plain with three; "n/a" where there is none."""
    found = finite(value)
    if found is None:
        return "n/a"
    if name in _COUNTS:
        return f"{found:.0f}"
    sign = "+" if signed else ""
    return f"{100 * found:{sign}.2f}" if is_percent(name) else f"{found:{sign}.3f}"


def result_task(result: Mapping[str, Any]) -> Task:
    """The task of an evaluation, or a PaSEError where this is not one."""
    if not result.get("metrics") or not result.get("task"):
        raise PaSEError("A report needs an evaluation with 'task' and 'metrics'; run the evaluation first.")
    return Task.from_dict(result["task"])


def contribution_columns(contributions: Mapping[str, Mapping[str, Any]], main: str) -> list[tuple[str, str, str, bool]]:
    """Columns of the contributions that are known: key, kind of value, heading, whether signed."""
    known = {key for row in contributions.values() for key in row}
    columns = [
        ("share", "share", "Share, %", False),
        ("metric", main, f"Improvement of {metric_label(main)}", True),
        ("nats", "nats", "Gain of log-likelihood, nats", True),
        ("planted", "planted", "Planted (Bayes rule), nats", True),
    ]
    return [column for column in columns if column[0] in known]


def render_table(result: Mapping[str, Any], *, width: int = 100) -> str:
    """Tables of metrics, classes, subsets of modalities, contributions and verdicts, for a terminal.

    Accuracies, recall and F1 are in percent; MAE, Corr and entropy are as they are.

    Errors: PaSEError for a result without a task or metrics.
    """
    task = result_task(result)
    main, shown, metrics = headline(task)[0], SHOWN[task.kind], result["metrics"]
    title = f"{result.get('name') or 'Evaluation'}: {result.get('split') or 'test'} split"
    if (count := result.get("count")) is not None:
        title += f", {count} utterances"
    names = [name for name in metrics if name != "per_class"]
    rows = [[metric_label(name), format_value(name, metrics[name])] for name in names]
    tables = {title: _table(("", "value"), rows)}
    sections = (
        ("Classes, each against the rest", metrics.get("per_class"), ("f1", "accuracy", "recall", "support")),
        ("Subsets of modalities", result.get("subsets"), shown),
    )
    for heading, content, keys in sections:
        if content:
            rows = [[name, *(format_value(k, row.get(k)) for k in keys)] for name, row in content.items()]
            tables[heading] = _table(("", *map(metric_label, keys)), rows)
    if contributions := result.get("contributions"):
        columns = contribution_columns(contributions, main)
        rows = [
            [name, *(format_value(kind, row.get(key), signed=signed) for key, kind, _, signed in columns)]
            for name, row in contributions.items()
        ]
        tables["Contributions"] = _table(("", *(label for _, _, label, _ in columns)), rows)
    if found := result.get("modality_report"):
        rows = [
            [name, row["verdict"], format_value("share", row["prediction_weight"]), row["action"]]
            for name, row in found["modalities"].items()
        ]
        heading = "Modalities on new videos, by folds and validation"
        tables[heading] = _table(("", "verdict", "Used by, % of the prediction", "action"), rows, words=(1, 3))
    output = io.StringIO()
    console = Console(file=output, width=width, markup=False, emoji=False, highlight=False, color_system=None)
    if (result.get("data") or {}).get("synthetic"):
        console.print("Synthetic data: these numbers say nothing about real speech.\n")
    for heading, table in tables.items():
        console.print(heading)
        console.print(table)
        console.print()
    return output.getvalue().rstrip() + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()) -> Table:
    table = Table(box=ROUNDED)
    for k, column in enumerate(columns):
        table.add_column(column, justify="right" if k and k not in words else "left", no_wrap=k == 0)
    for row in rows:
        table.add_row(*row)
    return table


def finite(value: object) -> float | None:
    """A number from a log's cell, or None where it holds none (an empty cell, nan, a word)."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
