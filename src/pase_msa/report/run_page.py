"""An evaluation as one HTML page that needs nothing beside it, and (from `tables`) as text for a terminal."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, PackageLoader, Template

from pase_msa.errors import PaSEError
from pase_msa.files import read_json, write_text
from pase_msa.metrics import headline
from pase_msa.report import style as figures
from pase_msa.report.modality_view import COLUMNS, contributions_plot, estimates, interval
from pase_msa.report.numbers import (
    SHOWN,
    finite,
    format_value,
    is_percent,
    metric_label,
)
from pase_msa.report.style import Points
from pase_msa.report.terminal import contribution_columns, result_task
from pase_msa.training.run_folder import RunFolder

Rows = Sequence[Mapping[str, Any]]
_MOST_BARS = 16


def write_report(result: Mapping[str, Any], path: Path, *, history: Rows | None = None) -> Path:
    """Write the page of an evaluation: figures are embedded, nothing is fetched, every text is escaped.

    Args:
        result: the evaluation. `task` and `metrics` are required; `subsets`, `contributions`, `calibration`,
            `equilibrium`, `phases`, `data` and `environment` are shown where they are given.
        path: the HTML file; its folder is made.
        history: rows of the training log with "epoch" and any of "train/loss", "val/NAME", "phi/NAME",
            "psi/NAME", "prediction_weight/NAME", "weight/NAME". Several rows per epoch are averaged, empty cells are
            skipped.

    Returns:
        The path.

    Errors: PaSEError for a result without a task or metrics.
    """
    task = result_task(result)
    main, better = headline(task)
    page = template("run_page.html")
    marks = {
        word: epoch
        for word, key in (("phase 2", "switched_at"), ("guard", "guarded_at"))
        if (epoch := finite((result.get("phases") or {}).get(key))) is not None
    }
    text = page.render(
        result=result,
        task=task,
        main=main,
        better="lower" if better == "min" else "higher",
        shown=SHOWN[task.kind],
        columns=contribution_columns(result.get("contributions") or {}, main),
        label=metric_label,
        number=format_value,
        is_percent=is_percent,
        evidence=COLUMNS,
        sides=Counter(whose for whose, _, _ in COLUMNS),
        estimates=estimates,
        interval=interval,
        environment=flat_settings(result.get("environment") or {}),
        figures=_results(result, main) | _learning(history or [], main, task.modalities, marks),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def report_run(run: str | Path) -> Path:
    """Write `report.html` in the folder of an evaluated run, unless it is there and no older than the evaluation.

    Returns:
        The path of the page.

    Errors:
        PaSEError: the run is not complete, or not evaluated yet.
    """
    folder = RunFolder.complete(run)
    if not folder.evaluation.is_file():
        raise PaSEError(f"{folder.path} is not evaluated yet; give `pase evaluate {folder.path}` first.")
    if folder.report.is_file() and folder.report.stat().st_mtime >= folder.evaluation.stat().st_mtime:
        return folder.report
    return write_report(read_json(folder.evaluation), folder.report, history=folder.history())


def template(name: str) -> Template:
    """A page of this package; every value in it is escaped."""
    loader = PackageLoader("pase_msa.report", "")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(name)


def _results(result: Mapping[str, Any], main: str) -> dict[str, list[dict[str, str]]]:
    """Pictures of the results, by the section of the page that shows them."""
    found: dict[str, list[dict[str, str]]] = {}
    axis = metric_label(main) + (" in %" if is_percent(main) else "")

    subsets = _column(result.get("subsets"), main)
    if len(subsets) > _MOST_BARS:
        # what each modality does alone, and what the loss of each one does
        most = max(name.count("+") for name in subsets)
        subsets = {n: v for n, v in subsets.items() if n.count("+") in (0, most - 1, most)}
    found["subsets"] = bars_picture(f"{metric_label(main)} by modalities given", axis, subsets, main)

    contributions = result.get("contributions")
    share, gain = _column(contributions, "share"), _column(contributions, "metric")
    found["contributions"] = bars_picture("Share of the score by modality", "share in %", share, "share")
    found["contributions"] += bars_picture(
        f"Improvement of {metric_label(main)} by modality", f"improvement of {axis}", gain, main
    )

    found["equilibrium"] = [
        _picture(
            f"{name}: {row['verdict']}",
            "; ".join(
                f"{whose}, {heading} {estimate.value:+.3f} ({interval(estimate)})"
                for (whose, _, heading), estimate in zip(COLUMNS, estimates(row), strict=True)
            ),
            partial(contributions_plot, row),
        )
        for name, row in (result.get("modality_report") or {"modalities": {}})["modalities"].items()
    ]

    if bins := (result.get("calibration") or {}).get("reliability"):
        filled = [row for row in bins if row.get("count")]
        alt = "; ".join(
            f"stated {row['confidence']:.2f}, actual {row['accuracy']:.2f} ({row['count']})" for row in filled
        )
        draw = partial(figures.reliability_plot, filled)
        found["calibration"] = [_picture("Actual against stated confidence", alt, draw)]
    return found


def _learning(
    history: Rows, main: str, modalities: Sequence[str], marks: Mapping[str, float]
) -> dict[str, list[dict[str, str]]]:
    """Pictures of the training log: one a quantity, a line a series."""
    keys = {key for row in history for key in row}
    groups = {
        f"Validation {metric_label(main)}": [f"val/{main}"],
        "Loss": ["train/loss", "val/nll"],
        "Predictive entropy on validation (nats)": ["val/entropy"],
    }
    captions = {
        "phi": "Learning-rate factor φ",
        "psi": "Shapley value ψ",
        "prediction_weight": "Part of the prediction that uses a modality (of the network's part), and the reference's",
        "weight": "Fusion weight",
    }
    bounded = {captions["phi"], captions["prediction_weight"]}
    for prefix, caption in captions.items():
        # in the order of the task, so that a modality keeps its colour from figure to figure
        names = dict.fromkeys([*modalities, "reference"] if prefix == "prediction_weight" else modalities)
        groups[caption] = [f"{prefix}/{name}" for name in names if f"{prefix}/{name}" in keys]
    epochs = [epoch for row in history if (epoch := finite(row.get("epoch"))) is not None]
    first, last = min(epochs, default=0.0), max(epochs, default=0.0)
    inside = {word: epoch for word, epoch in marks.items() if first <= epoch <= last}
    pictures = []
    for caption, members in groups.items():
        found = {key: points for key in members if (points := _series(history, key))}
        series = {key if caption == "Loss" else key.split("/", 1)[1]: points for key, points in found.items()}
        if series:
            alt = "; ".join(f"{k}: {p[0][1]:.3g} first, {p[-1][1]:.3g} last" for k, p in series.items())
            alt += "".join(f"; {word} at epoch {epoch:g}" for word, epoch in inside.items())
            draw = partial(figures.curves, series, inside, (first, last), shares=caption in bounded)
            pictures.append(_picture(caption, alt, draw))
    return {"learning": pictures}


def _series(history: Rows, key: str) -> Points:
    """(epoch, mean) of the cells that hold a number."""
    cells: dict[float, list[float]] = defaultdict(list)
    for row in history:
        epoch, value = finite(row.get("epoch")), finite(row.get(key))
        if epoch is not None and value is not None:
            cells[epoch].append(value)
    return [(epoch, fmean(values)) for epoch, values in sorted(cells.items())]


def _column(rows: Mapping[str, Mapping[str, Any]] | None, key: str) -> dict[str, float]:
    return {name: value for name, row in (rows or {}).items() if (value := finite(row.get(key))) is not None}


def bars_picture(caption: str, axis: str, values: Mapping[str, float], metric: str) -> list[dict[str, str]]:
    """Bars of a metric by name as a picture; none without values."""
    if not values:
        return []
    factor, decimals = (100, 1) if is_percent(metric) else (1, 3)
    scaled = {name: factor * value for name, value in values.items()}

    def text(value: float) -> str:
        return f"{value:.{decimals}f}"

    alt = "; ".join(f"{name} {text(value)}" for name, value in scaled.items())
    return [_picture(caption, alt, partial(figures.bars, scaled, axis, text))]


def _picture(caption: str, alt: str, draw: Callable[..., bytes]) -> dict[str, str]:
    """A figure for either colour scheme, as base64."""
    light, dark = (base64.b64encode(draw(dark=dark)).decode() for dark in (False, True))
    return {"caption": caption, "alt": f"{caption}. {alt}.", "light": light, "dark": dark}


def flat_settings(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one list of dotted names."""
    found: dict[str, str] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        found |= flat_settings(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return found
