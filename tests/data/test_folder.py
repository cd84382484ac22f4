"""The folder format, and opening whatever a path holds."""

import numpy as np
import pytest

from pase_msa.data import open_table
from pase_msa.errors import PaSEError

CSV = """id,video,clip,split,score,mood,text
a1,a,1,train,1.5,glad,"HELLO, YOU"
a2,a,2,train,,sad,
b1,b,1,test,-2,,BYE
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "utterances.csv").write_text(CSV, encoding="utf-8")
    np.save(tmp_path / "audio.npy", np.array([[1.0, np.nan], [3, 4], [5, -np.inf]], np.float32))
    np.save(tmp_path / "vision.npy", np.arange(15, dtype=np.float64).reshape(5, 3))
    np.save(tmp_path / "vision_lengths.npy", np.array([2, 0, 3]))
    return tmp_path


def test_vectors_frames_absence_labels_and_text(folder):
    table = open_table(folder)
    assert table.meta["format"] == "folder"
    assert table.modalities == {"audio": 2, "vision": 3}
    assert table.ids == ["a1", "a2", "b1"]
    assert table.videos == ["a", "a", "b"]
    assert table.splits.tolist() == ["train", "train", "test"]
    assert table.schema.labels == {"score": "real", "mood": "class"}
    assert table.labels("score") == [1.5, None, -2.0]
    assert table.labels("mood") == ["glad", "sad", None]
    assert table.texts == ["HELLO, YOU", None, "BYE"]
    np.testing.assert_array_equal(table.sequences("audio")[2], [[5, -np.inf]])
    assert table.sequences("vision").present.tolist() == [True, False, True]
    np.testing.assert_array_equal(table.sequences("vision")[2], np.arange(6, 15).reshape(3, 3))


def test_conversion_streams_to_a_table_that_opens_the_same(folder, tmp_path):
    out = tmp_path / "out"
    assert open_table(folder, out=out).fingerprint() == open_table(folder).fingerprint()
    assert open_table(out).fingerprint() == open_table(folder).fingerprint()
    assert open_table(out, out=tmp_path / "again").fingerprint() == open_table(folder).fingerprint()


def test_a_byte_order_mark_and_missing_columns_do_no_harm(tmp_path):
    (tmp_path / "utterances.csv").write_text("\ufeffid,score\nx,1\ny,2\n", encoding="utf-8")
    table = open_table(tmp_path)
    assert table.videos == ["x", "y"]
    assert table.splits.tolist() == ["", ""]
    assert table.texts is None


def test_a_row_that_ends_early_has_unknown_cells(folder):
    (folder / "utterances.csv").write_text(CSV + "c1,c\n", encoding="utf-8")
    for name in ("audio", "vision", "vision_lengths"):
        (folder / f"{name}.npy").unlink()
    table = open_table(folder)
    assert table.labels("score")[3] is None
    assert table.labels("mood")[3] is None
    assert table.splits[3] == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: np.save(f / "audio.npy", np.zeros((2, 2))), ["audio.npy", "2 rows", "3 utterances", "1 each"]),
        (lambda f: np.save(f / "vision_lengths.npy", np.array([2, 2, 2])), ["vision.npy", "add up to 6"]),
        (lambda f: np.save(f / "vision_lengths.npy", np.array([-1, 3, 3])), ["vision_lengths.npy"]),
        (lambda f: np.save(f / "audio.npy", np.zeros((3, 2, 2))), ["audio.npy", "(3, 2, 2)"]),
        (lambda f: np.save(f / "audio.npy", np.array([None] * 3), allow_pickle=True), ["audio.npy", "Python objects"]),
        (lambda f: (f / "audio.npy").write_bytes(b""), ["audio.npy"]),
        (lambda f: (f / "audio.npy").write_bytes(b"not an array"), ["audio.npy"]),
        (lambda f: np.save(f / "audio.npy", np.array([["a"], ["b"], ["c"]])), ["'a1'", "numbers"]),
        (lambda f: (f / "utterances.csv").write_text("id,id\nx,y\n"), ["'id'", "two columns"]),
        (lambda f: (f / "utterances.csv").write_text("id\n"), ["no rows"]),
        (lambda f: (f / "utterances.csv").write_bytes(b"id,text\nx,caf\xe9\n"), ["UTF-8"]),
        (lambda f: (f / "utterances.csv").write_text(CSV.replace("a2", "a1")), ["'a1' stands there twice"]),
    ],
)
def test_each_fault_of_a_folder_is_named(folder, change, words):
    change(folder)
    with pytest.raises(PaSEError) as caught:
        open_table(folder)
    for word in words:
        assert word in str(caught.value)


def test_a_path_without_a_readable_format_is_refused(tmp_path):
    with pytest.raises(PaSEError, match="There is no"):
        open_table(tmp_path / "nowhere")
    with pytest.raises(PaSEError, match="no format that has a reader here"):
        open_table(tmp_path)
    with pytest.raises(PaSEError, match=r"a CSV file, found none"):
        open_table(tmp_path, format="folder")
    with pytest.raises(PaSEError, match="did you mean 'folder'"):
        open_table(tmp_path, format="foldr")
