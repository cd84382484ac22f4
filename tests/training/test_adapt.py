"""Intermediate training of a language model: what is read, what is saved, and that a run takes it."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pase_msa.cli.main import main
from pase_msa.data.pretrained import load_tokenizer
from pase_msa.data.sentences import sentence_table
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.training.adapt import AdaptConfig, adapt
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import prepare
from tests.encoders.test_text import table_of
from tests.toys import WORDS, make_bert

SMALL = ["--training.epochs", "1", "--training.batch_size", "16", "--training.threads", "1"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A folder with stars and a folder-mate with polarities."""
    root = tmp_path_factory.mktemp("sentences")
    rng = np.random.default_rng(0)

    def lines(count, labels):
        texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(count)]
        return "".join(f"{labels[i % len(labels)]} {text} {i}\n" for i, text in enumerate(texts))

    (root / "stars.train").write_text(lines(40, "01234"))
    (root / "stars.dev").write_text("2 Good  one !\n" + lines(9, "01234"))
    (root / "stars.test").write_text(lines(5, "01234"))
    (root / "polar.all").write_bytes("0 caf\xe9\n1 \n1 good one\n".encode("latin-1"))
    (root / "README.md").write_text("# not sentences\n")
    return root


def test_data_sets_are_brought_to_one_range_without_what_is_validated(sentences):
    table = sentence_table(sentences)
    labels = np.array(table.labels("label"))
    assert {name: len(table.rows(name)) for name in ("train", "valid", "test")} == {"train": 41, "valid": 10, "test": 0}
    assert sorted(set(labels.tolist())) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert "good one" not in table.texts  # it is in validation, with other signs
    assert "caf\xe9" in table.texts


def test_validation_is_drawn_from_the_seed_where_there_is_none(tmp_path):
    file = tmp_path / "all.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{'good' if i % 2 else 'bad'}\n" for i in range(50)))
    first, again, other = (sentence_table(file, seed=seed) for seed in (1, 1, 2))
    assert len(first.rows("valid")) == 5
    assert first.rows("valid").tolist() == again.rows("valid").tolist() != other.rows("valid").tolist()
    assert set(first.labels("label")) == {"good", "bad"}


def test_a_sentence_without_a_label_is_left_out(tmp_path):
    file = tmp_path / "half.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{'NaN' if i % 2 else i % 3}\n" for i in range(60)))
    table = sentence_table(file)
    assert len(table) == 30
    assert set(table.labels("label")) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "sentence,label\nx,1\n", "needs the columns text and label, found sentence, label; there is no text"),
        ("a.txt", "good film\n", "line 1: a label, a blank and a text were wanted, found 'good film'"),
        ("a.txt", "1 good\n1 fine\n", "Every label of a is 1"),
        ("a.txt", "\n", "holds no labelled sentence"),
        ("a.csv", "text,label\nx,nan\ny,NA\n", "holds no labelled sentence"),
        ("a.csv", "text,label\nx,1\ny,pos\nz,2\n", "numbers and names, such as 'pos'"),
        ("a.csv", "text,label\nx,1\ny,0\n", "two labels or more were wanted"),
        ("a.csv", "text,label\n" + "x,a\n" * 8 + "y,b\nz,c\n", "two labels or more|No training sentence"),
    ],
)
def test_what_is_no_sentence_is_refused(name, content, sentence, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(PaSEError, match=sentence):
        sentence_table(tmp_path / name)


def test_a_folder_that_is_not_there_is_not_asked_of_a_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in (str(tmp_path / "bert"), "./bert", "runs/bert", "runs/a/bert"):
        with pytest.raises(PaSEError, match=f"There is no folder {re.escape(repr(name))}; give the folder of"):
            load_tokenizer(name)


def test_the_command_saves_an_encoder_that_a_run_takes(bert, sentences, tmp_path, capsys):
    out = tmp_path / "adapted"
    command = ["adapt", "--text.model", str(bert), "--data", str(sentences), "--out", str(out), *SMALL]
    assert main(command) == 0
    assert f"next: pase train --text.model {out} --text.frozen false" in capsys.readouterr().out
    record = json.loads((out / "adaptation.json").read_text())
    assert (record["utterances"]["train"], record["seed"]) == (41, 1)
    assert np.isfinite(record["validation"]["mae"])
    before, after = (load_file(folder / "model.safetensors") for folder in (bert, out))
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert not (out / "run" / "checkpoints").exists()
    text = TextConfig(model=str(out), frozen=False)
    prepared = prepare(RunConfig(text=text, model={"name": "concat", "width": 8}), table_of())
    state = prepared.model.encoders["text"].model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in after.items())
    assert main(command) == 2
    assert "holds an adapted language model already" in capsys.readouterr().err


def test_an_adaptation_that_was_cut_short_goes_on(bert, sentences, tmp_path, monkeypatch):
    training = TrainingConfig(epochs=1, batch_size=16, threads=1, accelerator="cpu")

    def config(name):
        text = TextConfig(model=str(bert), frozen=False)
        return AdaptConfig(str(sentences), str(tmp_path / name), text=text, training=training)

    adapt(config("whole"), progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr("pase_msa.training.adapt.load_tokenizer", lambda name: (_ for _ in ()).throw(KeyboardInterrupt))
        adapt(config("again"), progress=False)
    # the run is finished and is not trained again; the files that were written are written anew
    for file in (tmp_path / "again").glob("*.*"):
        file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("pase_msa.training.adapt.train", lambda *_, **__: pytest.fail("it was trained again"))
        adapt(config("again"), progress=False)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "again"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
