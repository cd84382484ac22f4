"""Further columns from a CSV file, joined by id, and the order of a video's utterances."""

import numpy as np
import pytest

from pase_msa.cli.main import main
from pase_msa.data import open_table
from pase_msa.data.joining import in_order, join_columns, matching
from pase_msa.errors import PaSEError

OWN = "id,video,split,score\na1,a,train,1\na2,a,train,\nb1,b,valid,-2\n"
EXTRA = "id,speaker,start,session\nb1,ann,0.5,two\na2,,7.5,one\na1,bob,9.25,one\n"
WHOLE = (
    "id,video,split,score,speaker,start,session\n"
    "a1,a,train,1,bob,9.25,one\na2,a,train,,,7.5,one\nb1,b,valid,-2,ann,0.5,two\n"
)


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path / "data", OWN)


def written(folder, text):
    folder.mkdir()
    (folder / "utterances.csv").write_text(text)
    np.save(folder / "audio.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    return folder


def joined(folder, text, take=None):
    (folder / "extra.csv").write_text(text)
    return join_columns(open_table(folder), folder / "extra.csv", take)


def test_joined_columns_are_as_if_they_had_been_there(folder, tmp_path):
    whole = open_table(written(tmp_path / "whole", WHOLE))
    table = joined(folder, EXTRA)
    assert table.fingerprint() == whole.fingerprint()
    assert table.speakers == ["bob", None, "ann"]
    assert table.labels("start") == [9.25, 7.5, 0.5]


def test_only_the_named_columns_are_joined(folder):
    table = joined(folder, EXTRA, ["speaker"])
    assert list(table.schema.labels) == ["score"]
    assert table.speakers == ["bob", None, "ann"]


def test_splits_and_videos_are_joined_where_there_are_none(tmp_path):
    table = joined(written(tmp_path / "bare", "id,score\na1,1\na2,2\nb1,3\n"), OWN, ["video", "split"])
    assert table.videos == ["a", "a", "b"]
    assert table.splits.tolist() == ["train", "train", "valid"]


def test_rows_that_are_no_utterance_are_left_out_with_a_note(folder):
    table = joined(folder, EXTRA + "c1,eve,1,two\n")
    assert len(table) == 3
    assert any("Rows of extra.csv without an utterance here: 1." in note for note in table.meta["notes"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speaker\nann\n", ["no column 'id'"]),
        ("id\na1\n", ["nothing to join"]),
        (EXTRA + "a1,eve,1,two\n", ["line 5", "'a1' stands there twice"]),
        ("id,speaker\na1,bob\nb1,ann\n", ["lacks 1 of 3", "'a2'"]),
        ("id,score\na1,1\na2,\nb1,2\n", ["score of 'b1' is 2.0", "-2.0 in the table"]),
        ("id,split\na1,train\na2,train\nb1,test\n", ["split of 'b1' is 'test'"]),
        ("id,audio\na1,x\na2,x\nb1,y\n", ["'audio' has the name of another column"]),
    ],
)
def test_columns_that_do_not_fit_are_refused(folder, text, words):
    with pytest.raises(PaSEError) as caught:
        joined(folder, text)
    assert all(word in str(caught.value) for word in words)


def test_a_misspelt_column_gets_the_nearest_name(folder):
    with pytest.raises(PaSEError, match="did you mean 'speaker'"):
        joined(folder, EXTRA, ["speakers"])


def test_the_order_is_by_time_within_a_video(folder):
    table = in_order(joined(folder, EXTRA), "start")
    assert table.ids == ["a2", "a1", "b1"]
    np.testing.assert_array_equal(table.sequences("audio")[0], [[2, 3]])
    with pytest.raises(PaSEError, match="score is unknown for 1 of 3 utterances, such as 'a2'"):
        in_order(open_table(folder), "score")


def test_convert_joins_orders_and_says_so(folder, tmp_path, capsys):
    (folder / "extra.csv").write_text(EXTRA)
    words = ["--columns", str(folder / "extra.csv"), "--take", "speaker", "--order", "start"]
    assert main(["convert", str(folder), str(tmp_path / "out"), *words]) == 0
    table = open_table(tmp_path / "out")
    assert table.ids == ["a2", "a1", "b1"]
    assert table.speakers == [None, "bob", "ann"]
    assert list(table.schema.labels) == ["score"]
    assert "note: Joined from extra.csv: speaker." in capsys.readouterr().out
    assert main(["convert", str(folder), str(tmp_path / "more"), "--take", "speaker"]) == 2
    assert "--columns" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("video=^a$", ["a1", "a2"]),
        ("id=1", ["a1", "b1"]),
        ("speaker=.", ["a1", "b1"]),
        ("score=-", ["b1"]),
        ("split=train", ["a1", "a2"]),
    ],
)
def test_some_utterances_are_kept_with_all_that_they_have(condition, ids, tmp_path):
    table = open_table(written(tmp_path / "whole", WHOLE))
    kept = matching(table, condition)
    assert kept.ids == ids
    rows = [table.ids.index(identity) for identity in ids]
    assert kept.fingerprint() == table.select(rows).fingerprint()


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("video", "COLUMN=PATTERN"),
        ("=a", "COLUMN=PATTERN"),
        ("video=(", "regular expression"),
        ("vidoe=a", "did you mean 'video'"),
        ("text=a", "'text'"),
        ("video=z", "No utterance"),
    ],
)
def test_conditions_that_keep_nothing_are_refused(condition, words, folder):
    with pytest.raises(PaSEError, match=words):
        matching(open_table(folder), condition)


def test_convert_keeps_some_utterances(folder, tmp_path, capsys):
    assert main(["convert", str(folder), str(tmp_path / "out"), "--where", "video=a"]) == 0
    assert "2 utterances in" in (printed := capsys.readouterr().out)
    assert "Those of 3 utterances whose video matches 'a': 2." in printed
