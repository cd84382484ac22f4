"""`pase inspect`: the content of a feature table as a report, and the problems that the report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from io import StringIO
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pase_msa.data.checks import find_problems
from pase_msa.data.feature_statistics import modality_statistics, row_digests
from pase_msa.data.leaks import leak_report
from pase_msa.data.table import SPLITS, FeatureTable
from pase_msa.data.transcripts import LONGEST

Report = dict[str, Any]
_MANY = 20  # values that are not all different by chance


def inspect_table(table: FeatureTable) -> Report:
    """A report on a table: plain dicts, lists, numbers and text, fit for JSON.

    Returns:
        `utterances`, `videos`, `meta`, `splits` (counts), `modalities` (size, presence, lengths, non-finite
        values, constant dimensions, extreme values, duplicates), `labels`, `text`, `overlap` (videos in several
        splits), `leaks` (modalities that hold a label, utterances in two splits) and `problems`: one sentence per
        problem, with a severity. "error" is what training refuses or what makes its results meaningless; all else
        is a "warning".
    """
    digests = {name: row_digests(table.sequences(name)) for name in table.modalities}
    report: Report = {
        "utterances": len(table),
        "videos": len(set(table.videos)),
        "meta": table.meta,
        "splits": _splits(table),
        "modalities": {name: modality_statistics(table, name, own) for name, own in digests.items()},
        "labels": {name: _label(table, name) for name in table.schema.labels},
        "text": _text(table),
        "overlap": _overlap(table),
        "leaks": leak_report(table, digests),
    }
    report["problems"] = find_problems(report)
    return report


def _splits(table: FeatureTable) -> Report:
    places = table.splits.tolist()
    order = [*(name for name in SPLITS if name in places), *sorted(set(places) - set(SPLITS))]
    return {
        split: {
            "utterances": places.count(split),
            "videos": len({video for video, place in zip(table.videos, places, strict=True) if place == split}),
        }
        for split in order
    }


def _overlap(table: FeatureTable) -> list[str]:
    splits_of: dict[str, set[str]] = {}
    for video, split in zip(table.videos, table.splits.tolist(), strict=True):
        if split:
            splits_of.setdefault(video, set()).add(split)
    return sorted(video for video, splits in splits_of.items() if len(splits) > 1)


def _label(table: FeatureTable, name: str) -> Report:
    values, places = table.labels(name), table.splits.tolist()
    labelled = [value for value in values if value is not None]
    report: Report = {
        "like_ids": _like_ids(labelled),
        "kind": table.schema.labels[name],
        "known": len(labelled),
        "unknown": len(values) - len(labelled),
        "unknown_by_split": _count(place for place, value in zip(places, values, strict=True) if value is None),
        "distinct": len(set(labelled)),
    }
    if report["kind"] == "real":
        report["range"] = [min(labelled), max(labelled)] if labelled else None
        report["mean"] = float(np.mean(labelled)) if labelled else None
        return report
    report["classes"] = _count(labelled)
    report["by_split"] = {
        split: _count(
            value for place, value in zip(places, values, strict=True) if place == split and value is not None
        )
        for split in sorted(set(places))
    }
    return report


def _like_ids(values: list[Any]) -> bool:
    """Whether labels look like numbers or names of the rows: all different, and whole numbers or words."""
    if len(values) < _MANY or len(set(values)) < len(values):
        return False
    return all(isinstance(value, str) or float(value).is_integer() for value in values)


def _count(items: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(items).items()))


def _text(table: FeatureTable) -> Report | None:
    texts = table.texts
    if texts is None:
        return None
    filled = [text for text in texts if text and text.strip()]
    letters = [text for text in filled if text.upper() != text.lower()]
    return {
        "utterances": len(filled),
        "coverage": len(filled) / len(texts),
        "words": {"median": float(np.median([len(text.split()) for text in filled])) if filled else 0.0},
        "long": sum(len(text.split()) > LONGEST - 2 for text in filled),  # a word is one token or more
        "upper_case": bool(letters) and all(text == text.upper() for text in letters),
    }


def render(report: Report, width: int = 110) -> str:
    """The report of `inspect_table` as text for a terminal."""
    out = StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False)
    meta = report["meta"]
    origin = f" ({meta['format']}, {meta['source']})" if "format" in meta and "source" in meta else ""
    made = ", SYNTHETIC" if meta.get("synthetic") else ""
    console.print(f"{report['utterances']} utterances of {report['videos']} videos{origin}{made}", markup=False)
    splits = {name or "(none)": [part["utterances"], part["videos"]] for name, part in report["splits"].items()}
    _grid(console, ["split", "utterances", "videos"], splits)
    rows = {
        name: [
            part["dim"],
            f"{part['present'] / report['utterances']:.1%}",
            "{min} / {median:g} / {max}".format(**part["length"]),
            "-" if part["range"] is None else "{:.4g} ... {:.4g}".format(*part["range"]),
            part["nonfinite"]["values"],
            part["constant"]["count"],
            part["duplicates"]["utterances"],
        ]
        for name, part in report["modalities"].items()
    }
    _grid(
        console,
        ["modality", "size", "present", "steps min/median/max", "range", "NaN/inf", "constant", "same"],
        rows,
    )
    _grid(
        console,
        ["label", "kind", "known", "unknown", "values"],
        {n: _label_cells(p) for n, p in report["labels"].items()},
    )
    if report["text"]:
        case = ", all upper case" if report["text"]["upper_case"] else ""
        words = f"{report['text']['words']['median']:g} words in the median"
        console.print(f"Text: {report['text']['coverage']:.1%} of the utterances, {words}{case}")
    _grid(console, ["taken for", "parts"], {role: [", ".join(parts)] for role, parts in _roles(meta).items()})
    for note in meta.get("notes", ()):
        console.print(f"Note: {note}", markup=False)
    for problem in report["problems"]:
        console.print(f"{problem['severity'].upper()}: {problem['message']}", markup=False)
    if not report["problems"]:
        console.print("Nothing wrong was found.")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _roles(meta: Report) -> dict[str, list[str]]:
    """What the reader took for what, by role; empty for data that no reader read."""
    roles = meta.get("roles")
    return roles if isinstance(roles, dict) else {}


def _label_cells(label: Report) -> list[Any]:
    if label["kind"] == "real":
        values = "-" if label["range"] is None else "{:g} ... {:g}".format(*label["range"])
    else:
        values = ", ".join(f"{name} {count}" for name, count in label["classes"].items())
    return [label["kind"], label["known"], label["unknown"], values]


def _grid(console: Console, header: list[str], rows: dict[str, list[Any]]) -> None:
    if not rows:
        return
    grid = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(header):
        grid.add_column(title, justify="right" if i and title != "parts" else "left", overflow="fold")
    for name, cells in rows.items():
        grid.add_row(*(Text(str(cell)) for cell in (name, *cells)))
    console.print(grid)
