"""What is collected over a validation pass of several coalitions."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.heldout.validation import ValidationCoalitions, outputs_of
from pase_msa.shapley import coalitions
from tests.toys import NAMES, rows_of, toy_batch, toy_model, toy_reference, toy_task

steady = settings(derandomize=True, deadline=None, max_examples=25)
COALITIONS = coalitions(NAMES)
EVERYONE = [frozenset(NAMES)]


def passed(batches, kind="regression", reference=False):
    """What is collected over some batches, and the model that predicted."""
    model, closed_form = toy_model(kind=kind).eval(), toy_reference(kind) if reference else None
    collected = ValidationCoalitions(model.task, COALITIONS)
    with torch.no_grad():
        for batch in batches:
            collected.add(model.network_coalitions(batch, COALITIONS), batch, closed_form)
    return collected, model


def numbered(videos):
    return dataclasses.replace(toy_batch(n=len(videos)), videos=torch.tensor(videos))


def halved(*batches):
    """Videos and halves of some batches, whatever is predicted."""
    collected = ValidationCoalitions(toy_task(), EVERYONE)
    for batch in batches:
        collected.add([outputs_of(toy_task(), torch.full((len(batch), 7), 1 / 7))], batch)
    return collected.predictions()


@pytest.mark.parametrize(("kind", "classes"), [("regression", 7), ("classification", 3)])
def test_every_coalition_has_probabilities_of_every_utterance_in_order(kind, classes):
    whole = toy_batch(kind, n=12)
    collected, model = passed([rows_of(whole, slice(0, 5)), rows_of(whole, slice(5, 12))], kind, reference=True)
    result = collected.predictions()
    assert result.probabilities.shape == (8, 12, classes)
    with torch.no_grad():
        wanted = torch.stack([output.probabilities for output in model.network_coalitions(whole, COALITIONS)])
    assert torch.allclose(result.probabilities, wanted, atol=1e-6)
    assert torch.allclose(result.reference[0], toy_reference(kind)(whole, EVERYONE)[0], atol=1e-6)
    assert torch.equal(result.membership, toy_task(kind).membership(whole.labels))
    assert torch.equal(result.videos, whole.videos)
    assert torch.equal(collected.labels, whole.labels)


def test_without_a_reference_there_is_none():
    assert passed([toy_batch()])[0].predictions().reference is None


@steady
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_a_video_is_in_one_half_and_the_halves_have_as_many(videos):
    result = halved(numbered(videos))
    half = {}
    for video, number in zip(result.videos.tolist(), result.halves.tolist(), strict=True):
        assert half.setdefault(video, number) == number
    assert set(half.values()) <= {0, 1}
    assert abs(2 * sum(half.values()) - len(half)) <= 1


@steady
@given(st.lists(st.integers(0, 9), min_size=2, max_size=30), st.data())
def test_neither_the_order_nor_the_batches_change_the_halves(videos, data):
    order = data.draw(st.permutations(range(len(videos))))
    cut = data.draw(st.integers(1, len(videos) - 1))
    batch = numbered(videos)
    mixed = rows_of(batch, torch.tensor(order))
    one = halved(batch)
    two = halved(rows_of(mixed, slice(0, cut)), rows_of(mixed, slice(cut, None)))
    assert torch.equal(two.halves, one.halves[order])


def test_halves_do_not_follow_the_numbers_of_the_videos():
    """Numbers may follow an order that means something: one speaker after the other, one topic after the other."""
    halves = halved(numbered(list(range(40)))).halves
    changes = int((halves.diff() != 0).sum())
    assert 5 < changes < 35
    assert 5 < int(halves[:20].sum()) < 15


def test_utterances_of_unknown_video_are_videos_of_their_own():
    unknown = dataclasses.replace(toy_batch(n=6), videos=None)
    result = halved(numbered([3, 3, 4]), unknown, unknown)
    assert result.videos[:3].tolist() == [3, 3, 4]
    assert len(set(result.videos.tolist())) == 14
    assert set(result.halves.tolist()) == {0, 1}


def test_a_new_pass_begins_empty():
    collected, model = passed([toy_batch()], reference=True)
    collected.reset()
    batch = toy_batch(n=8, seed=3)
    with torch.no_grad():
        collected.add(model.network_coalitions(batch, COALITIONS), batch)
    assert collected.predictions().probabilities.shape == (8, 8, 7)
    assert collected.predictions().reference is None


def test_outputs_of_probabilities_have_their_score_and_their_logits():
    probabilities = torch.tensor([[0.0, 0, 0, 0.5, 0.5, 0, 0], [1.0, 0, 0, 0, 0, 0, 0]])
    result = outputs_of(toy_task(), probabilities)
    assert torch.equal(result.score, torch.tensor([0.5, -3.0]))
    assert result.logits.isfinite().all()
    assert torch.allclose(result.logits.softmax(1), probabilities)


def test_outputs_of_classes_have_no_score():
    assert outputs_of(toy_task("classification"), torch.full((2, 3), 1 / 3)).score is None
