"""Pickles of conversations (MMGCN) and of tuples (MAG-BERT): their kin, what is left out, and what is refused."""

import pickle

import numpy as np
import pytest

from pase_msa.data import open_table
from pase_msa.data.opening import open_data
from pase_msa.data.reading import class_names
from pase_msa.errors import PaSEError
from tests.data.examples import dump, mag_bert_example, mmgcn_example


def changed(example, change):
    content = pickle.loads(example.path.read_bytes())
    return dump(example.path, change(content) or content)


def test_labels_of_a_second_kind_are_a_label_of_their_own(tmp_path):
    table = open_table(mmgcn_example(tmp_path, kinds=2, meld=True).path)
    assert table.modalities == {"text": 4, "audio": 3}
    assert table.labels("sentiment") == ["1", "2", "0", "1"]
    assert table.meta["roles"]["labels"] == [
        "part 3 of the pickle (classes, as emotion)",
        "part 9 of the pickle (classes, as sentiment)",
    ]


def test_a_valid_split_can_be_drawn_from_conversations(tmp_path):
    path = mmgcn_example(tmp_path).path
    assert "no valid split" in open_table(path).meta["notes"][0]
    table = open_data(path, split="auto")
    assert sorted(set(table.splits)) == ["test", "train", "valid"]
    table.check_splits()


def test_a_conversation_in_both_sets_is_refused(tmp_path):
    path = changed(mmgcn_example(tmp_path), lambda content: (*content[:-1], {"a", "c"}))
    with pytest.raises(PaSEError, match="video 'a' is in the train and in the test set"):
        open_table(path)


def test_labels_that_are_fewer_than_the_utterances_are_named(tmp_path):
    path = changed(mmgcn_example(tmp_path), lambda content: content[2].update(a=[0]))
    with pytest.raises(PaSEError, match="conversation 'a' has 2 utterances, but a part of the file holds 1"):
        open_table(path)


def test_vectors_of_another_size_are_named(tmp_path):
    path = changed(mmgcn_example(tmp_path), lambda content: content[4].update(b=[np.ones(9, np.float32)]))
    with pytest.raises(PaSEError, match=r"audio of 'b_F0' was to be 3 numbers, or frames of so many, found .*\(9,\)"):
        open_table(path)


@pytest.mark.parametrize("label", [[0], np.array([3]), np.int64(2), np.array(1), None])
def test_a_label_may_be_an_array_of_one(tmp_path, label):
    """Whatever holds one number is one; what is nested deeper is named."""
    values = class_names(tmp_path, [label, 0])
    assert values is None or values[0] is not None
    with pytest.raises(PaSEError, match="labels were to be names or numbers, found a tuple"):
        class_names(tmp_path, [label, ((0,), (1, 2))])


def test_words_may_stand_behind_their_numbers(tmp_path):
    example = mag_bert_example(tmp_path, numbers=True)
    table = open_table(example.path)
    assert table.texts == example.texts
    assert table.modalities == {"vision": 4, "audio": 3}


def test_numbers_of_words_are_left_over(tmp_path):
    def without_words(content):
        for rows in content.values():
            rows[:] = [(parts[:3], *rest) for parts, *rest in rows]

    table = open_table(changed(mag_bert_example(tmp_path, numbers=True), without_words))
    assert table.texts is None
    assert table.meta["roles"]["left over"] == ["the words (numbers of a dictionary)"]


def test_without_segments_each_utterance_is_a_video(tmp_path):
    example = mag_bert_example(tmp_path, segments=False)
    table = open_table(example.path)
    assert table.videos == example.videos == table.ids
    assert table.meta["notes"] == ["Utterances without a segment count as a video of their own."]


def test_labels_of_seven_values_are_sentiment_and_six_emotions(tmp_path):
    table = open_table(mag_bert_example(tmp_path, emotions=True).path)
    assert table.labels("sentiment") == [1.5, 0.0, -2.0, 1.0]
    assert table.labels("happy") == [1.0] * 4
    assert table.labels("surprise") == [2.0] * 4


def test_lengths_behind_the_words_cut_the_padding(tmp_path):
    def with_lengths(content):
        for rows in content.values():
            rows[:] = [((*parts, [], 1, len(parts[2])), *rest) for parts, *rest in rows]

    table = open_table(changed(mag_bert_example(tmp_path), with_lengths))
    assert table.sequences("vision").lengths.tolist() == [1] * 4
    assert table.sequences("audio").lengths.tolist() == [2, 0, 3, 2]


def test_an_entry_of_another_structure_is_numbered(tmp_path):
    path = changed(mag_bert_example(tmp_path), lambda content: content["train"].append("oops"))
    with pytest.raises(PaSEError, match="entry 2 of the train split was to be"):
        open_table(path)


def test_two_parts_that_are_one_split_are_refused(tmp_path):
    path = changed(mag_bert_example(tmp_path), lambda content: content.update(valid=content["dev"]))
    with pytest.raises(PaSEError, match="two parts that are one split"):
        open_table(path)
