"""How a metric is named and written wherever it is shown: terminal, pages, ledger and tables of the paper.

One convention for all of them. A metric that is a fraction is written in percent with one decimal; MAE, Corr and other
metrics with a unit of their own are written as they are, with three decimals.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from pase_msa.evaluation.statistics import Estimate

LABELS = {
    "acc2_nonneg": "Acc-2 (neg./non-neg.)",
    "acc2_negpos": "Acc-2 (neg./pos.)",
    "f1_nonneg": "F1 (neg./non-neg.)",
    "f1_negpos": "F1 (neg./pos.)",
    "acc7": "Acc-7",
    "acc5": "Acc-5",
    "acc3": "Acc-3",
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

CONVENTION_NOTES = {
    "mult": "convention mult: zero counts as not positive",
    "sims": "convention sims: zero counts as negative",
    "pase": "convention pase: MAE and Corr without labels of zero",
}
"""What is said beside metrics of a convention other than the usual one."""

_PLAIN = ("mae", "corr", "entropy", "loss", "temperature", "aurc", "mean_absolute", "nats", "ground_truth")
_COUNTS = ("support", "count")


def metric_label(name: str) -> str:
    """What a reader is shown for a metric's key."""
    return LABELS.get(name, name.replace("_", " "))


def is_percent(name: str) -> bool:
    """Whether the metric is a fraction, written in percent."""
    return name not in _PLAIN and name not in _COUNTS


def scale(name: str) -> float:
    """What a metric is multiplied by to be written: 100 for a percentage, else 1."""
    return 100.0 if is_percent(name) else 1.0


def decimals(name: str) -> int:
    """Decimals of a metric as it is written: one of a percentage, none of a count, else three."""
    return 0 if name in _COUNTS else 1 if is_percent(name) else 3


def with_unit(name: str) -> str:
    """A metric's label with its unit, for the axis of a figure."""
    return metric_label(name) + (" (%)" if is_percent(name) else "")


def format_value(name: str, value: object, *, signed: bool = False) -> str:
    """A metric as it is written, without its unit; "n/a" for what is no finite number.

    Args:
        name: of the metric, which decides over unit and decimals.
        value: as it is measured: a fraction where the metric is written in percent.
        signed: with a plus before a positive value, for differences.
    """
    number = finite(value)
    if number is None:
        return "n/a"
    return f"{scale(name) * number:{'+' if signed else ''}.{decimals(name)}f}"


def format_interval(name: str, low: object, high: object, *, signed: bool = False) -> str:
    """Both ends of an interval of a metric: "[80.1, 82.3]"."""
    return f"[{format_value(name, low, signed=signed)}, {format_value(name, high, signed=signed)}]"


def mean_sd(
    values: Estimate | Iterable[object], name: str | None = None, *, digits: int = 3, signed: bool = False
) -> str:
    """Mean ± standard deviation (N - 1), the one place that writes it; a single value has no deviation.

    Args:
        values: an estimate, or the values themselves; what is no finite number is left out.
        name: of the metric, which decides over unit and decimals; if left out, the values are written as they are.
        digits: decimals where no metric is named.
        signed: with a plus before a positive mean, for differences.

    Returns:
        "81.2 ± 0.4", "0.747" of a single value, "n/a" of none.
    """
    if isinstance(values, Estimate):
        mean, sd, count = values.mean, values.sd, values.count
    else:
        numbers = [number for value in values if (number := finite(value)) is not None]
        if not numbers:
            return "n/a"
        mean, count = statistics.fmean(numbers), len(numbers)
        sd = statistics.stdev(numbers) if count > 1 else 0.0
    factor, places = (1.0, digits) if name is None else (scale(name), decimals(name))
    spread = f" ± {factor * sd:.{places}f}" if count > 1 else ""
    return f"{factor * mean:{'+' if signed else ''}.{places}f}{spread}"


def finite(value: object) -> float | None:
    """A number from a log's cell, or None where it holds none (an empty cell, nan, a word)."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
