"""Published figures, as quoted: they were printed elsewhere and not measured here."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from pase_msa.errors import PaSEError

COLUMNS = ("table", "dataset", "method", "metric", "value", "source")


def quoted(table: str | int | None = None, dataset: str | None = None) -> pd.DataFrame:
    """Figures of the tables of He et al., "PaSE", and who they were taken from.

    Args:
        table: "1" to "5", or "figure1" and "figure4" for what the text names; all if left out.
        dataset: "mosi", "mosei" or "iemocap"; all if left out.

    Returns:
        Columns table, dataset, method, metric, value and source, in the order of print. Accuracies and F1 are in
        percent as printed; MAE and Corr are as they are.

    Errors:
        PaSEError: no such table or data set.
    """
    with files("pase_msa.figures").joinpath("quoted.csv").open(encoding="utf-8") as stream:
        found = pd.read_csv(stream, dtype={"table": str})
    for column, wanted in (("table", table), ("dataset", dataset)):
        if wanted is None:
            continue
        known = list(dict.fromkeys(found[column]))
        if str(wanted) not in known:
            raise PaSEError(f"No figures are quoted for the {column} {str(wanted)!r}; there is {', '.join(known)}.")
        found = found[found[column] == str(wanted)]
    return found.reset_index(drop=True)
