"""Computational sequences: averaged over words, cut by labels, from one file or several."""

import json

import h5py
import numpy as np
import pytest

from pase_msa.data import open_table
from pase_msa.data.inspect import inspect_table
from pase_msa.errors import PaSEError
from tests.data.examples import AUDIO, OPINIONS, WORDS, csd, sequence


def test_csd_is_averaged_over_words_and_cut_by_labels(tmp_path):
    folder = csd(tmp_path / "csd")
    (folder / "splits.json").write_text(json.dumps({"train": ["v1"], "dev": ["v2"]}))
    table = open_table(folder)
    assert table.meta["format"] == "csd"
    assert table.modalities == {"COVAREP": 2, "FACET_4_2": 1}
    assert table.ids == ["v1[0]", "v1[1]", "v2[0]"]
    assert table.videos == ["v1", "v1", "v2"]
    assert table.splits.tolist() == ["train", "train", "valid"]
    assert table.labels("sentiment") == [2.0, -1.0, 0.5]
    assert table.texts == ["I like it", "really", None]
    np.testing.assert_allclose(table.sequences("COVAREP")[0][:, 0], [0.5, 7.0, 12.0])
    np.testing.assert_allclose(table.sequences("COVAREP")[1], [[24.5, 245.0]])
    assert table.sequences("FACET_4_2").present.tolist() == [False, True, False]
    np.testing.assert_allclose(table.sequences("FACET_4_2")[1], [[2.0]])
    assert table.sequences("COVAREP")[2] is None


def test_csd_by_word_vectors_drops_pauses_and_splits_come_from_csv(tmp_path):
    vectors = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    folder = csd(tmp_path / "csd", words=(WORDS[0], vectors), name="glove_vectors")
    (folder / "splits.csv").write_text("video,split\nv1,test\nv2,train\n")
    table = open_table(folder)
    np.testing.assert_allclose(table.sequences("glove_vectors")[0], vectors[[0, 2, 3]])
    np.testing.assert_allclose(table.sequences("COVAREP")[0][:, 0], [0.5, 7.0, 12.0])
    assert table.splits.tolist() == ["test", "test", "train"]
    assert table.texts is None


def test_csd_without_words_keeps_each_rate_and_entries_may_be_parts(tmp_path):
    parts = (np.array(OPINIONS[0][:1]), OPINIONS[1][:1])
    table = open_table(csd(tmp_path / "csd", words=None, labels=parts, label_key="v1[7]"))
    assert table.ids == ["v1[7]", "v2[0]"]
    assert table.sequences("COVAREP").lengths.tolist() == [15, 0]
    assert table.splits.tolist() == ["", ""]
    assert "define no splits" in table.meta["notes"][0]
    assert inspect_table(table)["splits"][""]["utterances"] == 2


def test_csd_in_one_file_with_named_labels(tmp_path):
    path = tmp_path / "mosei.hdf5"
    with h5py.File(path, "w") as file:
        sequence(file, "All Labels", {"v1": ([[0.0, 3.0]], np.arange(7.0)[None])}, nested=False)
        sequence(file, "COVAREP", {"v1[0]": (AUDIO[0][:5], AUDIO[1][:5]), "v1[1]": (AUDIO[0][5:], AUDIO[1][5:])}, False)
    table = open_table(path)
    assert list(table.schema.labels) == ["sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear"]
    assert table.labels("anger") == [3.0]
    assert table.sequences("COVAREP").lengths.tolist() == [30]
    with h5py.File(path, "w") as file:
        sequence(file, "labels", {"v1": ([[0.0, 3.0]], np.arange(2.0)[None])}, dimensions=["arousal", "valence"])
        sequence(file, "COVAREP", {"v1": AUDIO})
    assert open_table(path).labels("valence") == [1.0]


def test_csd_without_labels_is_refused(tmp_path):
    folder = csd(tmp_path / "csd")
    (folder / "labels.csd").unlink()
    with pytest.raises(PaSEError, match="'label' in its name"):
        open_table(folder)
    (folder / "covarep.csd").write_bytes(b"<html>not found</html>")
    with pytest.raises(PaSEError, match=r"covarep\.csd was to be HDF5"):
        open_table(folder)
