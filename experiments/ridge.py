"""The floor: ridge regression on standardised, mean-pooled features, its penalty chosen on validation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from pase_msa.data import open_table
from pase_msa.encoders.text import TextConfig
from pase_msa.metrics import regression_metrics
from pase_msa.training.inputs import (
    choose_label,
    choose_modalities,
    describe_inputs,
    encode_labels,
    infer_task,
    load_columns,
    make_dataset,
)


def ridge_cell(data: str, modalities: Sequence[str] | None) -> dict[str, Any]:
    """Metrics of the ridge on validation and test; deterministic."""
    began = time.perf_counter()
    table = open_table(data)
    text = TextConfig()
    names = choose_modalities(table, modalities, text)
    task = infer_task(table, names, choose_label(table, None))
    columns = load_columns(table, describe_inputs(table, names, text))
    labels = encode_labels(table, task)
    blocks = {}
    for split in ("train", "valid", "test"):
        rows = make_dataset(table, columns, table.rows(split), labels).rows
        blocks[split] = (np.hstack([_pooled(column, rows) for column in columns.values()]), labels[rows])
    scaler = StandardScaler().fit(blocks["train"][0])
    scaled = {split: (np.clip(scaler.transform(x), -5, 5), y) for split, (x, y) in blocks.items()}

    def fitted(penalty: float) -> Ridge:
        return Ridge(penalty).fit(*scaled["train"])

    def error(model: Ridge) -> float:
        x, y = scaled["valid"]
        return float(np.abs(model.predict(x) - y).mean())

    best = min((fitted(10.0**power) for power in np.arange(-1, 5.5, 0.5)), key=error)
    metrics = {s: regression_metrics(best.predict(x), y, task) for s, (x, y) in scaled.items() if s != "train"}
    return {
        "test": metrics["test"],
        "valid": metrics["valid"],
        "seconds": round(time.perf_counter() - began, 2),
        "epochs": 0,
        "parameters": best.coef_.size + 1,
        "phases": {},
        "psi": {},
    }


def _pooled(column: Any, rows: Any) -> Any:
    found = [column[int(row)] for row in rows]
    empty = np.zeros(column.dim)
    return np.stack([empty if frames is None else np.nan_to_num(frames).mean(0) for frames in found])
