"""Extraction into shards gives the table of an unsharded one, and never holds it on this machine."""

import csv
import io
import uuid

import fsspec
import pytest

from pase_msa import PaSEError
from pase_msa.cli.main import main
from pase_msa.data import open_table
from pase_msa.data.shards import find_shards, has_shards, write_shards
from pase_msa.media.config import ExtractConfig
from pase_msa.media.sharded import extract_shards
from pase_msa.media.table import extract_table
from tests.media import toy
from tests.media.test_table import tones

EXTRACTED = []  # clips, by the plug-in below
STOP = []  # number of the clip at which the command is stopped


class Counting(toy.Loudness):
    def extract(self, media):
        EXTRACTED.append(media)
        if [len(EXTRACTED)] == STOP:
            raise KeyboardInterrupt
        return super().extract(media)


class Plugin(toy.Plugin):
    @staticmethod
    def build(config):
        return Counting(config)


CONFIG = ExtractConfig(["loudness"], {"loudness": {"extractor": "tests.media.test_sharded:Plugin"}}, align="window")
WORDS = ["--modalities", "loudness", "--align", "window", "--jobs", "1"]
WORDS += ["--extractors", '{"loudness": {"extractor": "tests.media.test_sharded:Plugin"}}']


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("PASE_CACHE", str(tmp_path / "cache"))
    EXTRACTED.clear()
    STOP.clear()


@pytest.fixture
def address():
    return f"memory://{uuid.uuid4().hex}/features"


@pytest.fixture
def manifest(tmp_path):
    """Sounds, a text, and a file that is none."""
    tones(tmp_path, 4)
    (tmp_path / "broken.wav").write_bytes(b"junk" * 100)
    rows = ["tone0.wav,,train,1", "tone1.wav,,train,-1", ",What a fine day.,valid,2", "broken.wav,,test,0"]
    rows += ["tone2.wav,,test,", "tone3.wav,,test,3"]
    (tmp_path / "clips.csv").write_text("\n".join(["path,text,split,sentiment", *rows]))
    return tmp_path / "clips.csv"


def left_behind(folder):
    return list(folder.rglob("*.safetensors"))


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_shards_are_those_of_the_extracted_table(manifest, address, tmp_path, jobs):
    shards, clips = extract_shards(manifest, address, 3, CONFIG, jobs=jobs)
    table, outcomes = extract_table(manifest, tmp_path / "features", CONFIG, jobs=1)
    write_shards(table, f"{address}-converted", 3)
    assert shards.fingerprint == find_shards(f"{address}-converted").fingerprint
    assert open_table(address).fingerprint() == table.fingerprint()
    assert open_table(address).meta == table.meta
    assert len(shards.files) == 3
    assert clips == [outcome.summary() for outcome in outcomes]
    assert not left_behind(tmp_path / "cache")


def test_a_modality_that_no_clip_has_is_no_column(address, tmp_path):
    (tmp_path / "clips.csv").write_text("text\nA fine day.\nA waste of time.\n")
    shards, _ = extract_shards(tmp_path / "clips.csv", address, 9, CONFIG, jobs=1)
    table, _ = extract_table(tmp_path / "clips.csv", tmp_path / "features", CONFIG, jobs=1)
    assert shards.schema == table.schema
    assert shards.fingerprint == table.fingerprint()
    assert len(shards.files) == 2


def test_shards_in_which_nothing_can_be_read_are_left_out(address, tmp_path):
    tones(tmp_path / "clips", 1)
    (tmp_path / "clips" / "a.wav").write_bytes(b"junk" * 100)
    shards, clips = extract_shards(tmp_path / "clips", address, 2, CONFIG, jobs=1)
    assert [clip.status for clip in clips] == ["failed", "ok"]
    assert open_table(address).ids == ["tone0"]
    assert [file["file"] for file in shards.files] == ["00001.parquet"]


def test_a_command_that_was_stopped_goes_on(manifest, tmp_path):
    out = tmp_path / "out"
    STOP.append(4)
    with pytest.raises(KeyboardInterrupt):
        extract_shards(manifest, out, 3, CONFIG, jobs=1)
    assert not has_shards(out)
    before = {file.name: file.stat().st_mtime_ns for file in out.glob("*.parquet")}
    assert set(before) == {"00000.parquet", "00001.parquet"}
    shards, _ = extract_shards(manifest, out, 3, CONFIG, jobs=1)
    assert len(EXTRACTED) == 4 + 2  # the clip at which it stopped, and the last one
    assert before.items() <= {file.name: file.stat().st_mtime_ns for file in out.glob("*.parquet")}.items()
    table, _ = extract_table(manifest, tmp_path / "features", CONFIG, jobs=1)
    assert shards.fingerprint == table.fingerprint()
    assert not left_behind(out)


def test_what_is_finished_is_not_made_again(manifest, address):
    first, _ = extract_shards(manifest, address, 2, CONFIG, jobs=1)
    count = len(EXTRACTED)
    again, clips = extract_shards(manifest, address, 2, CONFIG, jobs=1)
    assert (again, len(EXTRACTED)) == (first, count)
    assert [clip.status for clip in clips].count("failed") == 1


def test_other_labels_make_other_shards(manifest, address):
    extract_shards(manifest, address, 2, CONFIG, jobs=1)
    manifest.write_text(manifest.read_text().replace("valid,2", "valid,-2"))
    with pytest.raises(PaSEError, match="of other clips or options"):
        extract_shards(manifest, address, 2, CONFIG, jobs=1)


def test_a_shard_that_cannot_be_written_is_a_sentence_and_no_table(manifest, address, monkeypatch):
    def refuse(*_):
        raise OSError("no space")

    monkeypatch.setattr("pase_msa.media.sharded.write_shard", refuse)
    with pytest.raises(PaSEError, match="can be written to"):
        extract_shards(manifest, address, 2, CONFIG, jobs=1)
    assert not has_shards(address)


def test_the_report_lies_beside_the_shards(manifest, address, capsys):
    assert main(["extract", str(manifest), "--out", address, "--shards", "2", *WORDS]) == 0
    printed = capsys.readouterr().out
    assert f"5 utterances of 6 clips (4 s) in {address}: loudness 4" in printed
    system, folder = fsspec.core.url_to_fs(address)
    rows = list(csv.DictReader(io.StringIO(system.cat_file(f"{folder}/report.csv").decode(), newline="")))
    assert [row["status"] for row in rows].count("failed") == 1
    assert f"the reasons are in {address}/report.csv" in printed


def test_nothing_readable_is_refused(tmp_path, address):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(PaSEError, match=r"None of the 1 clips could be read: .*empty"):
        extract_shards(tmp_path / "a.mp4", address, 2, CONFIG, jobs=1)
    assert not has_shards(address)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "memory://x/y"], "--shards N"),
        (["--out", "features", "--shards", "0"], "one shard or more"),
        (["--out", "features", "--shards", "-2"], "one shard or more"),
    ],
)
def test_options_that_contradict_each_other_are_refused_first(words, sentence, capsys):
    assert main(["extract", "no such clips", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_place_that_holds_something_else_is_refused(manifest, address, tmp_path):
    extract_table(manifest, tmp_path / "table", CONFIG, jobs=1)
    with pytest.raises(PaSEError, match="already holds an unsharded table"):
        extract_shards(manifest, tmp_path / "table", 2, CONFIG, jobs=1)
    with pytest.raises(PaSEError, match="holds no extraction into shards"):
        extract_shards(manifest, manifest.parent, 2, CONFIG, jobs=1)
    write_shards(open_table(tmp_path / "table"), address, 2)
    with pytest.raises(PaSEError, match="already holds a finished table"):
        extract_shards(manifest, address, 2, CONFIG, jobs=1)


def test_shards_of_another_number_and_a_table_of_one_file_are_refused(manifest, tmp_path):
    extract_shards(manifest, tmp_path / "out", 2, CONFIG, jobs=1)
    with pytest.raises(PaSEError, match="into 2 shards, found --shards 3"):
        extract_shards(manifest, tmp_path / "out", 3, CONFIG, jobs=1)
    with pytest.raises(PaSEError, match="give its --shards"):
        extract_table(manifest, tmp_path / "out", CONFIG, jobs=1)


@pytest.mark.parametrize("out", ["nosuch://a/b", "http://[bad/x"])
def test_an_address_that_cannot_be_written_to_is_a_sentence(manifest, out):
    with pytest.raises(PaSEError, match="can be written to"):
        extract_shards(manifest, out, 2, CONFIG, jobs=1)
    assert not EXTRACTED
