"""The list of clips from a folder, a manifest or a file."""

import pytest

from pase_msa import PaSEError
from pase_msa.media.manifest import read_clips


def test_a_folder_at_any_depth(tmp_path):
    for name in ("b/two.mp4", "b/two.txt", "one.wav", "three.txt", "notes.md", "one.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("said")
    items, kinds = read_clips(tmp_path)
    assert kinds == {}
    assert {item.id: item.text for item in items} == {"b/two": "said", "one.mp4": None, "one.wav": None, "three": None}
    assert next(item for item in items if item.id == "three").path.name == "three.txt"


def test_a_manifest(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text(
        "path,video,split,sentiment,emotion,text,start,end\n"
        "a.mp4,v1,train,1.5,happy,,0,2.5\n"
        "a.mp4,v1,train,,sad,,2.5,\n"
        ",v2,valid,-1,,only said,,\n"
    )
    items, kinds = read_clips(path)
    assert kinds == {"sentiment": "real", "emotion": "class"}
    first, second, third = items
    assert (first.id, first.path, first.video, first.split) == ("a_0", tmp_path / "a.mp4", "v1", "train")
    assert (first.start, first.end, second.start, second.end) == (0.0, 2.5, 2.5, None)
    assert first.labels == {"sentiment": 1.5, "emotion": "happy"}
    assert second.labels == {"sentiment": None, "emotion": "sad"}
    assert (third.path, third.text) == (None, "only said")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("file\na.mp4\n", "needs a column 'path'"),
        ("path\n", "no rows"),
        ("path,id\na.mp4,x\nb.mp4,x\n", "two clips with the id 'x'"),
        ("path,start\na.mp4,soon\n", "line 2: start must be seconds, found 'soon'"),
        ("path,text,start\n,,3\n", "line 2: a clip needs a path or a text"),
    ],
)
def test_a_mistaken_manifest_is_refused(content, sentence, tmp_path):
    (tmp_path / "clips.csv").write_text(content)
    with pytest.raises(PaSEError, match=sentence):
        read_clips(tmp_path / "clips.csv")


def test_nothing_there(tmp_path):
    with pytest.raises(PaSEError, match="There is no"):
        read_clips(tmp_path / "clips")
    with pytest.raises(PaSEError, match="holds no video, audio or text"):
        read_clips(tmp_path)


CONSENT = "path,id,consent\na.mp4,a,yes\nb.mp4,b,no\nc.mp4,c,\nd.mp4,d,TRUE\n"


def test_rows_without_consent_are_left_out_and_named(tmp_path, caplog):
    path = tmp_path / "clips.csv"
    path.write_text(CONSENT)
    with caplog.at_level("INFO", "pase_msa"):
        items, kinds = read_clips(path, require_consent=True)
    assert ([item.id for item in items], kinds) == (["a", "d"], {})
    assert caplog.messages == ["2 of 4 rows are left out, since they have no consent: line 3, line 4"]


def test_without_the_option_all_rows_are_read_and_said(tmp_path, caplog):
    path = tmp_path / "clips.csv"
    path.write_text(CONSENT)
    assert len(read_clips(path)[0]) == 4
    assert "2 of 4 rows have no consent (line 3, line 4) and are read all the same" in caplog.text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("path\na.mp4\n", "has no column 'consent'; add it"),
        ("path,consent\na.mp4,maybe\n", "line 2: consent is yes or no, found 'maybe'"),
        ("path,consent\na.mp4,no\n", "No clip of .* has consent"),
        (None, "Consent is stated in a manifest"),
    ],
)
def test_consent_that_is_required_must_be_stated(content, sentence, tmp_path):
    path = tmp_path
    if content is not None:
        path = tmp_path / "clips.csv"
        path.write_text(content)
    with pytest.raises(PaSEError, match=sentence):
        read_clips(path, require_consent=True)
