"""Published results, quoted: they were printed elsewhere and not measured here."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.report.numbers import metric_label

#: stands behind a quoted value that is doubtful
DOUBT = "†"


def quoted(table: str | int | None = None, dataset: str | None = None) -> pd.DataFrame:
    """Results printed in He et al., "PaSE", each with the source that the paper took it from.

    Args:
        table: "1" to "5", or "figure1" and "figure4" for the numbers in the text; all if left out.
        dataset: "mosi", "mosei" or "iemocap"; all if left out.

    Returns:
        Columns table, dataset, method, metric, value and source, in the order of print. Accuracies and F1 are in
        percent as printed; MAE and Corr are as they are.

    Errors:
        PaSEError: no such table or data set.
    """
    rows = _read("quoted.csv")
    for column, wanted in (("table", table), ("dataset", dataset)):
        if wanted is None:
            continue
        available = list(dict.fromkeys(rows[column]))
        if str(wanted) not in available:
            raise PaSEError(f"No figures are quoted for the {column} {str(wanted)!r}; there is {', '.join(available)}.")
        rows = rows[rows[column] == str(wanted)]
    return rows.reset_index(drop=True)


def doubts(table: str | int, dataset: str | None) -> pd.DataFrame:
    """Quoted values that cannot be what their source says, or hardly. `quoted` has them as they are printed.

    Args:
        table: as in `quoted`.
        dataset: as in `quoted`; None has none.

    Returns:
        Columns table, dataset, method, metric, doubt (what the values probably are, such as "exchanged") and evidence;
        one row per value, none where nothing is in doubt.
    """
    rows = _read("quoted_doubts.csv")
    rows = rows[(rows["table"] == str(table)) & (rows["dataset"] == dataset)]
    return rows.assign(metric=rows["metrics"].str.split()).explode("metric").drop(columns="metrics")


def doubt_notes(table: str | int, dataset: str | None) -> list[str]:
    """A sentence per published method some of whose values are doubtful."""
    notes = []
    for method, rows in doubts(table, dataset).groupby("method", sort=False):
        values = " and ".join(map(metric_label, rows["metric"]))
        first = rows.iloc[0]
        notes.append(
            f"Quoted as printed but doubtful ({DOUBT}): {values} of {method} are {first['doubt']}; {first['evidence']}."
        )
    return notes


def _read(name: str) -> pd.DataFrame:
    with files("pase_msa.paper").joinpath(name).open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype={"table": str})
