"""An evaluation and a comparison as plain-text tables for a terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table

from pase_msa.errors import PaSEError
from pase_msa.evaluation.compare import LEVEL
from pase_msa.metrics import headline
from pase_msa.report.numbers import CONVENTION_NOTES, SHOWN, format_value, metric_label
from pase_msa.task import Task


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
        ("ground_truth", "ground_truth", "Ground truth (Bayes rule), nats", True),
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
    if note := CONVENTION_NOTES.get(result.get("convention", "")):
        title += f" ({note})"
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


def render_comparison(result: dict[str, Any]) -> str:
    """A comparison as a table for the terminal."""
    title = f"A: {', '.join(result['a'])}\nB: {', '.join(result['b'])}"
    table = Table(box=ROUNDED)
    table.add_column("metric")
    for heading in ("A", "B", "A - B", "95 % interval", "d", "p", "p (Holm)"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for name, entry in result["metrics"].items():
        low, high = (format_value(name, entry[side], signed=True) for side in ("low", "high"))
        table.add_row(
            metric_label(name),
            format_value(name, entry["a"]),
            format_value(name, entry["b"]),
            format_value(name, entry["difference"], signed=True),
            f"[{low}, {high}]".replace("[", "\\["),
            "" if entry["d"] is None else f"{entry['d']:+.2f}",
            f"{entry['p']:.4f}",
            f"{entry['p_holm']:.4f}",
            entry["verdict"],
        )
    # p-values of an exact test come in steps of this
    least = 2.0 ** (1 - result["videos"]) * len(result["metrics"])
    few = "\nso few videos that no difference could be shown, however large" if least > LEVEL else ""
    stream = io.StringIO()
    console = Console(file=stream, width=130, color_system=None)
    console.print(table)
    how = "exact permutation test" if result["exact"] else "permutation test"
    pairs = f", {len(result['pairs'])} pairs of runs by seed" if len(result["pairs"]) > 1 else ""
    return (
        f"{title}\n{stream.getvalue()}{result['utterances']} test utterances of {result['videos']} videos{pairs}; "
        f"bootstrap and {how} over videos, Holm over metrics{few}"
    )
