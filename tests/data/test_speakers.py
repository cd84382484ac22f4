"""Who speaks: from the files through the feature table into the batch; data that do not say stay as they were."""

import dataclasses
import json
import pickle
import uuid

import numpy as np
import pytest
import torch

from pase_msa.data import FeatureTable, Schema, Utterance, open_table
from pase_msa.data.dataset import make_dataset
from pase_msa.data.inputs import describe_inputs, encode_labels, load_columns
from pase_msa.data.problem import Problem, ProblemOptions, task_from_table
from pase_msa.data.shards import write_shards
from pase_msa.data.streaming import UtteranceStream, open_part
from pase_msa.data.table import META
from pase_msa.data.transcripts import TextConfig
from tests.data.examples import dump, gcnet, mmgcn_example
from tests.toys import toy_batch

WHO = ["ann", "bob", None, "ann"] * 4


def utterances(speakers=WHO):
    for i in range(16):
        split = ("train", "train", "valid", "test")[i // 4]
        features = {"audio": np.full((1, 2), i, dtype=np.float32)}
        speaker = None if speakers is None else speakers[i]
        yield Utterance(f"u{i}", f"v{i // 4}", split, {"sentiment": i % 5 - 2.0}, features, None, speaker)


def table_of(speakers=WHO, path=None):
    rows = list(utterances(speakers))
    return FeatureTable.build(rows, Schema.of(rows), path=path)


def batch_of(table):
    """The training rows as one batch."""
    task = task_from_table(table, ProblemOptions())
    columns = load_columns(table, describe_inputs(table, task.modalities, TextConfig()))
    return make_dataset(table, columns, table.rows("train"), encode_labels(table, task))[list(range(8))]


def same(speakers):
    """Which utterances have the same known speaker."""
    return (speakers[:, None] == speakers[None]) & (speakers >= 0)


def test_speakers_come_back_from_memory_disk_and_shards(tmp_path):
    table = table_of(path=tmp_path / "table")
    write_shards(table, tmp_path / "shards", 3)
    for other in (
        table,
        table_of(),
        open_table(tmp_path / "shards"),
        table.select(range(16)),
        table.save(tmp_path / "copy"),
    ):
        assert other.speakers == WHO
        assert other.utterance(1).speaker == "bob"
        assert other.fingerprint() == table.fingerprint()
    assert table.with_splits(["train"] * 16, "all").speakers == WHO


def test_the_fingerprint_depends_on_who_speaks():
    assert table_of(["ann"] * 16).fingerprint() != table_of().fingerprint()


def test_a_table_without_speakers_has_the_fingerprint_that_it_always_had():
    table = table_of(None)
    assert table.speakers is None
    assert table.fingerprint() == "878900b529fd898602e4948b0cdd139504b33291e8dbbd396927310d98a71189"


def test_a_table_that_was_saved_before_there_were_speakers_opens(tmp_path):
    table = table_of(None, tmp_path)
    description = json.loads((tmp_path / META).read_text())
    del description["schema"]["speakers"]
    (tmp_path / META).write_text(json.dumps(description))
    opened = FeatureTable.load(tmp_path)
    assert opened.speakers is None
    assert opened.fingerprint() == table.fingerprint()


def test_a_label_called_speaker_is_still_a_label(tmp_path):
    rows = [Utterance("u", "v", "train", {"speaker": "ann"}, {"audio": np.ones(2)})]
    opened = FeatureTable.build(rows, Schema.of(rows), path=tmp_path)
    assert opened.labels("speaker") == ["ann"]
    assert opened.speakers is None


def test_a_batch_knows_its_speakers():
    assert torch.equal(same(batch_of(table_of()).speakers), same(torch.tensor([0, 1, -1, 0] * 2)))
    assert batch_of(table_of()).speakers.tolist()[2] == -1
    assert batch_of(table_of(None)).speakers is None


def test_a_batch_keeps_its_speakers_where_it_goes():
    batch = dataclasses.replace(toy_batch(), speakers=torch.arange(12))
    assert torch.equal(batch.to("cpu").only(["text"]).speakers, batch.speakers)


def test_parts_of_a_problem_keep_the_speakers():
    problem = Problem.from_table(table_of())
    for part in (problem.train.subsample(4, seed=0), problem.train.over(problem.train.rows[:4])):
        assert part[[0, 1, 2, 3]].speakers.tolist() == problem.train[[0, 1, 2, 3]].speakers.tolist()
    assert problem.frozen().train[[0]].speakers is not None


def test_a_stream_knows_the_speakers_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("PASE_CACHE", str(tmp_path / "cache"))
    address = f"memory://{uuid.uuid4().hex}/table"
    write_shards(table_of(), address, 2)
    part = open_part(address, ("valid",), 4)
    task = task_from_table(part, ProblemOptions())
    inputs = describe_inputs(part, task.modalities, TextConfig())
    (batch,) = UtteranceStream(part.streamed, task, inputs, batch_size=8, buffer=4, seed=1).loader(0)
    order = batch.features["audio"][:, 0, 0].long()
    assert torch.equal(same(batch.speakers), same(batch_of(table_of()).speakers[order]))


# formats


@pytest.mark.parametrize("heading", ["speaker", "Speaker"])
def test_the_column_of_a_folder(tmp_path, heading):
    (tmp_path / "utterances.csv").write_text(f"id,{heading},score\na,ann,1\nb,,2\nc,bob,3\n")
    table = open_table(tmp_path)
    assert table.speakers == ["ann", None, "bob"]
    assert list(table.schema.labels) == ["score"]
    assert table.meta["roles"]["speakers"] == ["column speaker"]


def test_those_of_gcnet(tmp_path):
    table = open_table(gcnet(tmp_path, {"v1": [1.5, -2.0, 0.0], "v2": [3.0], "v3": [-1.0]}))
    assert table.speakers == ["F", "M", "M", "F", "F"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"a": ["F", "M"], "b": ["F"], "c": ["M"]}, ["F", "M", "F", "M"]),
        ({"a": [[0, 1, 0], [1, 0, 0]], "b": [np.array([0, 0, 1])], "c": [[0, 0, 0]]}, ["1", "0", "2", None]),
        ({"a": ["F"], "c": [None]}, ["F", None, None, None]),
        ({"a": None}, None),
    ],
    ids=["names", "places", "too few", "none"],
)
def test_those_of_conversations(tmp_path, given, expected):
    path = mmgcn_example(tmp_path).path
    content = list(pickle.loads(path.read_bytes()))
    content[1] = given
    assert open_table(dump(path, tuple(content))).speakers == expected
