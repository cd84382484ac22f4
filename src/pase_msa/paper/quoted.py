"""Published results, quoted: they were printed elsewhere and not measured here."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from pase_msa.errors import PaSEError


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
    with files("pase_msa.paper").joinpath("quoted.csv").open(encoding="utf-8") as stream:
        rows = pd.read_csv(stream, dtype={"table": str})
    for column, wanted in (("table", table), ("dataset", dataset)):
        if wanted is None:
            continue
        available = list(dict.fromkeys(rows[column]))
        if str(wanted) not in available:
            raise PaSEError(f"No figures are quoted for the {column} {str(wanted)!r}; there is {', '.join(available)}.")
        rows = rows[rows[column] == str(wanted)]
    return rows.reset_index(drop=True)
