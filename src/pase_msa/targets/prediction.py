"""Predictions and evaluations of a run of several targets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from pase_msa.data.guard import TARGETS
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.metrics import Convention
from pase_msa.serve.predictor import Prediction, Predictor
from pase_msa.targets.names import target_folders


class TargetsPredictor:
    """The saved models of several targets, which predict the same feature tables.

    Args:
        run: folder of a run of several targets.
        device: torch device.
        modalities: to use; all if None.

    Attributes:
        targets: a predictor per target, by label. Each is a whole model of its own.

    Errors:
        PaSEError: the folder holds no run of several targets.
    """

    def __init__(self, run: str | Path, device: str = "cpu", modalities: Sequence[str] | None = None) -> None:
        folders = target_folders(run)
        if folders is None:
            raise PaSEError(f"{run} was to hold a run of several targets ({TARGETS}); give the --out of such a run.")
        self.targets = {label: Predictor(folder, device, modalities) for label, folder in folders.items()}

    def predict(self, data: FeatureTable | str | Path, *, split: str | None = None) -> Iterator[dict[str, Prediction]]:
        """The predictions of each row by label, in the order of the rows. Labels are not read.

        Args:
            data: a table, or its path.
            split: predict only this split; all rows if None.

        Errors:
            PaSEError: see `Predictor.predict`.
        """
        with torch.inference_mode():
            columns = [predictor.predict(data, split=split) for predictor in self.targets.values()]
        for row in zip(*columns, strict=True):
            yield dict(zip(self.targets, row, strict=True))


def write_target_predictions(rows: Iterator[dict[str, Prediction]], stream: TextIO, *, as_json: bool = False) -> int:
    """Write CSV with the columns of every target, or one JSON object per line; returns the number of rows."""
    count, writer = 0, None
    for row in rows:
        count += 1
        identity = next(iter(row.values())).id
        if as_json:
            parts = {label: {k: v for k, v in p.to_dict().items() if k != "id"} for label, p in row.items()}
            stream.write(json.dumps({"id": identity, "targets": parts}) + "\n")
            continue
        cells: dict[str, str] = {"id": identity}
        for label, prediction in row.items():
            cells[label] = prediction.label if prediction.label is not None else f"{prediction.score:.6g}"
            cells[f"{label}_confidence"] = f"{prediction.confidence:.6g}"
            for name, value in prediction.contributions.items():
                cells[f"{label}_contribution_{name}"] = f"{value:.6g}"
        if writer is None:
            writer = csv.DictWriter(stream, list(cells))
            writer.writeheader()
        writer.writerow(cells)
    return count


def evaluate_targets(
    run: str | Path, *, data: str | None = None, convention: Convention | None = None
) -> dict[str, dict[str, Any]]:
    """Evaluate each target of a run on the test split, as `evaluate` does; the results by label.

    Errors:
        PaSEError: see `evaluate`.
    """
    folders = target_folders(run)
    if folders is None:
        raise PaSEError(f"{run} was to hold a run of several targets ({TARGETS}); use `evaluate` for one.")
    return {label: evaluate(folder, data=data, convention=convention) for label, folder in folders.items()}


def target_lines(validation: dict[str, dict[str, Any]], weights: dict[str, dict[str, float]]) -> list[str]:
    """A line per target: its metrics, and the part of its prediction that uses each modality."""
    lines = []
    for label, metrics in validation.items():
        names = ("mae", "corr") if "mae" in metrics else ("wa", "ua", "f1_weighted")
        listed = ", ".join(f"{name} {metrics[name]:.3f}" for name in names)
        used = ", ".join(f"{name} {100 * value:.0f} %" for name, value in weights.get(label, {}).items())
        lines.append(f"{label}: {listed}" + (f"; used: {used}" if used else ""))
    return lines
