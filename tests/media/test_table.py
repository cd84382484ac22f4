"""Many clips: table and report, resumption, broken clips, and the record in models."""

import csv
import importlib.util
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from pase_msa import PaSEError
from pase_msa.cli import main as cli
from pase_msa.data import open_table
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.locks import locked
from pase_msa.media.config import ExtractConfig
from pase_msa.media.decode import RATE
from pase_msa.media.example_clip import write_clip
from pase_msa.media.table import extract_table
from pase_msa.models.base import Model
from pase_msa.serve.predictor import Predictor

TOY = "tests.media.toy:Plugin"


def loudness(**options):
    return ExtractConfig(["loudness"], {"loudness": {"extractor": TOY, **options}}, align="window")


def tones(folder, count):
    folder.mkdir(exist_ok=True)
    for i in range(count):
        tone = 1000 * (i + 1) * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
        write_clip(folder / f"tone{i}.wav", sound=tone.astype(np.int16), rate=RATE)
    return folder


def report(folder):
    with (folder / "report.csv").open(newline="") as stream:
        return {row["id"]: row for row in csv.DictReader(stream)}


def finished(folder):
    return {file.name: file.stat().st_mtime_ns for file in (folder / "parts").glob("*.safetensors")}


def test_a_folder_becomes_a_table(media, extractor, tmp_path, clip):
    (media / "said.txt").write_text("Only a text.")
    table, _ = extract_table(media, tmp_path / "out", jobs=1)
    (media / "said.txt").unlink()
    assert table.ids == ["said", "sound", "video"]
    assert table.meta["extraction"] == {**extractor.record, "languages": {"en": 3}}
    assert table.texts[0] == "Only a text."
    present = {name: table.sequences(name).present.tolist() for name in table.modalities}
    assert present == {"text": [True] * 3, "audio": [False, True, True], "vision": [False, False, True]}
    for name, values in clip.features.items():
        np.testing.assert_array_equal(table.sequences(name)[2], values)
    assert open_table(tmp_path / "out").fingerprint() == table.fingerprint()


def test_labels_and_splits_come_from_the_manifest(tmp_path):
    tones(tmp_path, 2)
    manifest = tmp_path / "clips.csv"
    manifest.write_text("path,video,split,sentiment\ntone0.wav,v,train,1\ntone1.wav,w,test,-1\n")
    table, _ = extract_table(manifest, tmp_path / "out", loudness(), jobs=1)
    assert table.labels("sentiment") == [1.0, -1.0]
    assert table.splits.tolist() == ["train", "test"]
    before = finished(tmp_path / "out")
    manifest.write_text("path,video,split,sentiment\ntone0.wav,v,train,3\ntone1.wav,w,test,-1\n")
    table, _ = extract_table(manifest, tmp_path / "out", loudness(), jobs=1)
    assert table.labels("sentiment") == [3.0, -1.0]
    assert finished(tmp_path / "out") == before  # labels are no reason to extract again


def test_segments_of_a_timeline_become_utterances_with_speakers(tmp_path):
    pytest.importorskip("webvtt", reason="the extra `media` is not installed")
    tones(tmp_path, 1)
    (tmp_path / "clips.csv").write_text("path,timeline\ntone0.wav,said.srt\n")
    (tmp_path / "said.srt").write_text(
        "1\n00:00:00,000 --> 00:00:00,400\n[Ann]: So it is.\n\n2\n00:00:00,500 --> 00:00:01,000\nNo.\n"
    )
    table, _ = extract_table(tmp_path / "clips.csv", tmp_path / "out", loudness(), jobs=1)
    assert (table.ids, set(table.videos)) == (["tone0_0001", "tone0_0002"], {"tone0"})
    assert (table.speakers, table.texts) == (["Ann", None], ["So it is.", "No."])


def test_broken_clips_are_reported_and_left_out(tmp_path):
    clips = tones(tmp_path / "clips", 2)
    (clips / "empty.mp4").touch()
    (clips / "junk.mp4").write_bytes(b"junk" * 100)
    table, ordered = extract_table(clips, tmp_path / "out", loudness(), jobs=1)
    assert table.ids == ["tone0", "tone1"]
    assert [done.status for done in ordered] == ["failed", "failed", "ok", "ok"]
    rows = report(tmp_path / "out")
    assert rows["empty"]["status"] == "failed"
    assert "is empty (0 bytes)" in rows["empty"]["notes"]
    assert "cannot be read" in rows["junk"]["notes"]
    assert (rows["tone0"]["status"], rows["tone0"]["modalities"]) == ("ok", "loudness")
    # repaired, it is tried again, and only it
    before = finished(tmp_path / "out")
    (clips / "empty.mp4").write_bytes((clips / "tone0.wav").read_bytes())
    table, _ = extract_table(clips, tmp_path / "out", loudness(), jobs=1)
    assert table.ids == ["empty", "tone0", "tone1"]
    assert before.items() < finished(tmp_path / "out").items()


def test_nothing_readable_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(PaSEError, match=r"None of the 1 clips could be read: .*empty"):
        extract_table(tmp_path / "a.mp4", tmp_path / "out", loudness(), jobs=1)


def test_a_foreign_folder_is_left_alone(tmp_path):
    clips = tones(tmp_path / "clips", 1)
    with pytest.raises(PaSEError, match="holds no extraction"):
        extract_table(clips, clips, loudness(), jobs=1)
    assert [file.name for file in clips.iterdir()] == ["tone0.wav"]


def test_other_options_extract_again(tmp_path):
    clips = tones(tmp_path / "clips", 1)
    extract_table(clips, tmp_path / "out", loudness(), jobs=1)
    extract_table(clips, tmp_path / "out", loudness(sleep=0.01), jobs=1)
    assert len(finished(tmp_path / "out")) == 2


def test_a_run_that_was_killed_goes_on(tmp_path):
    clips = tones(tmp_path / "clips", 4)
    extractors = json.dumps({"loudness": {"extractor": TOY, "sleep": 1.0}})
    words = ["extract", str(clips), "--out", str(tmp_path / "out"), "--modalities", "loudness", "--align", "window"]
    words += ["--extractors", extractors, "--jobs", "1"]
    child = subprocess.Popen([sys.executable, "-m", "pase_msa", *words], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not finished(tmp_path / "out") and time.monotonic() < until:
        time.sleep(0.05)
    child.kill()
    child.wait()
    before = finished(tmp_path / "out")
    assert 1 <= len(before) < 4
    assert not (tmp_path / "out" / "table.arrow").exists()
    assert cli.main(words) == 0
    assert before.items() < finished(tmp_path / "out").items()
    assert len(open_table(tmp_path / "out")) == 4


def test_processes_give_what_one_process_gives(tmp_path):
    clips = tones(tmp_path / "clips", 4)
    one, _ = extract_table(clips, tmp_path / "one", loudness(), jobs=1)
    two, _ = extract_table(clips, tmp_path / "two", loudness(), jobs=2)
    assert one.fingerprint() == two.fingerprint()


def test_a_killed_worker_costs_its_own_clip(tmp_path):
    clips = tones(tmp_path / "clips", 4)
    loud = loudness(deadly=0.07)  # the mean of the last tone is .08, that of the one before it .06
    table, outcomes = extract_table(clips, tmp_path / "out", loud, jobs=2)
    assert table.ids == ["tone0", "tone1", "tone2"]
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "ok", "failed"]
    assert "worker process was killed" in report(tmp_path / "out")["tone3"]["notes"]


def test_two_extractions_into_one_folder_are_refused(tmp_path):
    clips = tones(tmp_path / "clips", 1)
    with locked(tmp_path / "out" / "parts"), pytest.raises(PaSEError, match="is being written by another command"):
        extract_table(clips, tmp_path / "out", loudness(), jobs=1)
    table, _ = extract_table(clips, tmp_path / "out", loudness(), jobs=1)
    assert table.ids == ["tone0"]


def test_long_clips_are_cut_and_share_their_video(tmp_path):
    tone = (1000 * np.sin(np.arange(RATE * 45))).astype(np.int16)
    write_clip(tmp_path / "long.wav", sound=tone, rate=RATE)
    table, _ = extract_table(tmp_path / "long.wav", tmp_path / "auto", loudness(), jobs=1)
    assert table.ids == ["long_0001", "long_0002", "long_0003"]
    assert set(table.videos) == {"long"}
    whole, _ = extract_table(tmp_path / "long.wav", tmp_path / "never", loudness(), jobs=1, cut="never")
    assert whole.ids == ["long"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model trained on texts that were extracted; the folder of its features and its own."""
    folder = tmp_path_factory.mktemp("trained")
    lines = ["path,text,video,split,sentiment"]
    for i in range(32):
        words, score = ("good and fine", 2) if i % 2 else ("bad and dull", -2)
        lines.append(f",It is {words} number {i},v{i},{'valid' if i % 4 > 1 else 'train'},{score}")
    (folder / "clips.csv").write_text("\n".join(lines))
    features, run = folder / "features", folder / "run"
    assert cli.main(["extract", str(folder / "clips.csv"), "--out", str(features), "--modalities", "text"]) == 0
    words = ["train", "--data", str(features), "--out", str(run), "--training.epochs", "2", "--progress", "false"]
    assert cli.main(words) == 0
    return features, run


def test_a_model_has_the_record_of_its_features(trained):
    features, run = trained
    predictor = Predictor(run)
    assert predictor.extraction == open_table(features).meta["extraction"]
    assert len(list(predictor.predict(features))) == 32


def test_a_model_refuses_features_that_were_made_otherwise(trained, tmp_path):
    _, run = trained
    (tmp_path / "a.txt").write_text("It is good.")
    config = ExtractConfig(["text"], {"text": {"lowercase": True}})
    table, _ = extract_table(tmp_path / "a.txt", tmp_path / "out", config, jobs=1)
    sentence = "the options of text had lowercase False in training and have True here"
    with pytest.raises(PaSEError, match=sentence):
        list(Predictor(run).predict(table))
    with pytest.raises(PaSEError, match=sentence):
        evaluate(run, data=tmp_path / "out")


def test_a_model_of_other_data_has_no_record(trained, tmp_path):
    _, run = trained
    model = Model.from_pretrained(run / "model")
    model.extraction = None
    model.save_pretrained(tmp_path / "model")
    assert Predictor(tmp_path / "model").extraction is None


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra `ray`)")
@pytest.mark.slow
def test_ray_gives_what_one_process_gives(tmp_path):
    clips = tones(tmp_path / "clips", 4)
    words = [
        sys.executable,
        "-m",
        "pase_msa",
        "extract",
        str(clips),
        "--out",
        str(tmp_path / "ray"),
        "--align",
        "window",
    ]
    words += ["--modalities", "loudness", "--extractors", json.dumps({"loudness": {"extractor": TOY}})]
    # a process of its own, so that Ray's threads and warnings do not stay in this one
    subprocess.run([*words, "--jobs", "2", "--backend", "ray"], check=True, capture_output=True, timeout=240)
    one, _ = extract_table(clips, tmp_path / "one", loudness(), jobs=1)
    assert open_table(tmp_path / "ray").fingerprint() == one.fingerprint()


def test_ray_where_there_is_none(tmp_path, monkeypatch):
    clips = tones(tmp_path / "clips", 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PaSEError, match="needs Ray"):
        extract_table(clips, tmp_path / "out", loudness(), backend="ray")
