"""Labels become classes and classes become scores, and the two maps are each other's inverse."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.errors import PaSEError
from pase_msa.task import Task

steady = settings(derandomize=True, deadline=None, max_examples=60)
MOSI = Task.regression(("text", "audio"), -3.0, 3.0)
EMOTIONS = Task.classification(("text",), ("sad", "calm", "glad"))


def test_a_label_between_two_classes_belongs_to_both_by_its_distance():
    found = MOSI.membership(torch.tensor([1.25, -0.5, 2.0]))
    expected = torch.zeros(3, 7)
    expected[0, 4], expected[0, 5] = 0.75, 0.25
    expected[1, 2], expected[1, 3] = 0.5, 0.5
    expected[2, 5] = 1.0
    assert torch.allclose(found, expected)


@steady
@given(st.floats(-50, 50), st.floats(0.5, 50), st.integers(2, 12), st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_the_score_of_a_membership_is_the_label(low, span, classes, shares):
    task = Task.regression(("text",), low, low + span, num_classes=classes)
    labels = torch.tensor([low + span * share for share in shares])
    membership = task.membership(labels)
    assert torch.allclose(membership.sum(1), torch.ones(len(labels)), atol=1e-6)
    assert (membership >= 0).all()
    assert ((membership > 0).sum(1) <= 2).all()
    assert torch.allclose(task.score(membership), labels, atol=1e-4 * max(1, abs(low) + span))


@pytest.mark.parametrize(("label", "column"), [(-3.0, 0), (3.0, 6), (-17.5, 0), (1e9, 6), (float("inf"), 6)])
def test_labels_at_and_beyond_the_ends_belong_to_the_outermost_class(label, column):
    expected = torch.zeros(1, 7)
    expected[0, column] = 1
    assert torch.equal(MOSI.membership(torch.tensor([label])), expected)


def test_integer_labels_are_scores_too():
    assert torch.equal(MOSI.membership(torch.tensor([-3, 0])).argmax(1), torch.tensor([0, 3]))


def test_double_labels_are_taken():
    assert torch.allclose(MOSI.score(MOSI.membership(torch.tensor([0.7], dtype=torch.float64))), torch.tensor([0.7]))


def test_classes_are_one_hot():
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert torch.equal(EMOTIONS.membership(torch.tensor([2.0, 0.0])), expected)


def test_an_empty_batch_has_an_empty_membership():
    assert MOSI.membership(torch.zeros(0)).shape == (0, 7)
    assert EMOTIONS.membership(torch.zeros(0)).shape == (0, 3)


def test_the_score_is_the_expectation_and_can_be_differentiated():
    probabilities = torch.full((2, 7), 1 / 7, requires_grad=True)
    score = MOSI.score(probabilities)
    assert torch.allclose(score, torch.zeros(2), atol=1e-6)
    score.sum().backward()
    assert torch.allclose(probabilities.grad[0], torch.arange(-3.0, 4.0))


@pytest.mark.parametrize(
    ("low", "high", "count"),
    [(-3, 3, 7), (-1, 1, 7), (1, 5, 5), (0, 10, 11), (0, 100, 7), (-2.5, 2.5, 6), (0, 4.5, 7), (0, 3, 7)],
)
def test_classes_are_the_integers_of_the_range_where_that_is_a_fair_number(low, high, count):
    task = Task.regression(("text",), low, high)
    assert task.num_classes == count
    assert task.values[0] == low
    assert task.values[-1] == pytest.approx(high)


def test_the_centre_divides_negative_from_positive():
    assert MOSI.center == 0
    assert Task.regression(("text",), 1, 5).center == 3


def test_a_task_survives_json():
    for task in (MOSI, EMOTIONS):
        assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_other_modalities_are_another_task():
    assert MOSI.with_modalities(["audio"]).modalities == ("audio",)
    assert MOSI.modalities == ("text", "audio")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Task("ranking", ("text",), ("a", "b")), "not 'ranking'"),
        (lambda: Task.classification((), ("a", "b")), "one or more distinct modalities"),
        (lambda: Task.classification(("text", "text"), ("a", "b")), "one or more distinct modalities"),
        (lambda: Task.classification(("text",), ("a",)), "two or more distinct classes, found ['a']"),
        (lambda: Task.classification(("text",), ("a", "a")), "two or more distinct classes"),
        (lambda: Task.regression(("text",), 3, -3), "low < high"),
        (lambda: Task.regression(("text",), 0, float("inf")), "both finite"),
        (lambda: Task.regression(("text",), float("nan"), 1), "both finite"),
        (lambda: Task.regression(("text",), 0, 1, num_classes=1), "2 or more, found 1"),
        (lambda: Task("regression", ("text",), ("a", "b")), "one increasing value per class"),
        (lambda: Task("regression", ("text",), ("a", "b"), (1.0, 1.0)), "one increasing value per class"),
        (lambda: Task("regression", ("text",), ("a", "b"), (1.0, 2.0, 3.0)), "one increasing value per class"),
        (lambda: EMOTIONS.score(torch.ones(1, 3)), "has no score"),
    ],
)
def test_a_bad_task_is_refused_in_a_sentence(call, words):
    with pytest.raises(PaSEError) as caught:
        call()
    assert words in str(caught.value)
