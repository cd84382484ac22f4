"""The baseline "ridge" of studies: ridge regression on standardised, mean-pooled features of all modalities at once.

Its penalty is chosen on validation. It has no part in any PaSE model; the closed-form reference of those is
`pase_msa.heldout.reference.RidgeReference`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.context import ContextMode
from pase_msa.data.opening import open_data
from pase_msa.data.problem import Problem, ProblemOptions, prediction_dataset
from pase_msa.data.scaling import scale_of
from pase_msa.errors import PaSEError
from pase_msa.metrics import regression_metrics

RIDGE = "ridge"
"""The name in `model: {name: ridge}` of a study's variant."""
PENALTIES = 10.0 ** np.arange(-1, 5.5, 0.5)


def solve_ridge(
    data: str | None,
    modalities: Sequence[str] | None = None,
    *,
    label: str | None = None,
    context: ContextMode = "none",
    context_of: Sequence[str] | None = None,
    test: bool = True,
) -> dict[str, Any]:
    """Metrics of the ridge baseline. It has no seed: the result is a function of data and modalities.

    Args:
        data: folder or file; None is the synthetic benchmark.
        modalities: names of those to use; None is all.
        label: label column; found if left out.
        context: as in `RunConfig`.
        context_of: as in `RunConfig`.
        test: whether to evaluate on the test split.

    Returns:
        The keys of `train_and_evaluate`: metrics "test" (None without `test`) and "valid", "seconds", "epochs" (0) and
        "parameters".

    Errors:
        PaSEError: the label holds classes.
    """
    began = time.perf_counter()
    table = open_data(data)
    problem = Problem.from_table(
        table, ProblemOptions(label, modalities=modalities, context=context, context_of=context_of)
    )
    task = problem.task
    if task.kind != "regression":
        raise PaSEError("The baseline 'ridge' predicts scores, and these labels are classes; leave it out with --only.")
    datasets = {"train": problem.train, "valid": problem.valid}
    if test:
        datasets["test"] = prediction_dataset(table, task, problem.inputs, "test", labels=True)
    blocks = {}
    for split, dataset in datasets.items():
        assert dataset.labels is not None
        pooled = [_pooled(column, dataset.rows) for column in dataset.columns.values()]
        blocks[split] = (np.hstack(pooled), dataset.labels[dataset.rows])
    scale = scale_of(blocks["train"][0])
    scaled = {split: (np.clip((x - scale.mean) * scale.inverse, -5, 5), y) for split, (x, y) in blocks.items()}

    def error(model: Ridge) -> float:
        x, y = scaled["valid"]
        return float(np.abs(model.predict(x) - y).mean())

    best = min((Ridge(penalty).fit(*scaled["train"]) for penalty in PENALTIES), key=error)
    metrics = {s: regression_metrics(best.predict(x), y, task) for s, (x, y) in scaled.items() if s != "train"}
    return {
        "test": metrics.get("test"),
        "valid": metrics["valid"],
        "seconds": round(time.perf_counter() - began, 2),
        "epochs": 0,
        "parameters": best.coef_.size + 1,
        "phases": {},
        "psi": {},
    }


def _pooled(column: SequenceColumn, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Means over time, [N, D]; zeros where the modality is absent."""
    sequences = [column[int(row)] for row in rows]
    empty = np.zeros(column.dim)
    return np.stack([empty if frames is None else np.nan_to_num(frames).mean(0) for frames in sequences])
