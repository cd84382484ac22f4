"""A table in shards, in a folder and at an address, is the table."""

import json
import uuid

import fsspec
import pytest

from pase_msa.cli.main import main
from pase_msa.data import open_table
from pase_msa.data.shards import write_shards
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.errors import PaSEError
from tests.toys import tiny_spec


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return synthetic_table(tiny_spec(), path=tmp_path_factory.mktemp("data") / "table")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def address():
    return f"memory://{uuid.uuid4().hex}/table"


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_shards_at_an_address_hold_the_table(table, address, count):
    write_shards(table, address, count)
    assert open_table(address).fingerprint() == table.fingerprint()
    assert open_table(address).meta == table.meta


def test_shards_in_a_folder_hold_the_table(table, tmp_path):
    write_shards(table, tmp_path / "shards", 4)
    assert open_table(tmp_path / "shards").fingerprint() == table.fingerprint()


def test_shards_become_a_table_in_a_folder(table, address, tmp_path):
    write_shards(table, address, 2)
    assert open_table(address, out=tmp_path / "copy").fingerprint() == table.fingerprint()
    assert open_table(tmp_path / "copy").fingerprint() == table.fingerprint()


def test_what_was_read_once_is_read_from_the_cache(table, address, cache):
    write_shards(table, address, 2)
    open_table(address)
    (kept,) = (cache / "tables").iterdir()
    before = (kept / "table.arrow").stat().st_mtime_ns
    open_table(address)
    assert (kept / "table.arrow").stat().st_mtime_ns == before


def test_a_model_trains_on_an_address(table, address, tmp_path, capsys):
    write_shards(table, address, 2)
    words = ["train", "--data", address, "--out", str(tmp_path / "run"), "--training.epochs", "1", "--model", "concat"]
    assert main(words) == 0
    assert json.loads((tmp_path / "run" / "data.json").read_text())["path"] == address
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    capsys.readouterr()


def test_convert_writes_shards_to_an_address(table, address, tmp_path, capsys):
    table.save(tmp_path / "table")
    assert main(["convert", str(tmp_path / "table"), address, "--shards", "3"]) == 0
    assert f"80 utterances in {address}" in capsys.readouterr().out
    assert open_table(address).fingerprint() == table.fingerprint()


@pytest.mark.parametrize("count", [0, -1])
def test_no_shards_are_refused(table, address, count):
    with pytest.raises(PaSEError, match="one shard or more"):
        write_shards(table, address, count)


def test_a_table_is_not_overwritten(table, address):
    write_shards(table, address, 2)
    with pytest.raises(PaSEError, match="already holds a feature table"):
        write_shards(table, address, 2)


def test_an_address_without_a_number_of_shards_is_refused(tmp_path, address, capsys):
    assert main(["convert", str(tmp_path), address]) == 2
    assert "--shards N" in capsys.readouterr().err


def cut_short(system, folder):
    content = system.cat_file(f"{folder}/00001.parquet")
    system.pipe_file(f"{folder}/00001.parquet", content[:-10])


def damaged(system, folder):
    content = bytearray(system.cat_file(f"{folder}/00001.parquet"))
    content[-8:] = b"\xff" * 8
    system.pipe_file(f"{folder}/00001.parquet", bytes(content))


def missing(system, folder):
    system.rm_file(f"{folder}/00001.parquet")


def not_json(system, folder):
    system.pipe_file(f"{folder}/shards.json", b"{")


def without_shards(system, folder):
    system.pipe_file(f"{folder}/shards.json", b"[]")


@pytest.mark.parametrize("break_it", [cut_short, damaged, missing, not_json, without_shards])
def test_damage_is_a_sentence_and_leaves_nothing(table, address, cache, break_it):
    write_shards(table, address, 3)
    break_it(*fsspec.core.url_to_fs(address))
    with pytest.raises(PaSEError, match="again"):
        open_table(address)
    assert not list(cache.glob("tables/*/table.*"))


@pytest.mark.parametrize("path", ["memory://nothing/here", "nosuch://a/b", "http://[bad/x"])
def test_an_address_without_a_table_is_refused_in_a_sentence(path):
    with pytest.raises(PaSEError, match=r"shards|address"):
        open_table(path)
