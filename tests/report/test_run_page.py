"""The page of an evaluation, its terminal tables, and how numbers are written."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from matplotlib.figure import Figure

import pase_msa
from pase_msa.errors import PaSEError
from pase_msa.evaluation.predictions import Predictions
from pase_msa.evaluation.statistics import estimate
from pase_msa.report.numbers import format_interval, format_value, mean_sd
from pase_msa.report.prediction_view import largest_errors
from pase_msa.report.run_page import report_run, write_report
from pase_msa.report.style import styled, tone
from pase_msa.report.terminal import render_table
from pase_msa.task import Task

HOSTILE = "<script>alert('x')</script> \"quoted\" $x_ [bold]{{ 1 }}"
MOSI = Task.regression(["text", "audio"], -3, 3)
EMOTIONS = Task.classification(["text", "audio"], ["happy", HOSTILE])
SCORES = {"acc2_nonneg": 0.8123, "acc2_negpos": 0.83, "f1_negpos": 0.82, "acc7": 0.4, "mae": 0.747, "corr": 0.792}
CLASSES = {"accuracy": 0.7, "wa": 0.7, "ua": 0.65, "f1_weighted": 0.7019, "f1_macro": math.nan}


class Page(HTMLParser):
    """Collects what a browser would fetch, the tags, the alternative texts and the visible text."""

    VOID: ClassVar[set[str]] = {"meta", "img", "source", "link", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.alts: list[str | None] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "srcset", "href", "action", "data")]
        if tag == "img":
            self.alts.append(dict(attrs).get("alt"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report_row(useful: bool, **changes):
    """A modality's row of the report: a useful modality, or one with a single validation video."""
    sure = {"value": 0.3, "error": 0.01, "low": 0.28, "high": 0.32, "videos": 9}
    open_ended = {"value": -0.2, "error": None, "low": None, "high": None, "videos": 1}
    held = sure if useful else open_ended
    return {
        "verdict": "useful" if useful else "undecided",
        "why": "so",
        "diagnosis": "useful",
        "more_videos": None,
        "prediction_weight": 1.0 if useful else 0.0,
        "network_weight": 0.6 if useful else 0.0,
        "reference_weight": 0.4 if useful else 0.0,
        "learning_rate": 1.0 if useful else 0.1,
        "action": "used by 100 % of the prediction" if useful else "used by no prediction",
        "reference": {"sample": sure, "random": sure, "grouped": sure, "valid": held},
        "network": {"train": sure, "valid": held},
        "behind": held,
        **changes,
    }


def result(task: Task, **changes):
    scores = SCORES if task.kind == "regression" else CLASSES
    rows = {name: {"f1": 0.7, "accuracy": 0.8, "recall": None, "support": 12} for name in task.classes}
    bins = [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "count": 9, "confidence": 0.8, "accuracy": 0.7},
    ]
    return {
        "name": "run 1",
        "task": task.to_dict(),
        "split": "test",
        "count": 9,
        "seed": 0,
        "model": "pase",
        "data": {"source": "bench", "fingerprint": "abc123", "synthetic": True, "note": "planted"},
        "convention": "mmsa",
        "metrics": scores if task.kind == "regression" else {**scores, "per_class": rows},
        "subsets": {"text": scores, "audio": scores, "text+audio": scores},
        "contributions": {
            "text": {"share": 0.7, "mean_absolute": 0.5, "metric": 0.2},
            "audio": {"share": 0.3, "mean_absolute": 0.2, "metric": -0.1},
        },
        "calibration": {
            "temperature": 1.3,
            "ece": 0.04,
            "ece_uncalibrated": 0.09,
            "reliability": bins,
            "aurc": 0.1,
        },
        "phases": {"switched_at": 2, "guarded_at": None},
        "modality_report": {
            "mode": "held_out",
            "reference_weight": 0.4,
            "coalition_weights": {"text": 1.0},
            "modalities": {name: report_row(name == "text") for name in task.modalities},
        },
        "environment": {"python": "3.11", "packages": {"torch": "2"}},
        **changes,
    }


HISTORY = [
    {"epoch": "0", "train/loss": "2.0", "val/mae": "", "phi/text": ""},
    {"epoch": "0", "train/loss": "", "val/mae": "1.2", "val/f1_weighted": "0.4", "val/entropy": "1.5"},
    {"epoch": "1", "val/mae": "1.1", "phi/text": "0.5", "phi/audio": "1.0", "weight/text": "nan"},
    {
        "epoch": "1",
        "prediction_weight/text": "0.9",
        "prediction_weight/audio": "0.2",
        "prediction_weight/reference": "0.4",
    },
]


@pytest.mark.parametrize("task", [MOSI, EMOTIONS], ids=lambda task: task.kind)
def test_the_page_is_whole_and_fetches_nothing(task, tmp_path):
    path = write_report(result(task), tmp_path / "deep" / "report.html", history=HISTORY)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open  # every tag is closed in order
    assert page.links
    assert all(link.startswith("data:image/png;base64,iVBOR") for link in page.links)
    assert not re.search(r"url\(|@import|https?://", text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert len(page.alts) >= 9
    trust = next(alt for alt in page.alts if alt.startswith("Part of the prediction"))
    assert "text: 0.9 first, 0.9 last; audio: 0.2 first, 0.2 last; reference: 0.4 first" in trust
    text = next(alt for alt in page.alts if alt.startswith("text: useful"))
    assert text.count("+0.300 (+0.280 to +0.320)") == 6
    assert all(page.alts)
    for words in (
        "Synthetic data",
        "the test split was read once",
        "switched on at the end of epoch 2",
        "packages.torch",
        "Modalities on new videos",
        "40.0 % of every prediction is made by the closed-form reference",
        "+0.280 to +0.320",
        "no interval",
        "used by no prediction",
        "other half of the validation videos",
    ):
        assert words in page.text


@pytest.mark.parametrize("field", ["name", "model", "note", "modality", "verdict", "environment"])
def test_hostile_text_stays_text(field, tmp_path):
    task, content = EMOTIONS, result(EMOTIONS)
    if field == "modality":
        task = Task.classification([HOSTILE, "audio"], EMOTIONS.classes)
        content = result(task, subsets={HOSTILE: CLASSES}, contributions={HOSTILE: {"share": 1.0}})
    elif field == "verdict":
        odd = report_row(False, verdict=HOSTILE, why=HOSTILE, action=HOSTILE)
        content["modality_report"]["modalities"] = {"text": odd}
    elif field == "note":
        content["data"]["note"] = HOSTILE
    else:
        content[field] = {HOSTILE: HOSTILE} if field == "environment" else HOSTILE
    history = [{"epoch": 0, f"phi/{HOSTILE}": 1.0}]
    text = write_report(content, tmp_path / "report.html", history=history).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text
    assert not {"script", "bold"} & set(page.tags)
    assert HOSTILE in page.text
    assert "[bold]" in render_table(content, width=200)


OPTIONAL = ("name", "split", "count", "seed", "model", "data", "convention", "subsets", "contributions")
OPTIONAL += ("calibration", "modality_report", "phases", "environment")


def drawn(draw, *, height, dark):
    """A picture that is drawn and not turned into pixels, which takes most of the time."""
    with styled(dark=dark) as (ink, colors):
        draw(Figure().subplots(), ink, colors)
    return b"png"


@pytest.mark.parametrize("missing", [*[(name,) for name in OPTIONAL], OPTIONAL], ids=lambda names: names[0][:12])
@pytest.mark.parametrize("as_none", [False, True], ids=["absent", "null"])
def test_optional_parts_may_be_missing(missing, as_none, tmp_path, monkeypatch):
    for module in ("charts", "modality_view"):
        monkeypatch.setattr(f"pase_msa.report.{module}.png", drawn)
    content = result(MOSI)
    for name in missing:
        content.pop(name)
        if as_none:
            content[name] = None
    page = Page(write_report(content, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "0.747" in page.text
    assert "None" not in page.text
    assert "0.747" in render_table(content)
    assert "None" not in render_table(content)


def test_rows_may_be_thin_and_a_run_may_have_had_one_epoch(tmp_path):
    content = result(MOSI, subsets={"text": {}}, contributions={"text": {}}, calibration={"ece": 0.1})
    content["metrics"] = {"mae": 0.747}
    text = write_report(content, tmp_path / "report.html", history=HISTORY[:1]).read_text(encoding="utf-8")
    assert "n/a" in Page(text).text
    assert "n/a" in render_table(content)


def test_what_is_not_a_test_result_says_so(tmp_path):
    content = result(MOSI, split="valid", phases={"switched_at": None, "guarded_at": None})
    content["data"]["synthetic"] = False
    page = Page(write_report(content, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "not a test result" in page.text
    assert "was read once" not in page.text
    assert "never switched on" in page.text
    assert "Synthetic data" not in page.text


def test_many_modalities_stay_readable(tmp_path):
    subsets = {"+".join(f"m{k}" for k in range(7) if bits >> k & 1): SCORES for bits in range(1, 128)}
    page = Page(write_report(result(MOSI, subsets=subsets), tmp_path / "r.html").read_text(encoding="utf-8"))
    figure = next(alt for alt in page.alts if alt and "by modalities given" in alt)
    assert figure.count(";") == 7 + 7  # each alone, each left out, all


def test_the_terminal_table_gives_percent_and_plain_numbers():
    text = render_table(result(MOSI))
    for words in (
        "81.2",
        "0.747",
        "0.792",
        "text+audio",
        "70.0",
        "-0.100",
        "Synthetic data",
        "undecided",
        "used by no prediction",
    ):
        assert words in text
    text = render_table(result(EMOTIONS))
    assert "70.2" in text
    assert "n/a" in text
    assert "+20.0" in text
    assert max(map(len, render_table(result(MOSI), width=72).splitlines())) <= 72


def test_values_that_are_not_numbers_are_written_as_such():
    assert format_value("mae", None) == format_value("acc7", math.nan) == format_value("corr", "") == "n/a"
    assert format_value("support", 12.0) == "12"


def test_something_else_than_an_evaluation_is_refused(tmp_path):
    with pytest.raises(PaSEError, match="evaluation"):
        write_report({"metrics": SCORES}, tmp_path / "report.html")
    with pytest.raises(PaSEError, match="evaluation"):
        render_table({"task": MOSI.to_dict()})


SCORED = Predictions(["a", "b", "c"], ["v", "v", "w"], *map(np.array, ([1.0, -2.0, 0.0], [1.5, 1.0, -0.25], np.eye(3))))
CLASSED = Predictions(
    ["a", "b", "c"], ["v", "v", "w"], np.array([0.0, 1.0, 1.0]), None, np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]])
)


def test_the_largest_errors_are_ids_and_numbers():
    scored = largest_errors(MOSI, SCORED, most=2)
    assert scored.rows == [["b", "-2.00", "1.00", "+3.00"], ["a", "1.00", "1.50", "+0.50"]]
    classes = largest_errors(EMOTIONS, CLASSED)
    assert [row[0] for row in classes.rows] == ["c", "b"], "correct predictions are no errors"
    assert [row[-1] for row in classes.rows] == ["20.0", "40.0"]
    assert all(len(row) == len(part.columns) for part in (scored, classes) for row in part.rows)


@pytest.mark.parametrize(("task", "predictions"), [(MOSI, SCORED), (EMOTIONS, CLASSED)], ids=["scores", "classes"])
def test_the_page_has_single_predictions(task, predictions, tmp_path):
    page = Page(write_report(result(task), tmp_path / "r.html", predictions=predictions).read_text(encoding="utf-8"))
    if task is MOSI:
        assert any(alt.startswith("Predicted against true scores") for alt in page.alts)
    else:
        alt = next(alt for alt in page.alts if alt.startswith("Utterances by true and predicted class"))
        assert "happy: 1 of 1 predicted as such" in alt
        assert "0 of 2 predicted as such" in alt
    assert "Largest errors" in page.text


def test_curves_that_never_change_are_a_sentence(tmp_path):
    constant = {"phi/text": 1.0, "phi/audio": 1.0, "psi/text": 0.25, "psi/audio": 0.5}
    history = [{"epoch": epoch, "val/mae": 1.0 - epoch / 9, **constant} for epoch in (0, 1)]
    page = Page(write_report(result(MOSI), tmp_path / "r.html", history=history).read_text(encoding="utf-8"))
    assert "Learning-rate factor φ: 1 in every epoch." in page.text
    assert "Shapley value ψ: 0.25 for text, 0.5 for audio in every epoch." in page.text
    assert not any(alt.startswith("Learning-rate factor") for alt in page.alts)
    assert any(alt.startswith("Validation MAE") for alt in page.alts)


def test_phases_are_explained_where_they_are_marked(tmp_path):
    content = result(MOSI, phases={"switched_at": 0, "guarded_at": 1})
    page = Page(write_report(content, tmp_path / "r.html", history=HISTORY).read_text(encoding="utf-8"))
    assert any("balancing on at epoch 0; balancing off at epoch 1" in alt for alt in page.alts)
    assert "“Balancing on” marks the epoch at whose end the warm-up was over." in page.text
    assert "“Balancing off”" in page.text
    assert "phase 2" not in page.text


def test_a_colour_is_of_one_modality_only():
    ink, colors = {"muted": "grey"}, ["blue", "red"]
    assert [tone(name, ["text", "audio"], ink, colors) for name in ("text", "audio", "text+audio", "loss")] == [
        "blue", "red", "grey", "grey"
    ]  # fmt: skip


def test_modalities_share_a_scale_or_say_that_they_do_not(tmp_path):
    def large(row):
        big = {"value": 30.0, "error": 1.0, "low": 28.0, "high": 32.0, "videos": 9}
        return {**row, "reference": dict.fromkeys(row["reference"], big)}

    content = result(MOSI)
    page = Page(write_report(content, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert not any("scale of its own" in alt for alt in page.alts)
    rows = content["modality_report"]["modalities"]
    rows["text"] = large(rows["text"])
    page = Page(write_report(content, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert sum("scale of its own" in alt for alt in page.alts) == 2


def test_a_wide_table_has_a_hint_for_small_screens(tmp_path):
    page = Page(write_report(result(MOSI), tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.text.count("scroll the table sideways") == 4
    assert 'role="region"' in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_folder_has_all_that_its_page_shows(evaluated, tmp_path):
    run = evaluated["PaSE"][0]
    page = Page(write_report(run, tmp_path / "r.html").read_text(encoding="utf-8"))
    for words in ("Largest errors", "Learning curves", "Modalities on new videos", "Balancing was"):
        assert words in page.text
    (run / "report.html").unlink(missing_ok=True)
    made = report_run(run)
    assert made == run / "report.html"
    before = made.stat().st_mtime_ns
    assert report_run(run).stat().st_mtime_ns == before, "a page that is no older than the evaluation is kept"


def test_a_page_wants_an_evaluation_and_a_place(evaluated, tmp_path):
    with pytest.raises(PaSEError, match="name an HTML file"):
        write_report(result(MOSI))
    with pytest.raises(PaSEError, match="holds no run"):
        write_report(tmp_path)


def test_mean_and_deviation_are_written_in_one_way():
    assert mean_sd([0.5, 0.6], "acc7") == "55.0 ± 7.1"
    assert mean_sd([0.9], "mae") == "0.900", "a single value has no deviation"
    assert mean_sd([math.nan], "mae") == mean_sd([]) == "n/a"
    assert mean_sd(estimate([0.5, 0.6]), "acc7") == "55.0 ± 7.1"
    assert mean_sd([0.01, 0.03], "acc7", signed=True) == "+2.0 ± 1.4"
    assert mean_sd([1.0, 2.0], digits=2) == "1.50 ± 0.71"
    assert format_interval("acc7", -0.01, 0.02, signed=True) == "[-1.0, +2.0]"


def test_one_function_writes_the_deviation():
    """Nothing else in the package formats mean ± sd."""
    source = Path(pase_msa.__file__).parent
    files = [file for file in source.rglob("*.py") if re.search(r"± \{", file.read_text(encoding="utf-8"))]
    assert [file.relative_to(source).as_posix() for file in files] == ["report/numbers.py"]
