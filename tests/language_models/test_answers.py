"""What a language model meant."""

import pytest

from pase_msa.language_models.answers import ParsedAnswer, parse_answer
from pase_msa.language_models.prompts import instruction, messages
from pase_msa.task import Task

SCORE = Task.regression(("text",), -3, 3, label="sentiment")
FEELING = Task.classification(("text",), ("happy", "sad", "very happy"), label="emotion")
SHORT = Task.classification(("text",), ("hap", "sad", "ang", "neu"), label="emotion")


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("1.5", 1.5),
        (" -2 ", -2),
        ("+1", 1),
        ("−0.6", -0.6),
        ("1,4", 1.4),
        (".5", 0.5),
        ("**-1.0**", -1),
        ("Score: 2.0", 2),
        ("Rating = -1.2.", -1.2),
        ("The sentiment is 0.8.", 0.8),
        ("I would rate this as a -2.4, since the speaker is bored.", -2.4),
        ("1.6 out of 3", 1.6),
        ("2/3", 2),
        ("On a scale from -3 to 3 I would say 1.8", 1.8),
        ("In [-3, 3]: 0.4", 0.4),
        ("It has 2 parts and between -3 and 3 the score is 1", 1),
        ("1.0\n\nThe speaker says 2 nice things.", 1),
        ("The score is 1. No, on reflection the score is 2.", 2),
        ('{"score": -1.4, "confidence": 0.9}', -1.4),
        ('```json\n{"sentiment": "2.2"}\n```', 2.2),
        ("<think>Perhaps 3, perhaps 1.</think>\n-1", -1),
        ("minus two", -2),
        ("Negative one point five.", -1.5),
        ("two and a half", 2.5),
        ("minus 1.5", -1.5),
        ("Neutral.", 0),
        ("I cannot be sure, but the score is 1", 1),
    ],
)
def test_scores(answer, value):
    assert parse_answer(SCORE, answer) == ParsedAnswer("answered", pytest.approx(value))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("4", "out_of_range"),
        ("-3.5", "out_of_range"),
        ('{"score": 80}', "out_of_range"),
        ("", "unreadable"),
        (None, "unreadable"),
        ("<think>it could be 2", "unreadable"),
        ("positive", "unreadable"),
        ("Between 1 and 2", "unreadable"),
        ("either 1 or 2", "unreadable"),
        ("one of the best films that I have ever seen in my life", "unreadable"),
        ("{broken", "unreadable"),
        ("90%", "unreadable"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("As an AI language model, I have no opinions.", "refused"),
        ("I cannot rate this 2 minute clip.", "refused"),
        ("I am not able to determine the sentiment.", "refused"),
    ],
)
def test_no_score(answer, status):
    assert parse_answer(SCORE, answer) == ParsedAnswer(status)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("sad", "sad"),
        ("Happy.", "happy"),
        ("VERY HAPPY", "very happy"),
        ("The speaker is clearly sad here.", "sad"),
        ('{"emotion": "very happy"}', "very happy"),
        ("The speaker is not happy but sad", "sad"),
        ("This isn't happy, it is sad", "sad"),
        ("It could be happy or sad. Answer: sad", "sad"),
        ("sad\nThe speaker would like to be happy.", "sad"),
    ],
)
def test_classes(answer, name):
    assert parse_answer(FEELING, answer) == ParsedAnswer("answered", FEELING.classes.index(name))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("happy or sad", "unreadable"),
        ("bored", "unreadable"),
        ("not sad", "unreadable"),
        ("I can't classify", "refused"),
    ],
)
def test_no_class(answer, status):
    assert parse_answer(FEELING, answer) == ParsedAnswer(status)


def test_shortened_names_are_found_in_the_words_that_they_stand_for():
    assert [parse_answer(SHORT, word).value for word in ("happiness", "Angry", "neutral", "sad")] == [0, 2, 3, 1]


def test_the_task_is_put_in_words():
    assert "from -3 (most negative) over 0 (neutral) to 3" in instruction(SCORE)
    assert "happy, sad, very happy" in instruction(FEELING)


def test_examples_are_turns_of_the_conversation():
    turns = messages(SCORE, "nice", [("awful", "-3")])
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert [turn["content"] for turn in turns[1:]] == ["awful", "-3", "nice"]
