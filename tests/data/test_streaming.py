"""A sharded table is trained on without being copied: batches, order, what is at hand, and a whole run."""

import json
import math
import uuid

import numpy as np
import pytest

from pase_msa.cli.main import main
from pase_msa.data import open_table
from pase_msa.data.dataset import make_dataset
from pase_msa.data.inputs import describe_inputs, encode_labels, load_columns
from pase_msa.data.opening import open_data
from pase_msa.data.problem import ProblemOptions, task_from_table
from pase_msa.data.shards import SHARDS, write_shards
from pase_msa.data.streaming import UtteranceStream, open_part
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.training.callbacks import EpochLog
from pase_msa.training.config import RunConfig
from pase_msa.training.run import train
from tests.toys import tiny_spec


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def numbered(count=90, splits="tttttvs", classes=None):
    """Utterances whose features say their number; some lack a label or a modality, and lengths differ."""
    names = {"t": "train", "v": "valid", "s": "test"}
    for i in range(count):
        label = (
            math.inf
            if i % 22 == 14 and classes is None
            else None
            if i % 11 == 3
            else (float(i % 7) - 3 if classes is None else classes[i % len(classes)])
        )
        audio = None if i % 5 == 1 else np.full((1 + i % 4, 2), i, dtype=np.float32)
        video = i // 3
        yield Utterance(
            f"u{i}",
            f"v{video}",
            names[splits[video % len(splits)]],
            {"sentiment": label},
            {"audio": audio, "vision": np.full((2, 3), i + 0.5, dtype=np.float32)},
        )


def written(rows, shards=4, kind="real"):
    """The address of a sharded table, and the table."""
    table = FeatureTable.build(rows, Schema({"audio": 2, "vision": 3}, {"sentiment": kind}))
    address = f"memory://{uuid.uuid4().hex}/table"
    write_shards(table, address, shards)
    return address, table


def stream_of(address, batch_size=8, buffer=16, seed=1):
    part = open_part(address, ("valid",), 10)
    task = task_from_table(part, ProblemOptions())
    inputs = describe_inputs(part, task.modalities, TextConfig())
    return UtteranceStream(part.streamed, task, inputs, batch_size=batch_size, buffer=buffer, seed=seed)


def numbers(batches):
    """Numbers of the utterances of batches, in order."""
    return [int(value) for batch in batches for value in batch.features["vision"][:, 0, 0]]


def labelled(table):
    labels = table.labels("sentiment")
    return [int(row) for row in table.rows("train") if labels[row] is not None]


@pytest.mark.parametrize("shards", [1, 4])
def test_an_epoch_holds_every_labelled_training_utterance_once(shards):
    address, table = written(numbered(), shards)
    stream = stream_of(address)
    batches = list(stream.loader(0))
    assert sorted(numbers(batches)) == labelled(table)
    assert len(batches) == len(stream) == math.ceil(len(labelled(table)) / 8)


def test_a_batch_is_that_of_the_table():
    address, table = written(numbered())
    task = task_from_table(table, ProblemOptions())
    inputs = describe_inputs(table, task.modalities, TextConfig())
    dataset = make_dataset(table, load_columns(table, inputs), table.rows("train"), encode_labels(table, task))
    place = {row: position for position, row in enumerate(dataset.rows.tolist())}
    for batch in stream_of(address).loader(0):
        expected = dataset[[place[number] for number in numbers([batch])]]
        assert batch.labels.equal(expected.labels)
        for name in inputs:
            assert batch.features[name].equal(expected.features[name])
            assert batch.lengths[name].equal(expected.lengths[name])
            assert batch.present[name].equal(expected.present[name])
        same = batch.videos[:, None] == batch.videos[None]
        assert same.equal(expected.videos[:, None] == expected.videos[None])


def test_the_order_follows_from_seed_and_epoch():
    address, _ = written(numbered())
    first = numbers(stream_of(address).loader(0))
    assert numbers(stream_of(address).loader(0)) == first
    assert numbers(stream_of(address).loader(1)) != first
    assert numbers(stream_of(address, seed=2).loader(0)) != first


def test_a_worker_reads_each_utterance_once_in_an_order_of_its_own():
    address, table = written(numbered())
    read = numbers(stream_of(address).loader(3, workers=2))
    assert sorted(read) == labelled(table)
    assert numbers(stream_of(address).loader(3, workers=2)) == read


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_an_epoch_and_have_as_many_batches(world_size):
    address, table = written(numbered())
    counts, seen = set(), []
    for rank in range(world_size):
        batches = list(stream_of(address).loader(0, rank=rank, world_size=world_size))
        counts.add(len(batches))
        seen += numbers(batches)
    wanted = labelled(table)
    assert len(counts) == 1
    assert len(seen) == world_size * math.ceil(len(wanted) / world_size)
    # where shards hold unlike numbers of usable rows, a few wait for another epoch
    assert len(set(seen)) >= 0.8 * len(wanted)


def test_a_part_holds_the_splits_and_a_sample_with_every_class():
    address, table = written(numbered(3000, classes=["sad", "glad", "angry"]), kind="class")
    part = open_part(address, ("valid",), 20)
    assert len(part.rows("valid")) == len(table.rows("valid"))
    assert 20 <= len(part.rows("train")) < len(table.rows("train"))
    assert not len(part.rows("test"))
    assert {part.labels("sentiment")[row] for row in part.rows("train")} - {None} == {"sad", "glad", "angry"}
    assert part.fingerprint() == table.fingerprint()
    assert part.streamed.counts["train"] == len(table.rows("train"))


def test_a_part_holds_the_extremes_of_the_labels():
    rows = [*numbered(3000)]
    for number, value in ((-9, 17.0), (-700, -12.0)):
        rows[number].labels, rows[number].split, rows[number].video = {"sentiment": value}, "train", f"v{number}"
    address, _ = written(rows)
    labels = open_part(address, ("valid",), 5).labels("sentiment")
    assert {17.0, -12.0} <= set(labels)


def test_a_part_is_copied_once(cache):
    address, _ = written(numbered())
    open_part(address, ("valid",), 10)
    (kept,) = (file for file in (cache / "tables").rglob("table.arrow"))
    before = kept.stat().st_mtime_ns
    open_part(address, ("valid",), 10)
    assert kept.stat().st_mtime_ns == before


def test_a_video_in_two_splits_is_refused():
    rows = [*numbered(60)]
    rows[0].split, rows[1].split = "train", "valid"
    address, _ = written(rows)
    with pytest.raises(PaSEError, match="Video 'v0' is in both"):
        open_part(address, ("valid",), 5)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(synthetic_table(tiny_spec()), folder / "table", 3)
    return folder / "table"


def options(address, out, *more):
    words = ["train", "--data", str(address), "--out", str(out), "--training.epochs", "2"]
    if "--model" not in more:
        words += ["--model", "concat"]
    return [*words, "--training.shuffle_buffer", "16", *more]


def test_a_run_streams_and_is_evaluated(benchmark, tmp_path, capsys):
    assert main(options(benchmark, tmp_path / "run")) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    described = json.loads((tmp_path / "run" / "data.json").read_text())
    whole = open_table(benchmark)
    assert described["utterances"] == {name: len(whole.rows(name)) for name in ("train", "valid", "test")}
    assert described["fingerprint"] == whole.fingerprint()
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["count"] == len(whole.rows("test"))


def test_a_run_that_is_cut_short_ends_like_one_that_is_not(benchmark, tmp_path, monkeypatch):
    def config(name):
        training = {"epochs": 3, "batch_size": 8, "shuffle_buffer": 16}
        data, out = str(benchmark), str(tmp_path / name)
        return RunConfig.from_options({"data": data, "out": out, "model": {"name": "concat"}, "training": training})

    train(config("straight"), progress=False)

    def stop(self, trainer, module):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(EpochLog, "on_train_epoch_start", stop, raising=False)
        with pytest.raises(RuntimeError, match="killed"):
            train(config("broken"), progress=False)
    train(config("broken"), progress=False)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("straight", "broken")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--split", "auto"], "--split auto"),
        (["--training.group_by_length", "true"], "group_by_length"),
        (["--model", "self_mm"], "self_mm"),
        (["--training.shuffle_buffer", "0"], "whole number in [1,"),
    ],
)
def test_what_streaming_cannot_do_is_refused(benchmark, tmp_path, capsys, more, words):
    assert main(options(benchmark, tmp_path / "run", *more)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_table_that_is_not_sharded_is_not_streamed(tmp_path):
    synthetic_table(tiny_spec(), path=tmp_path / "table")
    with pytest.raises(PaSEError, match="pase convert --shards"):
        open_data(tmp_path / "table", part=(("valid",), 10))


def test_shards_of_an_earlier_version_are_not_streamed(tmp_path):
    write_shards(synthetic_table(tiny_spec()), tmp_path / "table", 2)
    content = json.loads((tmp_path / "table" / SHARDS).read_text())
    del content["fingerprint"]
    (tmp_path / "table" / SHARDS).write_text(json.dumps(content))
    assert len(open_table(tmp_path / "table"))
    with pytest.raises(PaSEError, match="earlier version"):
        open_part(tmp_path / "table", ("valid",), 10)
