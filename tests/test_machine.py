"""What a machine refuses ends in one sentence, and nothing is lost or left half-written."""

import errno
import fcntl
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pase_msa.cli.main import main
from pase_msa.data.transcripts import _cached, _keep
from pase_msa.errors import PaSEError
from pase_msa.files import _host, cache_folder, check_out, make_folder, replacing, write_text, writing
from pase_msa.locks import HOLDER, LOCK, locked, one_after_the_other

NUMBERS = (
    "ENOSPC",
    "EDQUOT",
    "EACCES",
    "EROFS",
    "ENOTDIR",
    "EISDIR",
    "ELOOP",
    "ENAMETOOLONG",
    "EMFILE",
    "ESTALE",
    "EIO",
)


def refuse(name):
    number = getattr(errno, name)
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("name", NUMBERS)
def test_every_refusal_is_one_sentence_and_keeps_the_old_file(tmp_path, name):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def write():
        with replacing(target) as partial:
            partial.write_text("half")
            refuse(name)

    with pytest.raises(PaSEError, match=r"a\.txt cannot be written: .+; .+\."):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_from_what_libraries_make_of_it(tmp_path, error):
    with pytest.raises(PaSEError, match="the disk is full"), replacing(tmp_path / "last.ckpt"):
        raise error


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), writing(tmp_path):
        raise RuntimeError("shapes differ")


def place_of(kind, folder):
    """A hostile place in a folder."""
    (folder / "file").write_text("mine")
    if kind == "file":
        return folder / "file"
    if kind == "below a file":
        return folder / "file" / "run"
    if kind == "far below a file":
        return folder / "file" / "a" / "b"
    if kind == "dangling link":
        (folder / "link").symlink_to(folder / "nowhere")
        return folder / "link"
    if kind == "loop":
        (folder / "link").symlink_to(folder / "link")
        return folder / "link" / "run"
    return folder / ("n" * 300)


HOSTILE = ("file", "below a file", "far below a file", "dangling link", "loop", "long name")
COMMANDS = {
    "train": lambda out: ["train", "--out", out],
    "convert": lambda out: ["convert", "nothing", out],
    "predict": lambda out: ["predict", "nothing", "--data", "nothing", "--out", f"{out}/p.csv"],
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_hostile_place_is_refused_before_the_work(tmp_path, capsys, command, kind):
    place = place_of(kind, tmp_path)
    before = sorted(os.listdir(tmp_path))
    assert main(COMMANDS[command](str(place))) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be written" in said
    assert sorted(os.listdir(tmp_path)) == before


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(PaSEError, match="a folder is there; name a file"):
        check_out(tmp_path)


def test_a_link_to_a_folder_is_a_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    check_out(tmp_path / "link", folder=True)
    assert make_folder(tmp_path / "link").is_dir()


def test_partial_files_of_dead_processes_are_removed_and_others_stay(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    orphan = tmp_path / f".a.txt.{_host()}-{dead.pid}-0123abcd.partial"
    living = tmp_path / f".a.txt.{_host()}-{os.getppid()}-0123abcd.partial"
    foreign = tmp_path / f".a.txt.ffffff-{dead.pid}-0123abcd.partial"
    for file in (orphan, living, foreign):
        file.write_text("half")
    write_text(tmp_path / "a.txt", "new")
    assert sorted(tmp_path.iterdir()) == sorted([living, foreign, tmp_path / "a.txt"])


def test_the_second_writer_is_told_who_holds_the_folder(tmp_path):
    with locked(tmp_path), pytest.raises(PaSEError, match=rf"process {os.getpid()} on .+ since "), locked(tmp_path):
        pass
    assert not os.listdir(tmp_path)


def test_what_a_killed_process_left_does_not_block(tmp_path):
    (tmp_path / LOCK).touch()
    (tmp_path / HOLDER).write_text(json.dumps({"process": 1, "host": "h", "since": "s"}))
    with locked(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["process"] == os.getpid()


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_a_folder_without_locks_is_used_with_a_note(tmp_path, monkeypatch, caplog, name):
    monkeypatch.setattr(fcntl, "flock", lambda *_: refuse(name))
    with locked(tmp_path):
        write_text(tmp_path / "a.txt", "x")
    assert "no file locks" in caplog.text
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_cache_that_cannot_be_written_is_a_note(tmp_path, caplog):
    import numpy as np

    (tmp_path / "file").touch()
    _keep({"values": np.zeros((1, 2)), "lengths": np.ones(1, np.int64)}, tmp_path / "file" / "text" / "a.safetensors")
    assert "not kept" in caplog.text


def test_a_damaged_cache_is_made_anew(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x00" * 9)
    assert _cached(tmp_path / "a.safetensors") is None


def test_a_home_is_not_needed(monkeypatch):
    monkeypatch.delenv("PASE_CACHE", raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder("text").name == "text"


def test_a_file_of_the_cache_is_made_once(tmp_path):
    file, made = tmp_path / "text" / "states", []

    def make(_):
        with one_after_the_other(file):
            if not file.exists():
                file.parent.mkdir(exist_ok=True)
                time.sleep(0.05)
                made.append(1)
                file.write_text("made")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(8)))
    assert made == [1]
    assert [path.name for path in file.parent.iterdir()] == ["states"]


def test_a_file_of_the_cache_is_not_waited_for_without_end(tmp_path):
    file = tmp_path / "states"
    with one_after_the_other(file), one_after_the_other(file, seconds=0.1):
        file.write_text("made all the same")
    assert file.exists()
