"""The messages on the page of troubleshooting are those that PaSE prints."""

import re
from pathlib import Path

import numpy as np
import pytest

from pase_msa.cli.main import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "start" / "troubleshooting.md").read_text()
SHOWN = [" ".join(text.split()) for text in re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S)]
PLAIN = "id,video,split,sentiment\na,v,train,1\nb,w,valid,2\nc,x,test,2\nd,y,test,1\n"


def folder(name, table, rows=4):
    Path(name).mkdir()
    (Path(name) / "utterances.csv").write_text(table)
    np.save(f"{name}/audio.npy", np.random.default_rng(0).normal(size=(rows, 3)))


def one_word(name):
    splits = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    cells = ["soon" if i == 3 else f"{i / 10}" for i in range(60)]
    folder(name, "id,split,sentiment\n" + "".join(f"{i},{splits[i]},{cells[i]}\n" for i in range(60)), 60)


def copied(name):
    rng, splits = np.random.default_rng(0), ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    scores = rng.uniform(-3, 3, 60)
    folder(name, "id,split,sentiment\n" + "".join(f"{i},{splits[i]},{scores[i]}\n" for i in range(60)), 60)
    np.save(f"{name}/hints.npy", scores[:, None])


def finished(name):
    Path(name).mkdir(parents=True)
    (Path(name) / "results.json").write_text("{}")


CASES = [
    (lambda: copied("h"), "train --data h --out r"),
    (lambda: folder("n", PLAIN, rows=5), "inspect n"),
    (lambda: folder("c", "id,split,text,sentiment\na,train,I do,2\nb,train,well, I do,2\n", 2), "inspect c"),
    (lambda: one_word("c"), "inspect c"),
    (lambda: Path("old.csv").write_bytes("id,split,sentiment\nk\xe9,train,1\n".encode("latin-1")), "inspect old.csv"),
    (lambda: Path("broken.pkl").write_bytes(b"\x80\x04abc"), "inspect broken.pkl"),
    (lambda: folder("v", PLAIN.replace("w,valid", "v,valid")), "train --data v --out r"),
    (lambda: folder("l", PLAIN), "train --data l --out r --label mood"),
    (lambda: None, "train --training.precision 16-mixed"),
    (lambda: finished("runs/a"), "train --out runs/a"),
    (lambda: Path("afile").touch(), "train --out afile/run"),
]


@pytest.mark.parametrize(("make", "words"), CASES, ids=[words for _, words in CASES])
def test_a_message_of_the_page_is_printed(make, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make()
    assert main(words.split()) == 2
    assert capsys.readouterr().err.removeprefix("pase: ").strip() in SHOWN


@pytest.mark.parametrize(
    "part",
    [
        "and what follows is not read; ",
        "is being written by another command",
        "The sound is silent, so audio is absent.",
    ],
)
def test_other_messages_are_in_the_code(part):
    assert any(part in text for text in SHOWN)
    assert any(part in file.read_text() for file in (ROOT / "src").rglob("*.py"))
