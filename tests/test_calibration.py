from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error

from pase_msa.calibration import (
    confidence,
    correct,
    expected_calibration_error,
    fit_temperature,
    reliability,
    risk_coverage,
)
from pase_msa.errors import PaSEError
from pase_msa.task import Task

MOSI = Task.regression(["text"], -3, 3)
EMOTIONS = Task.classification(["text"], ["happy", "sad", "angry", "neutral"])
quickly = settings(derandomize=True, deadline=None, max_examples=60)
judged = st.lists(st.tuples(st.integers(0, 32).map(lambda k: k / 32), st.booleans()), min_size=1, max_size=50)


def calibrated(task: Task, n: int = 6000, spread: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn from exactly the distribution that they state."""
    generator = torch.Generator().manual_seed(3)
    logits = spread * torch.randn(n, task.num_classes, generator=generator)
    if task.values is not None:
        # a label at the centre counts as non-negative, while half of its mass is stated for either side
        logits[:, task.num_classes // 2] = -20
    drawn = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return logits, drawn if task.values is None else torch.tensor(task.values)[drawn]


@pytest.mark.parametrize("task", [MOSI, EMOTIONS], ids=lambda task: task.kind)
@pytest.mark.parametrize("scale", [1.0, 3.0, 0.5])
def test_the_temperature_undoes_a_scale_of_the_logits(task, scale):
    logits, labels = calibrated(task)
    # for a score the side itself moves with the scale, so the fit is near, not exact
    assert fit_temperature(task, scale * logits, labels) == pytest.approx(scale, rel=0.12)


@pytest.mark.parametrize("task", [MOSI, EMOTIONS], ids=lambda task: task.kind)
def test_calibrated_logits_have_little_calibration_error_and_overconfident_ones_much(task):
    logits, labels = calibrated(task)
    right = correct(task, logits, labels)
    assert expected_calibration_error(confidence(task, logits), right) < 0.025
    assert expected_calibration_error(confidence(task, logits, 0.25), right) > 0.07


def test_confidence_is_the_mass_on_the_predicted_side():
    probabilities = torch.tensor([[0.1, 0.0, 0.1, 0.2, 0.1, 0.1, 0.4], [0.3, 0.3, 0.2, 0.2, 0.0, 0.0, 0.0]])
    logits = (probabilities + 1e-12).log()
    assert confidence(MOSI, logits).tolist() == pytest.approx([0.6 + 0.1, 0.8 + 0.1])
    # the side is that of the score: one far class outweighs a majority, which confidence shows
    skewed = torch.tensor([[0.4, 0.0, 0.0, 0.0, 0.6, 0.0, 0.0]])
    assert confidence(MOSI, (skewed + 1e-12).log()).item() == pytest.approx(0.4)
    assert not correct(MOSI, (skewed + 1e-12).log(), torch.tensor([0.0])).item()


def test_the_centre_of_another_range_is_not_zero():
    task = Task.regression(["text"], 1, 5)
    logits = torch.tensor([[0.0, 0.0, 0.0, 5.0, 0.0], [0.0, 5.0, 0.0, 0.0, 0.0]])
    assert correct(task, logits, torch.tensor([3.0, 2.9])).all()
    assert (confidence(task, logits) > 0.9).all()


def test_classification_takes_the_largest_probability_and_temperature_never_moves_the_class():
    logits, labels = calibrated(EMOTIONS, 50)
    assert torch.equal(confidence(EMOTIONS, logits), logits.softmax(1).max(1).values)
    assert torch.equal(correct(EMOTIONS, logits, labels), correct(EMOTIONS, logits / 7, labels))


def degenerate():
    logits, labels = calibrated(EMOTIONS, 40)
    yield logits[:0], labels[:0]
    yield logits, logits.argmax(1)
    yield logits, (logits.argmax(1) + 1) % 4
    yield torch.zeros_like(logits), labels


@pytest.mark.parametrize(("logits", "labels"), list(degenerate()), ids=["empty", "all right", "all wrong", "flat"])
def test_degenerate_data_leave_the_temperature_alone(logits, labels):
    assert fit_temperature(EMOTIONS, logits, labels) == 1.0


@given(judged)
@quickly
def test_calibration_error_is_within_bounds_and_no_order_matters(drawn):
    sure, right = map(np.array, zip(*drawn, strict=True))
    error = expected_calibration_error(sure, right)
    assert 0 <= error <= 1
    assert abs(sure.mean() - right.mean()) <= error + 1e-12  # the gap of all is at most the mean gap of the bins
    order = np.random.default_rng(0).permutation(len(sure))
    assert expected_calibration_error(sure[order], right[order]) == pytest.approx(error)
    before, after = risk_coverage(sure, right), risk_coverage(sure[order], right[order])
    assert after["risk"] == pytest.approx(before["risk"])
    assert before["risk"][-1] == pytest.approx(1 - right.mean())
    assert before["coverage"][-1] == 1
    assert 0 <= before["aurc"] <= 1


def test_calibration_error_equals_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    sure, right = torch.rand(500, generator=generator) * 0.999, torch.rand(500, generator=generator) > 0.4
    expected = binary_calibration_error(sure, right.int(), n_bins=10, norm="l1").item()
    assert expected_calibration_error(sure, right) == pytest.approx(expected, abs=1e-6)


def test_reliability_keeps_every_bin_and_every_prediction():
    rows = reliability([0.0, 0.05, 0.1, 0.95, 1.0], [False, True, True, True, True], bins=10)
    assert [row["count"] for row in rows] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert rows[0] == {"low": 0.0, "high": 0.1, "count": 2, "confidence": 0.025, "accuracy": 0.5}
    assert rows[5]["confidence"] is None
    assert rows[5]["accuracy"] is None


def test_risk_falls_with_coverage_where_confidence_is_right():
    curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, True, False, False])
    assert curve["risk"] == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert curve["aurc"] == pytest.approx((1 / 3 + 1 / 2) / 4)
    tied = risk_coverage([0.5, 0.5], [True, False])
    assert tied["risk"] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: confidence(MOSI, torch.zeros(2, 4)), r"\[N, 7\]"),
        (lambda: confidence(MOSI, torch.full((2, 7), math.nan)), "finite"),
        (lambda: confidence(MOSI, torch.zeros(2, 7), 0.0), "positive"),
        (lambda: correct(MOSI, torch.zeros(2, 7), torch.zeros(3)), "one label"),
        (lambda: correct(MOSI, torch.zeros(1, 7), torch.tensor([math.nan])), "1 NaN"),
        (lambda: reliability([0.5], [True, False]), "shapes"),
        (lambda: reliability([], []), "shapes"),
        (lambda: reliability([0.5], [True], bins=0), "one bin"),
        (lambda: risk_coverage([1.5], [True]), r"\[0, 1\]"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(PaSEError, match=words):
        call()
