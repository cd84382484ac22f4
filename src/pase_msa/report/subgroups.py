"""Metrics of subgroups as a table for a terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pase_msa.evaluation.subgroups import LEAST
from pase_msa.report.numbers import SHOWN, format_interval, format_value, metric_label


def render_subgroups(result: Mapping[str, Any], *, width: int = 120) -> str:
    """A row per group, with the 95 % interval of the headline metric, and the worst group below.

    Args:
        result: of `subgroup_metrics`.
        width: of the terminal.
    """
    main, groups = result["headline"], result["groups"]
    known = set(next(iter(groups.values()))["metrics"])
    kind = "regression" if "mae" in known else "classification"
    shown = [name for name in SHOWN[kind] if name in known]
    table = Table(box=ROUNDED)
    table.add_column(result["by"])
    headings = [metric_label(name) for name in shown]
    for heading in ("utterances", "videos", *headings, f"95 % of {metric_label(main)}"):
        table.add_column(heading, justify="right")
    for name, group in groups.items():
        metrics = group["metrics"]
        low, high = metrics[main]["low"], metrics[main]["high"]
        interval = "one video" if low is None else format_interval(main, low, high)
        values = [format_value(key, metrics[key]["value"]) for key in shown]
        table.add_row(Text(name), str(group["utterances"]), str(group["videos"]), *values, Text(interval))
    stream = io.StringIO()
    console = Console(file=stream, width=width, markup=False, emoji=False, highlight=False, color_system=None)
    console.print(table)
    if result["worst"] is None:
        console.print(f"No group has {LEAST} utterances, so none is called the worst.")
    else:
        console.print(
            f"worst by {metric_label(main)}, of groups with {LEAST} utterances or more: {result['worst']}",
            soft_wrap=True,
        )
    return stream.getvalue().rstrip() + "\n"
