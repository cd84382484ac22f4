"""Every published format, from small files of its shape (see `tests.data.examples`)."""

import numpy as np
import pytest

from pase_msa.data import open_table
from pase_msa.errors import PaSEError
from tests.data.examples import dump, filled, gcnet, mmsa, mult_part, write_h5

# --- MMSA


@pytest.mark.parametrize("aligned", [True, False])
def test_mmsa(tmp_path, aligned):
    data = mmsa(aligned)
    table = open_table(dump(tmp_path / "file.pkl", data))
    assert table.meta["format"] == "mmsa"
    assert table.modalities == {"text": 7, "audio": 2, "vision": 3}
    assert table.ids[:3] == ["a_b$_$1", "a_b$_$2", "c$_$1"]
    assert table.videos == ["a_b", "a_b", "c", "d", "d", "e", "e"]
    assert table.splits.tolist() == ["train"] * 3 + ["valid"] * 2 + ["test"] * 2
    assert table.schema.labels == {"sentiment": "real", "annotation": "class"}
    assert table.labels("sentiment") == [1.5, -2.0, 0.0, 1.5, -2.0, 1.5, -2.0]
    assert table.labels("annotation")[:3] == ["Positive", "Negative", "Neutral"]
    assert table.texts[0] == "text of a_b$_$1"
    assert table.sequences("text").lengths.tolist() == [4] * 7
    assert set(table.sequences("audio").lengths.tolist()) == {4 if aligned else 3}
    assert table.sequences("vision").present.tolist() == [True, True, False, True, False, True, False]
    assert table.sequences("vision").lengths[0] == (4 if aligned else 2)
    np.testing.assert_array_equal(table.sequences("audio")[3], data["valid"]["audio"][0, : 4 if aligned else 3])
    assert np.isneginf(table.sequences("audio")[0][1, 0])
    assert table.nonfinite()["audio"]["values"] == 1
    table.check_splits()


def test_mmsa_padding_in_front_is_seen(tmp_path):
    data = mmsa(True)
    for part in data.values():
        part["audio"] = np.roll(part["audio"], 2, axis=1)
    table = open_table(dump(tmp_path / "file.pkl", data))
    np.testing.assert_array_equal(table.sequences("audio")[3], data["valid"]["audio"][0, 2:])


def test_mmsa_without_lengths_loses_only_zeros_at_the_ends(tmp_path):
    data = mmsa(False)
    for part in data.values():
        for name in ("text_bert", "audio_lengths", "vision_lengths", "annotations", "raw_text"):
            del part[name]
        part["audio"][0, 1] = 0
    table = open_table(dump(tmp_path / "file.pkl", data))
    assert table.sequences("audio").lengths.tolist() == [3] * 7
    assert table.sequences("text").lengths.tolist() == [6] * 7
    assert table.texts is None
    assert table.schema.labels == {"sentiment": "real"}


def test_mmsa_labels_per_modality_and_numbered_ids(tmp_path):
    data = mmsa(False)
    for part in data.values():
        for letter in "TAV":
            part[f"regression_labels_{letter}"] = np.full(len(part["id"]), 0.4)
    data["test"]["id"] = ["e$_$1", "e$_$1"]
    table = open_table(dump(tmp_path / "file.pkl", data, 2))
    assert set(table.schema.labels) == {"sentiment", "sentiment_T", "sentiment_A", "sentiment_V", "annotation"}
    assert table.labels("sentiment_A") == [0.4] * 7
    assert table.ids[-2:] == ["e$_$1", "e$_$1#2"]
    assert "1 ids stood there more than once" in table.meta["notes"][0]


def test_mmsa_arrays_that_do_not_match_are_named(tmp_path):
    data = mmsa(False)
    data["valid"]["audio"] = data["valid"]["audio"][:1]
    with pytest.raises(PaSEError, match="valid split has 2 utterances but 1 of 'audio'"):
        open_table(dump(tmp_path / "file.pkl", data))
    del data["train"]["id"]
    with pytest.raises(PaSEError, match="train split needs 'id'"):
        open_table(dump(tmp_path / "file.pkl", data))


# --- MulT


def test_mult_scores(tmp_path):
    data = {}
    for split, video in (("train", b"v1"), ("valid", b"v2"), ("test", b"v3[0]")):
        data[split] = {**mult_part(2), "labels": np.array([[[0.6]], [[-3.0]]], np.float32)}
        data[split]["id"] = np.array([[video, b"0.0", b"1.5"], [video, b"1.5", b"2.0"]])
    data["train"]["audio"][0, 3, 1] = -np.inf
    data["test"]["vision"][1] = 0
    table = open_table(dump(tmp_path / "mosi_data.pkl", data, 2))
    assert table.meta["format"] == "mult"
    assert table.modalities == {"text": 4, "audio": 2, "vision": 3}
    assert table.ids[:2] == ["v1_0.0_1.5", "v1_1.5_2.0"]
    assert table.videos == ["v1", "v1", "v2", "v2", "v3", "v3"]
    assert table.schema.labels == {"sentiment": "real"}
    assert table.labels("sentiment")[:2] == pytest.approx([0.6, -3.0])
    assert table.sequences("text").lengths.tolist() == [3] * 6
    np.testing.assert_array_equal(table.sequences("text")[2], data["valid"]["text"][0, 2:5])
    assert table.sequences("vision").present.tolist() == [True] * 5 + [False]
    assert table.nonfinite()["audio"]["values"] == 1
    assert table.texts is None


@pytest.mark.parametrize("pairs", [True, False])
def test_mult_emotions(tmp_path, pairs):
    hot = np.array([[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    labels = np.stack([1 - hot, hot], axis=-1) if pairs else hot
    data = {split: {**mult_part(3), "labels": labels} for split in ("train", "valid", "test")}
    table = open_table(dump(tmp_path / "iemocap_data.pkl", data))
    assert table.ids[:3] == ["train_0", "train_1", "train_2"]
    assert table.videos == table.ids
    assert table.labels("happy")[:3] == [1.0, 0.0, 0.0]
    assert table.labels("angry")[:3] == [0.0, 1.0, 0.0]
    assert table.labels("emotion")[:3] == ["happy", None, None]
    assert table.schema.labels["emotion"] == "class"
    assert any("no ids" in note for note in table.meta["notes"])


def test_mult_labels_of_another_shape_are_refused(tmp_path):
    data = {"train": {**mult_part(2), "labels": np.zeros((2, 3, 5))}}
    with pytest.raises(PaSEError, match=r"\(2, 3, 5\)"):
        open_table(dump(tmp_path / "x.pkl", data))


# --- GCNet, MoMKE


@pytest.mark.parametrize("nested", [True, False])
def test_gcnet_scores(tmp_path, nested):
    labels = {"v1": [1.5, np.float64(-2.0), 0.0], "v2": [3.0], "v3": [-1.0]}
    table = open_table(gcnet(tmp_path, labels, nested=nested))
    assert table.meta["format"] == "gcnet"
    assert table.modalities == {"manet_UTT": 3, "wav2vec-large-c-UTT": 5}
    assert table.ids == ["u1", "u2", "u3", "w1", "x1"]
    assert table.videos == ["v1", "v1", "v1", "v2", "v3"]
    assert table.splits.tolist() == ["train"] * 3 + ["valid", "test"]
    assert table.labels("sentiment") == [1.5, -2.0, 0.0, 3.0, -1.0]
    assert table.texts[0] == "said u1"
    assert table.sequences("manet_UTT").lengths.tolist() == [4, 0, 2, 4, 0]
    np.testing.assert_array_equal(table.sequences("manet_UTT")[2][:, 0], [2, 3])
    assert table.sequences("wav2vec-large-c-UTT").lengths.tolist() == [1] * 5
    assert table.meta["notes"] == []


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        ([0, 1, 2, 3, 0], ["happy", "sad", "neutral", "angry", "happy"]),
        ([4, 5, 2, 3, 0], ["excited", "frustrated", "neutral", "angry", "happy"]),
        ([0, 1, 2, 1, 0], ["0", "1", "2", "1", "0"]),
    ],
)
def test_gcnet_emotions_without_a_valid_set(tmp_path, numbers, names):
    labels = {"v1": numbers[:3], "v2": [np.int64(numbers[3])], "v3": numbers[4:]}
    table = open_table(gcnet(tmp_path, labels, valid=False))
    assert table.labels("emotion") == names
    assert table.splits.tolist() == ["train"] * 4 + ["test"]
    assert "no valid split" in table.meta["notes"][0]


def test_gcnet_labels_that_do_not_match_are_named(tmp_path):
    with pytest.raises(PaSEError, match="video 'v1' has 3 utterances but 2 labels"):
        open_table(gcnet(tmp_path, {"v1": [1.0, 2.0], "v2": [1.0], "v3": [1.0]}))


# --- MFN


@pytest.mark.parametrize("pattern", ["{modality}_{split}.h5", "{split}_{modality}.h5"])
def test_mfn(tmp_path, pattern):
    made = {}
    for split in ("train", "valid", "test"):
        audio, video = filled(2, 5, 3), filled(2, 5, 4)
        audio[:, :2] = 0
        video[0] = 0
        made[split] = audio
        write_h5(tmp_path / pattern.format(modality="audio", split=split), audio)
        write_h5(tmp_path / pattern.format(modality="video", split=split), video)
        write_h5(tmp_path / f"text_{split}_emb.h5", filled(2, 5, 6))
        write_h5(tmp_path / f"text_{split}.h5", np.ones((2, 5), np.int64))
        write_h5(tmp_path / f"y_{split}.h5", np.array([1.5, 4.0]), "data")
    table = open_table(tmp_path)
    assert table.meta["format"] == "mfn"
    assert table.modalities == {"audio": 3, "video": 4, "text": 6}
    assert table.ids == ["train_0", "train_1", "valid_0", "valid_1", "test_0", "test_1"]
    assert table.labels("label") == [1.5, 4.0] * 3
    assert table.sequences("audio").lengths.tolist() == [3] * 6
    np.testing.assert_array_equal(table.sequences("audio")[2], made["valid"][0, 2:])
    assert table.sequences("video").present.tolist() == [False, True] * 3
    assert "no ids" in table.meta["notes"][0]


def test_mfn_of_one_joint_modality_and_several_labels(tmp_path):
    write_h5(tmp_path / "X_train.h5", filled(300, 2, 5), "data")
    write_h5(tmp_path / "y_train.h5", np.arange(600.0).reshape(300, 2), "data")
    table = open_table(tmp_path)
    assert table.modalities == {"X": 5}
    assert table.labels("label_1")[-1] == 599.0
    assert len(table) == 300


def test_mfn_that_does_not_match_is_named(tmp_path):
    write_h5(tmp_path / "audio_train.h5", filled(3, 2, 5))
    write_h5(tmp_path / "y_train.h5", np.zeros(2))
    with pytest.raises(PaSEError, match=r"y_train\.h5 has 2 labels, found \(3, 2, 5\)"):
        open_table(tmp_path)
    write_h5(tmp_path / "y_train.h5", np.zeros(3))
    write_h5(tmp_path / "audio_test.h5", filled(3, 2, 5))
    with pytest.raises(PaSEError, match=r"no y_test\.h5"):
        open_table(tmp_path)


# --- all


def test_a_hostile_pickle_is_refused_by_name_wherever_it_lies(tmp_path):
    path = tmp_path / "features.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "sentinel").encode() + b"'\ntR.")
    for target in (path, tmp_path):
        (tmp_path / "audio").mkdir(exist_ok=True)
        np.save(tmp_path / "audio" / "u.npy", np.zeros(1))
        with pytest.raises(PaSEError, match=r"os\.system"):
            open_table(target)
    assert not (tmp_path / "sentinel").exists()


def test_recognising_and_reading_parse_a_file_once(tmp_path, monkeypatch):
    from pase_msa.data import reading

    calls = []
    monkeypatch.setattr(reading, "load_pickle", lambda path: calls.append(path) or mmsa(False))
    path = dump(tmp_path / "file.pkl", {})
    open_table(path)
    assert calls == [path]
