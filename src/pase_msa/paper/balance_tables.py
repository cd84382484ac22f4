"""Tables that Table 4 and `missing` have in common: losses that differ by modality, and indices of balance."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pase_msa.evaluation.statistics import estimate
from pase_msa.paper.equity import EQUITY, IMBALANCE
from pase_msa.paper.layout import Table
from pase_msa.paper.rates import HIGH, LOW, by_mean_rate
from pase_msa.paper.subset_methods import letters
from pase_msa.report.numbers import mean_sd, metric_label

#: how the imputation is called where modalities are lost
LOST = {"on": "lost, imputed", "off": "lost, not imputed", "none": "lost"}

NOTES = [
    f"Lost most often: with a probability of {HIGH:g}, where every other modality is lost with {LOW:g}. Beside it "
    "stands a probability for all modalities of the same mean. Since the last modality of an utterance is never lost, "
    "the share that is lost differs a little; it is in the CSV file of the figure.",
    "Contributions are Shapley values of the accuracy over what one checkpoint is given. They add up to its accuracy "
    "minus that of the best constant prediction.",
    "Equity: entropy of the shares of the contributions over its largest value; 100 where all contribute alike, 0 "
    "where one modality contributes everything. A modality that tells nothing should not contribute, so more is not "
    "better by itself.",
    "Gradient imbalance: deviation of the norms of the modalities' gradients over their mean, times the learning-rate "
    "factors, over its largest value, averaged over epochs; 0 where all learn alike.",
    "Both indices are ours. MissBench has an equity and a learning index of the same purpose, whose formulas we did "
    "not have, so that published values cannot be set beside these.",
]


def imbalanced_table(frame: pd.DataFrame, metric: str, stem: str) -> Table:
    """One row per method and setting; columns by what is lost most often, those of one mean rate beside each other.

    Args:
        frame: from `rates.measure_imbalanced`.
        metric: in the cells.
        stem: of the table.
    """
    values = frame[frame["metric"] == metric]
    cases = by_mean_rate(values)
    rows, data = [], []
    for (method, how), part in values.groupby(["method", "imputation"], sort=False):
        line = [str(method), LOST[str(how)]]
        for rate, often in cases:
            # draws of one seed are averaged first: the spread is over seeds
            by_seed = part[(part["rate"] == rate) & (part["often"] == often)].groupby("seed")["value"].mean()
            line.append(mean_sd(by_seed, metric))
            about = vars(estimate(by_seed))
            key = {"method": method, "imputation": how, "rate": rate, "often": often}
            data.append({**key, "metric": metric, **about})
        rows.append(line)
    columns = ["method", "how", *(f"{letters(often)} most" if often else f"all at {rate:g}" for rate, often in cases)]
    title = f"{metric_label(metric)} where some modalities are lost most often, beside a loss of all at the same mean"
    return Table(stem, title, columns, rows, pd.DataFrame(data))


def balance_table(frame: pd.DataFrame, metric: str, stem: str, *keys: str) -> Table:
    """One row per method and setting: contributions of the modalities and both indices.

    Args:
        frame: from `equity.measure`, with the columns `keys`.
        metric: of the contributions.
        stem: of the table.
        keys: columns that tell rows of one method apart.
    """
    modalities = [name for name in dict.fromkeys(frame["modality"]) if name]
    rows, data = [], []
    for group, part in frame.groupby(["method", *keys, "imputation"], sort=False):
        *names, how = group
        line, about = [*map(str, names), LOST[str(how)]], dict(zip(["method", *keys, "imputation"], group, strict=True))
        wanted = [(name, metric) for name in modalities] + [("", EQUITY), ("", IMBALANCE)]
        for name, key in wanted:
            of = part[(part["modality"] == name) & (part["metric"] == key)]["value"].dropna()
            line.append(mean_sd(of, metric, signed=bool(name)))
            data.append(_row(about, name, key, of))
        rows.append(line)
    columns = ["method", *keys, "how", *(f"{name}, points" for name in modalities), "equity", "gradient imbalance"]
    title = f"Contributions of the modalities to {metric_label(metric)}, and how balanced they are"
    return Table(stem, title, columns, rows, pd.DataFrame(data))


def _row(about: dict[str, Any], modality: str, metric: str, values: pd.Series) -> dict[str, Any]:
    known = vars(estimate(values)) if len(values) else {"count": 0}
    return {**about, "modality": modality, "metric": metric, **known}
