"""The report says what is in a table and what is wrong with it."""

import json

import numpy as np
import pytest

from pase_msa.data import FeatureTable, Schema, Utterance
from pase_msa.data.inspect import inspect_table, render

RNG = np.random.default_rng(0)


def rows(count=30):
    for i in range(count):
        split = ("train", "train", "valid", "test")[i % 4]
        label = {"score": float(i % 5), "mood": "glad" if i % 3 else "sad"}
        features = {"audio": RNG.normal(size=(1 + i % 3, 2)), "face": RNG.normal(size=3)}
        yield Utterance(f"u{i}", f"{split}{i}", split, label, features, f"Said {i}")


def table(*more, keep=lambda row: True, **meta):
    made = [row for row in rows() if keep(row)] + list(more)
    return FeatureTable.build(made, Schema.of(made), meta=meta)


def messages(report, severity):
    return " ".join(item["message"] for item in report["problems"] if item["severity"] == severity)


def test_a_table_without_faults_has_its_numbers_and_no_problem():
    report = inspect_table(table(source="x", format="folder"))
    assert report["utterances"] == 30
    assert list(report["splits"]) == ["train", "valid", "test"]
    assert report["splits"]["train"] == {"utterances": 16, "videos": 16}
    audio = report["modalities"]["audio"]
    assert (audio["dim"], audio["present"]) == (2, 30)
    assert audio["presence"] == {"train": 1.0, "valid": 1.0, "test": 1.0}
    assert audio["length"] == {"min": 1, "median": 2.0, "max": 3}
    assert audio["nonfinite"] == {"values": 0, "frames": 0, "total": 120}
    assert audio["constant"] == {"count": 0, "dimensions": []}
    assert audio["duplicates"]["utterances"] == 0
    assert report["labels"]["score"]["range"] == [0.0, 4.0]
    assert report["labels"]["score"]["distinct"] == 5
    assert report["labels"]["mood"]["classes"] == {"glad": 20, "sad": 10}
    assert report["text"] == {
        "utterances": 30,
        "coverage": 1.0,
        "words": {"median": 2.0},
        "long": 0,
        "upper_case": False,
    }
    assert report["problems"] == []
    assert json.loads(json.dumps(report)) == report


def test_range_and_extremes_are_those_of_the_finite_values():
    values = np.zeros((1000, 2))
    values[:, 0] = np.arange(1000) % 2
    values[0, 1], values[1, 0] = -7.0, np.nan
    row = Utterance("long", "v", "train", {}, {"audio": values})
    made = FeatureTable.build([row], Schema.of([row]))
    audio = inspect_table(made)["modalities"]["audio"]
    assert audio["range"] == [-7.0, 1.0]
    assert audio["nonfinite"] == {"values": 1, "frames": 1, "total": 2000}
    assert audio["extreme"]["dimension"] == 1
    assert audio["extreme"]["value"] == -7.0
    assert audio["extreme"]["deviations"] == pytest.approx((7 - 0.007) / values[:, 1].std(), rel=1e-6)
    assert audio["extreme"]["dimensions"] == 1


@pytest.mark.parametrize(
    ("made", "severity", "words"),
    [
        (lambda: table(Utterance("x", "train0", "test")), "error", "1 videos are in more than one split (train0)"),
        (lambda: table(Utterance("x", "x", "dev")), "error", "here is 'dev'"),
        (lambda: table(keep=lambda row: row.split != "valid"), "warning", "no valid split"),
        (lambda: table(keep=lambda row: row.split != "train"), "warning", "no train split"),
        (lambda: table(keep=lambda row: row.split == "train"), "warning", "no test split"),
        (lambda: table(Utterance("x", "x", "")), "warning", "1 utterances are in no split"),
        (lambda: table(Utterance("x", "x", "train")), "warning", "score is unknown for 1 utterances (train 1)"),
        (lambda: table(Utterance("x", "x", "train")), "warning", "1 utterances have no text"),
        (
            lambda: table(Utterance("x", "x", "train", {}, {"audio": [[np.nan, 1], [np.inf, 2]]})),
            "warning",
            "2 of 124 values of audio are NaN or infinite, in 2 steps",
        ),
        (
            lambda: table(*(Utterance(f"x{s}", s, s, {}, {"face": [1, 2, 3]}) for s in ("train", "test"))),
            "warning",
            "2 utterances have the very same face as one in another split (xtrain, xtest)",
        ),
        (
            lambda: table(Utterance("x", "x", "test", {"mood": "angry"})),
            "warning",
            "mood has classes that the train split never shows: angry",
        ),
    ],
)
def test_each_problem_is_a_sentence(made, severity, words):
    assert words in messages(inspect_table(made()), severity)


def only(features, split="train", label=None, text=None, count=4):
    made = [
        Utterance(f"u{i}", f"v{i}", split, {"y": label or float(i)}, features(i), text and f"{text} {i}")
        for i in range(count)
    ]
    return FeatureTable.build(made, Schema({"audio": 2}, {"y": "real"}, bool(text)))


@pytest.mark.parametrize(
    ("made", "severity", "words"),
    [
        (lambda: only(lambda i: {}), "error", "audio is absent from every utterance"),
        (lambda: only(lambda i: {"audio": [1, 2]}), "error", "audio is the same everywhere"),
        (lambda: only(lambda i: {"audio": [i, 2]}), "warning", "1 of the 2 dimensions of audio never change"),
        (lambda: only(lambda i: {"audio": [np.nan, np.nan]}), "error", "audio holds no finite value"),
        (lambda: only(lambda i: {"audio": [i // 3, 2]}), "warning", "3 of 4 utterances share their audio"),
        (lambda: only(lambda i: {"audio": [i, i]}, label=1.0), "error", "y has the same value everywhere"),
        (lambda: only(lambda i: {"audio": [i, i]}, label=np.nan), "warning", "y is unknown everywhere"),
        (lambda: only(lambda i: {"audio": [i, i]}, split=""), "warning", "in no split"),
        (lambda: only(lambda i: {"audio": [i, i]}, text="HELLO"), "warning", "upper case"),
    ],
)
def test_each_fault_of_a_modality_is_a_sentence(made, severity, words):
    assert words in messages(inspect_table(made()), severity)


def test_a_modality_absent_from_train_and_one_of_unequal_presence_are_reported():
    lacks = table(Utterance("x", "x", "valid", {}, {"hands": [1.0, 2.0]}))
    assert "hands is absent from the whole train split" in messages(inspect_table(lacks), "error")
    made = [Utterance(row.id, row.video, row.split, row.labels, dict(row.features)) for row in rows()]
    for row in made:
        if row.split == "test":
            row.features["face"] = None
    thin = FeatureTable.build(made, Schema.of(made))
    assert "face is present in very different shares of the splits" in messages(inspect_table(thin), "warning")


def test_missing_labels_and_missing_modalities_are_reported():
    made = [Utterance("a", "a", "train"), Utterance("b", "b", "valid")]
    report = inspect_table(FeatureTable.build(made, Schema.of(made)))
    assert "neither a modality nor text" in messages(report, "error")
    assert "serves for prediction only" in messages(report, "warning")
    assert report["text"] is None
    assert report["problems"][0]["severity"] == "error"


def test_the_report_is_rendered_for_a_terminal():
    meta = {"source": "[x]", "format": "folder", "notes": ["A note [here]."], "synthetic": True}
    made = table(Utterance("x", "train0", "test"), **meta)
    text = render(inspect_table(made))
    for part in ("31 utterances", "(folder, [x])", "SYNTHETIC", "audio", "1 / 2 / 3", "96.8%", "glad 20, sad 10"):
        assert part in text
    assert "Note: A note [here]." in text
    assert "ERROR: 1 videos are in more than one split" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 110
    assert "Nothing wrong was found." in render(inspect_table(table()))


def one_column(values, splits, text=None):
    schema = Schema({"audio": values.shape[1]}, {"sentiment": "real"}, text=text is not None)
    rows = (
        Utterance(f"u{i}", f"v{i}", splits[i], {"sentiment": float(i % 5)}, {"audio": row}, text and text[i])
        for i, row in enumerate(values.astype(np.float32))
    )
    return inspect_table(FeatureTable.build(rows, schema))


def said(report):
    return " ".join(problem["message"] for problem in report["problems"])


def test_one_wild_value_among_few_utterances_is_found_with_its_utterance():
    values = np.random.default_rng(0).normal(size=(80, 2))
    values[7, 1] = 1e7
    report = one_column(values, ["train"] * 80)
    assert "the farthest is 1e+07 in dimension 1 (utterance u7)" in said(report)


def test_another_unit_in_a_split_is_found():
    values = np.random.default_rng(0).normal(size=(90, 2))
    values[60:, 1] *= 1000
    report = one_column(values, ["train"] * 60 + ["test"] * 30)
    assert "1 of the 2 dimensions of audio have another unit or offset in test" in said(report)


def test_splits_of_the_same_kind_are_said_nothing_about():
    values = np.random.default_rng(0).normal(size=(90, 2))
    assert "unit or offset" not in said(one_column(values, ["train"] * 60 + ["test"] * 30))


def test_transcripts_that_training_would_cut_off_are_counted():
    values = np.random.default_rng(0).normal(size=(4, 2))
    report = one_column(values, ["train"] * 4, ["word " * 200, "word", "Word " * 127, "word"])
    assert "2 of 4 transcripts (50%) are surely longer than 128 tokens" in said(report)
