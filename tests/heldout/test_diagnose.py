"""Verdicts on data whose truth is known, what is never read, and how the result is shown."""

import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest

import pase_msa
from pase_msa.data import FeatureTable
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.errors import PaSEError
from pase_msa.heldout import diagnose as diagnosing
from pase_msa.heldout.diagnose import diagnose
from pase_msa.heldout.diagnosis import diagnose_features
from pase_msa.heldout.table import render_diagnosis
from pase_msa.report.diagnosis_picture import plot_diagnosis
from pase_msa.task import Task

TEXT = ModalitySpec(dim=6, noise=0.6, length=(1, 3))
SILENT = ModalitySpec(dim=6, strength=0.0, length=(1, 3))
BOTH = pytest.mark.parametrize("kind", ["regression", "classification"])


def spec(modalities, kind="regression", **changes):
    classes = 3 if kind == "classification" else 7
    sizes = {"train": 500, "valid": 250, "test": 20, "utterances_per_video": 5}
    return SyntheticSpec(modalities, kind=kind, classes=classes, **(sizes | changes))


def verdicts(modalities, *args, seeds=(0,), **changes):
    """Verdicts of each modality over some draws."""
    result = [diagnose(synthetic_table(spec(modalities, *args, seed=seed, **changes))) for seed in seeds]
    return {name: {diagnosis.modalities[name].verdict for diagnosis in result} for name in modalities}


@BOTH
def test_a_clear_deceiver_is_deceptive_and_a_true_modality_useful(kind):
    lie = dataclasses.replace(SILENT, deception=1.5)
    result = verdicts({"text": TEXT, "vision": lie}, kind, seeds=(0, 1, 2))
    assert result == {"text": {"useful"}, "vision": {"deceptive"}}


@BOTH
@pytest.mark.parametrize("louder", [1.0, 2.5])
def test_a_true_modality_is_not_excluded_where_validation_was_recorded_louder(kind, louder):
    rng = np.random.default_rng(3)
    signal, videos = rng.normal(size=750), np.arange(750) // 5
    labels = np.digitize(signal, [-0.5, 0.5]) if kind == "classification" else signal
    features = {
        name: signal[:, None] + noise * rng.normal(size=(750, 4)) for name, noise in (("text", 2), ("audio", 1))
    }
    features["audio"][500:] *= louder
    names = tuple(features)
    task = Task.regression(names, -3, 3) if kind == "regression" else Task.classification(names, ["a", "b", "c"])
    found = diagnose_features(task, features, labels.astype(float), videos, 500).modalities["audio"]
    assert found.verdict == ("useful" if louder == 1 else "undecided")
    assert ("too sure" in found.why) == (louder > 1)


@BOTH
@pytest.mark.parametrize("deception", [0.1, 0.3, 0.6])
def test_a_deceiver_is_never_useful(kind, deception):
    lie = dataclasses.replace(SILENT, deception=deception)
    assert "useful" not in verdicts({"text": TEXT, "vision": lie}, kind, seeds=(0, 1))["vision"]


@BOTH
def test_noise_is_not_useful(kind):
    result = verdicts({"text": TEXT, "vision": SILENT}, kind, seeds=(0, 1, 2))
    assert result["text"] == {"useful"}
    assert result["vision"] <= {"uninformative", "memorised", "undecided"}


@BOTH
def test_the_identity_of_a_video_is_not_useful(kind):
    identity = dataclasses.replace(SILENT, dim=40, identity=4.0)
    result = verdicts({"text": TEXT, "vision": identity}, kind, seeds=(0, 1), clumping=0.9, utterances_per_video=20)
    assert "identity" in result["vision"]
    assert result["vision"] <= {"identity", "undecided"}


@BOTH
def test_synergy_is_useful(kind):
    """Neither of the two predicts anything alone."""
    pair = {name: ModalitySpec(dim=3, noise=0.1, length=(1, 1)) for name in ("first", "second")}
    result = verdicts(pair, kind, synergy=("first", "second"))
    assert result == {"first": {"useful"}, "second": {"useful"}}


def test_a_deceiver_does_not_spoil_the_others():
    """What is said of the others is what would be said without it."""
    lie = dataclasses.replace(SILENT, deception=1.5)
    table = synthetic_table(spec({"text": TEXT, "audio": SILENT, "vision": lie}))
    result, without = diagnose(table), diagnose(table, modalities=["text", "audio"])
    assert result.excluded == ("vision",)
    assert result.modalities["vision"].prediction_weight == 0
    for name in ("text", "audio"):
        one, two = (d.modalities[name].evidence.valid.value for d in (result, without))
        assert one == pytest.approx(two, abs=0.02)


@BOTH
def test_one_modality(kind):
    result = diagnose(synthetic_table(spec({"text": TEXT}, kind)))
    assert result.modalities["text"].verdict == "useful"
    assert result.modalities["text"].prediction_weight == pytest.approx(1, abs=1e-6)
    total = (result.gains[-1] - result.gains[0]).mean()
    assert result.modalities["text"].evidence.grouped.value == pytest.approx(total)


@BOTH
@pytest.mark.parametrize(
    "sizes",
    [
        {"valid": 1},
        {"valid": 5},
        {"valid": 8},
        {"train": 30, "utterances_per_video": 30, "valid": 30},
        {"train": 5, "valid": 3, "utterances_per_video": 2},
    ],
    ids=["an utterance", "a video", "two videos", "a video each", "tiny"],
)
def test_where_there_is_too_little_it_is_undecided(kind, sizes):
    lie = dataclasses.replace(SILENT, deception=1.5)
    result = diagnose(synthetic_table(spec({"text": TEXT, "vision": lie}, kind, **sizes)))
    assert {row.verdict for row in result.modalities.values()} == {"undecided"}
    json.dumps(result.to_dict(), allow_nan=False)
    assert "undecided" in str(result)


@BOTH
def test_missing_modalities_and_values_that_are_not_numbers(kind):
    holes = {"text": dataclasses.replace(TEXT, missing=0.4), "vision": dataclasses.replace(TEXT, missing=0.4)}

    def broken(utterance):
        row = int(utterance.id.rsplit("-", 1)[-1]) if utterance.id.rsplit("-", 1)[-1].isdigit() else 0
        features = {name: None if value is None else value.copy() for name, value in utterance.features.items()}
        if features["text"] is not None and row % 7 == 0:
            features["text"][0, 0], features["text"][-1, 1] = np.inf, np.nan
        return dataclasses.replace(utterance, features=features)

    table = edited(synthetic_table(spec(holes, kind)), broken)
    assert table.nonfinite()["text"]
    assert {row.verdict for row in diagnose(table).modalities.values()} == {"useful"}


def edited(table, change):
    """The table with every utterance changed, in memory."""
    rows = (change(table.utterance(row)) for row in range(len(table)))
    return FeatureTable.build(rows, table.schema, meta=dict(table.meta))


def poisoned(utterance):
    if utterance.split != "test":
        return utterance
    features = {name: None if v is None else np.full_like(v, np.nan) for name, v in utterance.features.items()}
    labels = {name: "no such class" if isinstance(v, str) else 1e9 for name, v in utterance.labels.items()}
    return dataclasses.replace(utterance, features=features, labels=labels)


@pytest.mark.parametrize("table", ["score_table", "class_table"])
def test_the_test_split_is_never_read(table, request):
    clean = request.getfixturevalue(table)
    wanted = diagnose(clean)
    for other in (edited(clean, poisoned), clean.select(np.flatnonzero(clean.splits != "test"))):
        result = diagnose(other)
        assert result.to_dict() == wanted.to_dict()
        np.testing.assert_array_equal(result.coalition_weights, wanted.coalition_weights)


def test_validation_is_read(score_table):
    """Otherwise the test above would prove nothing."""

    def flip(utterance):
        if utterance.split != "valid":
            return utterance
        return dataclasses.replace(utterance, labels={"sentiment": -utterance.labels["sentiment"]})

    one, two = diagnose(score_table), diagnose(edited(score_table, flip))
    text, flipped = (d.modalities["text"].evidence for d in (one, two))
    assert flipped.valid.value < text.valid.value
    assert flipped.grouped == text.grouped


def test_the_same_seed_gives_the_same_diagnosis_and_another_one_nearly(score_table):
    one, again, other = (diagnose(score_table, seed=seed) for seed in (0, 0, 1))
    assert one.to_dict() == again.to_dict()
    assert one.to_dict() != other.to_dict()


def test_of_a_large_split_whole_videos_are_read(score_table, monkeypatch, caplog):
    whole = diagnose(score_table).counts["validation_utterances"]
    monkeypatch.setattr(diagnosing, "_MOST", most := whole - 1)
    with caplog.at_level("INFO", "pase_msa"):
        result = diagnose(score_table)
    assert 0 < result.counts["validation_utterances"] < whole
    read = result.counts["training_utterances"]
    assert most - 4 < read <= most
    assert f"reads {read} of 48" in caplog.text
    assert result.counts["training_videos"] * 4 == read


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modalities": ["smell"]}, "'smell'"),
        ({"label": "mood"}, "'mood'"),
        ({"seed": -1}, "seed"),
        ({"data": "nowhere"}, "nowhere"),
    ],
)
def test_mistakes_are_refused(options, words, score_table):
    with pytest.raises(PaSEError, match=words):
        diagnose(**{"data": score_table, **options})


@pytest.mark.parametrize(("lost", "words"), [("valid", "validation split"), ("train", "training split")])
def test_both_splits_are_needed(lost, words, score_table):
    with pytest.raises(PaSEError, match=words):
        diagnose(score_table.select(np.flatnonzero(score_table.splits != lost)))


def test_features_without_validation_rows_are_refused():
    task, rows = Task.regression(("a",), -3, 3), np.arange(6)
    with pytest.raises(PaSEError, match="6 and 0"):
        diagnose_features(task, {"a": np.ones((6, 1))}, rows.astype(float), rows, 6)


@pytest.fixture(scope="module")
def result():
    lie = dataclasses.replace(SILENT, deception=1.5)
    return diagnose(synthetic_table(spec({"text": TEXT, "audio": SILENT, "vision": lie})))


def test_the_package_exports_it(result):
    assert pase_msa.diagnose is diagnose
    assert result.modalities["vision"].verdict == "deceptive"


def test_the_dictionary_is_strict_json_and_complete(result):
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["unit"] == "nats per utterance"
    assert content["counts"] == {
        "training_utterances": 500,
        "training_videos": 100,
        "validation_utterances": 250,
        "validation_videos": 50,
    }
    vision = content["modalities"]["vision"]
    assert vision["verdict"] == "deceptive"
    assert set(vision["contributions"]) == {"sample", "random", "grouped", "valid", "suited"}
    valid = vision["contributions"]["valid"]
    assert valid["low"] < valid["value"] < valid["high"]
    assert valid["videos"] == 50


def test_the_table_has_one_line_per_modality_with_what_to_do(result):
    text = str(result)
    assert text == render_diagnosis(result)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    evidence = result.modalities["text"].evidence
    for estimate in (evidence.sample, evidence.random, evidence.grouped, evidence.valid):
        assert f"{estimate.value:+.3f}" in lines["text"]
    assert f"[{evidence.valid.low:+.3f}, {evidence.valid.high:+.3f}]" in lines["text"]
    assert lines["text"].endswith("use it")
    assert lines["vision"].endswith("exclude it")
    assert "500 utterances of 100 videos" in text
    assert "250 utterances of 50 videos" in text
    assert f"vision: deceptive, {result.modalities['vision'].why}." in text
    assert all(len(line) <= 118 for line in text.splitlines())


def test_the_table_fits_any_width_and_any_name(result):
    odd = dataclasses.replace(result, modalities={"[bold]声音" * 9: result.modalities["text"]})
    text = render_diagnosis(odd, width=110)
    assert "[bold]" in text
    assert "use it" in text


def test_advice_where_it_is_undecided():
    table = synthetic_table(spec({"text": dataclasses.replace(TEXT, noise=4.0)}, valid=20))
    result = diagnose(table).modalities["text"]
    assert result.verdict == "undecided"
    assert result.more_videos > 0
    text = " ".join(str(diagnose(table)).split())
    assert f"get {result.more_videos} more" in text


@pytest.mark.parametrize("dark", [False, True])
def test_the_picture_has_one_panel_per_modality_with_verdict_and_values(result, tmp_path, dark):
    figure = plot_diagnosis(result, tmp_path / "new" / "picture.svg", dark=dark)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["text: useful", *_titles(result)[1:]]
    evidence = result.modalities["text"].evidence
    written = {text.get_text() for text in panels[0].texts}
    assert {f"{getattr(evidence, s).value:+.3f}" for s in ("sample", "random", "grouped", "valid")} <= written
    root = ElementTree.parse(tmp_path / "new" / "picture.svg").getroot()
    assert root.tag.endswith("svg")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["picture.svg"]


def _titles(result):
    return [f"{name}: {row.verdict}" for name, row in result.modalities.items()]


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_a_panel_each_for_any_number(result, count, tmp_path):
    rows = list(result.modalities.values())
    many = dataclasses.replace(result, modalities={f"${i}": rows[i % 3] for i in range(count)})
    figure = plot_diagnosis(many, tmp_path / "picture.png")
    assert sum(axes.get_visible() for axes in figure.axes) == count
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_diagnosis_gives_the_same_file(result, tmp_path):
    for suffix in ("png", "svg"):
        for name in ("one", "two"):
            plot_diagnosis(result, tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_an_unknown_interval_is_drawn_open(tmp_path):
    result = diagnose(synthetic_table(spec({"text": TEXT}, train=60, valid=5)))
    figure = plot_diagnosis(result, tmp_path / "picture.png")
    low, high = figure.axes[0].get_ylim()
    estimates = result.modalities["text"].evidence
    assert low < min(0, estimates.valid.value)
    assert max(estimates.sample.value, 0) < high < 20


@pytest.mark.parametrize("name", ["picture.gif", "picture", "folder.png"])
def test_a_file_that_is_no_picture_is_refused(result, name, tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PaSEError):
        plot_diagnosis(result, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_nothing_half_written_is_left(result, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "picture.png").write_text("the old one")
    monkeypatch.setattr("pase_msa.files.os.replace", fails)
    with pytest.raises(PaSEError, match="the disk is full"):
        plot_diagnosis(result, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_text() == "the old one"
    assert len(list(tmp_path.iterdir())) == 1
