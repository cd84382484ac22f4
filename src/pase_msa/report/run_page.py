"""The evaluation of a run as one HTML page that needs no other file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError
from pase_msa.evaluation.predictions import Predictions, read_utterances
from pase_msa.metrics import headline
from pase_msa.report import charts
from pase_msa.report.learning_view import Rows, learning_pictures, phase_marks
from pase_msa.report.modality_view import COLUMNS, estimates, interval, modality_pictures
from pase_msa.report.numbers import SHOWN, finite, metric_label, with_unit
from pase_msa.report.page import Picture, bars_picture, flat_settings, picture, write_html
from pase_msa.report.prediction_view import largest_errors, prediction_pictures
from pase_msa.report.terminal import contribution_columns, result_task
from pase_msa.task import Task
from pase_msa.training.run_folder import RunFolder

_MOST_BARS = 16


def report_run(run: str | Path) -> Path:
    """Write `report.html` in the folder of an evaluated run, unless it is there and no older than the evaluation.

    Returns:
        The path of the page.

    Errors:
        PaSEError: the run is not complete, or not evaluated yet.
    """
    folder = _evaluated(run)
    if folder.report.is_file() and folder.report.stat().st_mtime >= folder.evaluation.stat().st_mtime:
        return folder.report
    return write_report(run)


def write_report(
    source: str | Path | Mapping[str, Any],
    path: str | Path | None = None,
    *,
    history: Rows | None = None,
    predictions: Predictions | None = None,
) -> Path:
    """Write the page of an evaluation: figures are embedded, nothing is fetched, every text is escaped.

    Args:
        source: an evaluated run folder, or an evaluation. `task` and `metrics` are required; `subsets`,
            `contributions`, `calibration`, `modality_report`, `phases`, `data` and `environment` are on the page where
            they are given.
        path: the HTML file, whose folder is made; `report.html` in the run folder if left out.
        history: rows of the training log with "epoch" and any of "train/loss", "val/NAME", "phi/NAME", "psi/NAME",
            "prediction_weight/NAME", "weight/NAME"; those of the run folder if left out. Several rows per epoch are
            averaged, empty cells are skipped.
        predictions: of the test utterances; those of the run folder if left out.

    Returns:
        The path.

    Errors:
        PaSEError: a run that is not evaluated, an evaluation without a task or metrics, or one without a path; or the
            file cannot be written.
    """
    if isinstance(source, Mapping):
        result = source
        if path is None:
            raise PaSEError("The page of an evaluation wants a path to be written to; name an HTML file.")
    else:
        folder = _evaluated(source)
        result, path = folder.read_evaluation(), path or folder.report
        history = folder.history() if history is None else history
        if predictions is None and folder.predictions.is_file():
            predictions = read_utterances(folder.predictions, result_task(result))
    task = result_task(result)
    main, better = headline(task)
    marks = phase_marks(result.get("phases"))
    learning, constant = learning_pictures(history or [], main, task.modalities, marks)
    content = {
        "result": result,
        "task": task,
        "main": main,
        "better": "lower" if better == "min" else "higher",
        "shown": SHOWN[task.kind],
        "columns": contribution_columns(result.get("contributions") or {}, main),
        "evidence": COLUMNS,
        "sides": Counter(side for side, _, _ in COLUMNS),
        "estimates": estimates,
        "interval": interval,
        "marks": marks,
        "constant": constant,
        "errors": None if predictions is None else largest_errors(task, predictions),
        "environment": flat_settings(result.get("environment") or {}),
        "pictures": {
            "predictions": [] if predictions is None else prediction_pictures(task, predictions),
            "learning": learning,
            "modalities": modality_pictures(result.get("modality_report"), task.modalities),
            **_pictures(result, task, main),
        },
    }
    return write_html("run_page.html", Path(path), content)


def _evaluated(run: str | Path) -> RunFolder:
    folder = RunFolder.complete(run)
    if not folder.evaluation.is_file():
        raise PaSEError(f"{folder.path} is not evaluated yet; give `pase evaluate {folder.path}` first.")
    return folder


def _pictures(result: Mapping[str, Any], task: Task, main: str) -> dict[str, list[Picture]]:
    """Bars and the reliability diagram, by the section of the page."""
    subsets = _column(result.get("subsets"), main)
    if len(subsets) > _MOST_BARS:
        # each modality alone, each one left out, and all
        most = max(name.count("+") for name in subsets)
        subsets = {n: v for n, v in subsets.items() if n.count("+") in (0, most - 1, most)}
    share, gain = (_column(result.get("contributions"), key) for key in ("share", "metric"))
    label, axis, names = metric_label(main), with_unit(main), task.modalities
    pictures = {
        "subsets": bars_picture(f"{label} by modalities given", axis, subsets, main, modalities=names),
        "contributions": [
            *bars_picture("Share of the score by modality", "share (%)", share, "share", modalities=names),
            *bars_picture(
                f"Improvement of {label} by modality", f"improvement of {axis}", gain, main, modalities=names
            ),
        ],
    }
    if bins := (result.get("calibration") or {}).get("reliability"):
        filled = [row for row in bins if row.get("count")]
        alt = "; ".join(
            f"stated {row['confidence']:.2f}, actual {row['accuracy']:.2f} ({row['count']})" for row in filled
        )
        draw = partial(charts.reliability_plot, filled)
        pictures["calibration"] = [picture("Actual against stated confidence", alt, draw)]
    return pictures


def _column(rows: Mapping[str, Mapping[str, Any]] | None, key: str) -> dict[str, float]:
    return {name: value for name, row in (rows or {}).items() if (value := finite(row.get(key))) is not None}
