"""Damaged files end in a sentence: a short campaign of `benchmarks.fuzz`, and the mechanisms behind it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz.corpus import write_folder, write_mult, write_table
from pase_msa.data import open_table
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError, printable

ROOT = Path(__file__).parents[2]
READERS = ("mmsa", "mmsa unaligned", "mult", "gcnet", "csd", "mfn", "folder", "table")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_campaign_of_damaged_files_finds_no_fault(seed):
    # A fresh process: the campaign forks its workers, and the process of the tests has threads by now.
    words = [sys.executable, "-m", "benchmarks.fuzz", "--cases", "150", "--seed", str(seed), "--jobs", "1"]
    run = subprocess.run([*words, "--kinds", ",".join(READERS)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "150 cases" in run.stdout
    assert "0 faults" in run.stdout


def test_one_flipped_bit_of_a_table_is_found(tmp_path):
    file = write_table(tmp_path) / "table.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(PaSEError, match="not the file that was written"):
        open_table(file.parent)


def test_a_table_without_a_checksum_is_validated_before_it_is_mapped(tmp_path):
    folder = write_table(tmp_path)
    description = json.loads((folder / "table.json").read_text())
    del description["checksum"]
    (folder / "table.json").write_text(json.dumps(description))
    assert len(open_table(folder)) == 24
    content = bytearray((folder / "table.arrow").read_bytes())
    place = content.index(b"u0u1u2") - 100  # where the offsets of the ids lie
    content[place : place + 40] = b"\x7f" * 40
    (folder / "table.arrow").write_bytes(content)
    with pytest.raises(PaSEError, match="damaged"):
        open_table(folder)


def test_a_description_of_other_columns_is_refused(tmp_path):
    folder = write_table(tmp_path)
    description = json.loads((folder / "table.json").read_text())
    description["schema"]["labels"] = {"mood": "class"}
    (folder / "table.json").write_text(json.dumps(description))
    with pytest.raises(PaSEError, match="other columns"):
        open_table(folder)


def test_a_refused_conversion_leaves_nothing_that_blocks_the_next_one(tmp_path):
    folder = write_folder(tmp_path)
    csv = folder / "utterances.csv"
    whole = csv.read_text()
    csv.write_text(whole.replace("u1,", "u0,", 1))  # the same id twice is found once all rows are written
    with pytest.raises(PaSEError, match="unique"):
        open_table(folder, out=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    csv.write_text(whole)
    assert isinstance(open_table(folder, out=tmp_path / "out"), FeatureTable)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda place: place.symlink_to("/dev/zero"), lambda place: place.symlink_to(place)]
)
def test_what_is_no_plain_file_is_refused_at_once(make, tmp_path):
    folder = write_folder(tmp_path)
    (folder / "audio.npy").unlink()
    make(folder / "audio.npy")
    with pytest.raises(PaSEError, match=r"audio\.npy"):
        open_table(folder)


def test_a_pipe_as_the_data_is_refused(tmp_path):
    os.mkfifo(tmp_path / "data.pkl")
    with pytest.raises(PaSEError, match="a pipe"):
        open_table(tmp_path / "data.pkl")


def test_a_file_that_one_reader_cannot_look_into_may_be_anothers(tmp_path):
    home = tmp_path / "both"
    home.mkdir()
    file = write_mult(home)
    assert len(open_table(file)) == 24
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(PaSEError, match="no format"):
        open_table(tmp_path / "x.npy")


def test_sentences_are_printable_and_of_a_bounded_length():
    assert printable("plain café 视频") == "plain café 视频"
    assert printable("a\x1b[31mb\nc\u202ed") == "a\\x1b[31mb c\\u202ed"
    sentence = str(PaSEError(f"The name {'x' * 10_000} is long; rename it."))
    assert len(sentence) < 2_000
    assert sentence.endswith("is long; rename it.")
