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
