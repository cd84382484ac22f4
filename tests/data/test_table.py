"""The feature table: what goes in comes out, on disk as in memory; what does not fit is refused by name."""

import json

import numpy as np
import pytest

from pase_msa.data import FeatureTable, Schema, Utterance, open_table
from pase_msa.data.table import ARROW, META
from pase_msa.errors import PaSEError


def utterances(count=7):
    """Two modalities of different lengths, audio absent in row 1, video 0 in train, others valid and test."""
    rng = np.random.default_rng(0)
    for i in range(count):
        audio = None if i == 1 else rng.normal(size=(1 + i % 3, 2)).astype(np.float32)
        features = {"audio": audio, "face": rng.normal(size=3)}
        labels = {"score": i - 3.0 if i else None, "mood": ["glad", "sad", None][i % 3]}
        split = ("train", "valid", "test")[i % 3]
        yield Utterance(f"u{i}", f"v{i % 3}", split, labels, features, f"Text {i}" if i != 2 else None)


SCHEMA = Schema({"audio": 2, "face": 3}, {"score": "real", "mood": "class"}, text=True)


def test_rows_come_back_ragged_with_presence_labels_and_text():
    table = FeatureTable.build(utterances(), SCHEMA)
    assert len(table) == 7
    assert table.modalities == {"audio": 2, "face": 3}
    assert table.sequences("audio").lengths.tolist() == [1, 0, 3, 1, 2, 3, 1]
    assert table.sequences("audio").present.tolist() == [True, False, True, True, True, True, True]
    assert table.sequences("audio")[1] is None
    assert table.sequences("face")[4].shape == (1, 3)
    assert table.labels("score") == [None, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    assert table.labels("mood") == ["glad", "sad", None, "glad", "sad", None, "glad"]
    assert table.texts[1:3] == ["Text 1", None]
    assert table.rows("valid").tolist() == [1, 4]
    for made, stored in zip(utterances(), (table.utterance(i) for i in range(7)), strict=True):
        assert (made.id, made.video, made.split, made.text) == (stored.id, stored.video, stored.split, stored.text)
        assert dict(made.labels) == stored.labels


def test_the_schema_follows_from_rows():
    assert Schema.of(utterances()) == SCHEMA


def test_on_disk_it_is_memory_mapped_and_the_same(tmp_path):
    memory = FeatureTable.build(utterances(), SCHEMA, meta={"source": "test"})
    disk = FeatureTable.build(utterances(), SCHEMA, path=tmp_path / "t", meta={"source": "test"})
    assert sorted(file.name for file in (tmp_path / "t").iterdir()) == [ARROW, META]
    assert disk.dataset.cache_files[0]["filename"].endswith(ARROW)
    assert disk.meta == {"source": "test"}
    assert disk.fingerprint() == memory.fingerprint() == open_table(tmp_path / "t").fingerprint()
    np.testing.assert_array_equal(disk.sequences("audio")[2], memory.sequences("audio")[2])
    assert disk.schema == memory.schema
    with pytest.raises(PaSEError, match="already holds"):
        FeatureTable.build(utterances(), SCHEMA, path=tmp_path / "t")
    assert memory.save(tmp_path / "copy").fingerprint() == disk.fingerprint()


def test_the_fingerprint_does_not_depend_on_chunks_but_on_every_value(tmp_path):
    """1,100 rows are three chunks on disk; selected rows are built anew."""
    rows = [
        Utterance(f"u{i}", "v", "train", {"y": float(i)}, {"a": np.full((1, 2), i, np.float32)}) for i in range(1100)
    ]
    schema = Schema.of(rows)
    disk = FeatureTable.build(iter(rows), schema, path=tmp_path / "t")
    assert disk.fingerprint() == disk.select(range(1100)).fingerprint()
    assert disk.sequences("a")[1050][0, 0] == 1050
    assert disk.sequences("a").padded([3, 600, 1099])[0][:, 0, 0].tolist() == [3, 600, 1099]
    for change in (
        Utterance("u0", "v", "train", {"y": 0.0}, {"a": np.full((1, 2), 1, np.float32)}),
        Utterance("u0", "v", "train", {"y": 0.5}, {"a": np.zeros((1, 2), np.float32)}),
        Utterance("u0", "w", "train", {"y": 0.0}, {"a": np.zeros((1, 2), np.float32)}),
        Utterance("u0", "v", "train", {"y": 0.0}, {"a": np.zeros((2, 2), np.float32)}),
        Utterance("u0", "v", "train", {"y": 0.0}, {}),
    ):
        assert FeatureTable.build([change, *rows[1:]], schema).fingerprint() != disk.fingerprint()


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    def half():
        yield from utterances(3)
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        FeatureTable.build(half(), SCHEMA, path=tmp_path / "t")
    assert not list((tmp_path / "t").glob("*"))
    assert not list((tmp_path / "t").glob(".*"))
    with pytest.raises(PaSEError, match="was to be a feature table"):
        FeatureTable.load(tmp_path / "t")
    assert len(FeatureTable.build(utterances(), SCHEMA, path=tmp_path / "t")) == 7


def test_a_damaged_table_is_refused_in_a_sentence(tmp_path):
    FeatureTable.build(utterances(), SCHEMA, path=tmp_path / "t")
    (tmp_path / "t" / META).write_text("{")
    with pytest.raises(PaSEError, match="damaged"):
        FeatureTable.load(tmp_path / "t")


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"audio": np.zeros((4, 5))}, ["'u9'", "audio", "(4, 5)", "(steps, 2)"]),
        ({"audio": np.zeros((1, 4, 2))}, ["'u9'", "(1, 4, 2)"]),
        ({"audio": np.array([["a", "b"]])}, ["'u9'", "must hold numbers"]),
        ({"audio": np.array([[None, 1]], dtype=object)}, ["'u9'", "must hold numbers"]),
    ],
)
def test_a_row_that_does_not_fit_is_named(features, words):
    row = Utterance("u9", "v", "train", {}, features)
    with pytest.raises(PaSEError) as caught:
        FeatureTable.build([*utterances(), row], SCHEMA)
    for word in words:
        assert word in str(caught.value)


def test_no_rows_and_duplicate_ids_are_refused():
    with pytest.raises(PaSEError, match="found none"):
        FeatureTable.build([], SCHEMA)
    with pytest.raises(PaSEError, match="'u0' stands there twice"):
        FeatureTable.build([*utterances(), *utterances(1)], SCHEMA)


def test_names_that_clash_are_refused():
    with pytest.raises(PaSEError, match="label column cannot be called 'video'"):
        Schema({}, {"video": "real"})
    with pytest.raises(PaSEError, match="'split'"):
        Schema({"split": 2}, {})
    with pytest.raises(PaSEError, match="'score'"):
        Schema({"score": 2}, {"score": "real"})
    assert Schema({"text": 768}, {}, text=True).modalities == {"text": 768}


def test_unknown_columns_are_named():
    table = FeatureTable.build(utterances(), SCHEMA)
    with pytest.raises(PaSEError, match="audio, face, not 'vision'"):
        table.sequences("vision")
    with pytest.raises(PaSEError, match="score, mood, not 'sentiment'"):
        table.labels("sentiment")


def test_select_keeps_order_and_content():
    table = FeatureTable.build(utterances(), SCHEMA, meta={"source": "x"})
    some = table.select([5, 1, 0])
    assert some.ids == ["u5", "u1", "u0"]
    assert some.sequences("audio").present.tolist() == [True, False, True]
    np.testing.assert_array_equal(some.sequences("face")[0], table.sequences("face")[5])
    assert some.labels("score") == [2.0, -2.0, None]
    assert some.meta == {"source": "x"}


def test_splits_that_share_a_video_or_have_strange_names_are_refused():
    FeatureTable.build(utterances(), SCHEMA).check_splits()
    leak = Utterance("u9", "v0", "test")
    with pytest.raises(PaSEError, match="'v0' is in both the train and the test split"):
        FeatureTable.build([*utterances(), leak], SCHEMA).check_splits()
    strange = Utterance("u9", "v9", "dev")
    with pytest.raises(PaSEError, match="'dev'"):
        FeatureTable.build([*utterances(), strange], SCHEMA).check_splits()


def test_nonfinite_values_stay_and_are_counted():
    broken = np.array([[np.nan, 1], [-np.inf, np.inf], [0, 0]])
    table = FeatureTable.build([*utterances(), Utterance("u9", "v0", "train", {}, {"audio": broken})], SCHEMA)
    counts = table.nonfinite()
    assert counts["audio"] == {"values": 3, "rows": 1, "total": 2 * (1 + 3 + 1 + 2 + 3 + 1 + 3)}
    assert counts["face"]["values"] == 0
    np.testing.assert_array_equal(table.sequences("audio")[7], broken)


def test_the_description_of_a_table_is_json(tmp_path):
    FeatureTable.build(utterances(), SCHEMA, path=tmp_path / "t")
    description = json.loads((tmp_path / "t" / META).read_text())
    assert description["schema"]["modalities"] == {"audio": 2, "face": 3}
