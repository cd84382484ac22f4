from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.batch import Outputs
from pase_msa.errors import PaSEError
from pase_msa.metrics import (
    classification_metrics,
    headline,
    regression_metrics,
    resolve_convention,
    task_metrics,
)
from pase_msa.task import Task
from pase_msa.training.epoch_metrics import SentimentMetrics
from tests.reference.metrics import naive_classification, naive_regression

MOSI = Task.regression(["text", "audio"], -3, 3)
EMOTIONS = Task.classification(["text", "audio"], ["happy", "sad", "angry", "neutral"])
SIMS = Task.regression(["text", "audio"], -1, 1)
CONVENTIONS = ("mmsa", "mult", "pase")
quickly = settings(derandomize=True, deadline=None, max_examples=60)

# sixteenths are exact in single precision, and hit zeros and halves
scores = st.integers(-64, 64).map(lambda k: k / 16)
labels = st.one_of(st.sampled_from([-3.0, -1.0, 0.0, 0.0, 1.0, 2.5]), st.integers(-48, 48).map(lambda k: k / 16))
pairs = st.lists(st.tuples(scores, labels), min_size=1, max_size=40)
classes = st.integers(0, 3)


def outputs(task: Task, n: int, seed: int = 0) -> tuple[Outputs, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, task.num_classes, generator=generator)
    probabilities = logits.softmax(1)
    score = task.score(probabilities) if task.kind == "regression" else None
    truth = torch.randint(0, task.num_classes, (n,), generator=generator)
    truth = truth.float() - 3 if task.kind == "regression" else truth
    return Outputs(logits, probabilities, score, logits), truth


def part(result: Outputs, where: slice) -> Outputs:
    score = None if result.score is None else result.score[where]
    return Outputs(result.logits[where], result.probabilities[where], score, result.fused[where])


@pytest.mark.parametrize("convention", CONVENTIONS)
@given(pairs)
@quickly
def test_regression_equals_the_plain_loops(convention, drawn):
    score, truth = zip(*drawn, strict=True)
    expected = naive_regression(score, truth, convention)
    assert regression_metrics(np.array(score), np.array(truth), MOSI, convention) == pytest.approx(
        expected, abs=1e-6, nan_ok=True
    )


@given(st.lists(st.tuples(classes, classes), min_size=1, max_size=40))
@quickly
def test_classification_equals_the_plain_loops(drawn):
    predicted, truth = zip(*drawn, strict=True)
    found = classification_metrics(predicted, truth, EMOTIONS.classes)
    expected = naive_classification(predicted, truth, EMOTIONS.classes)
    for name, row in expected.pop("per_class").items():
        assert found["per_class"][name] == pytest.approx(row, nan_ok=True)
    found.pop("per_class")
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_perfect_prediction_is_perfect(convention):
    truth = np.array([-3, -1.2, 0, 0.4, 2.6])
    found = regression_metrics(truth, truth, MOSI, convention)
    assert found.pop("mae") == 0
    assert found == pytest.approx(dict.fromkeys(found, 1.0))
    found = classification_metrics([0, 1, 2, 3], [0, 1, 2, 3], EMOTIONS.classes)
    assert all(row["f1"] == row["recall"] == 1 for row in found.pop("per_class").values())
    assert set(found.values()) == {1.0}


@given(pairs)
@quickly
def test_flipping_the_sign_of_both_sides_changes_only_what_counts_zeros(drawn):
    score, truth = map(np.array, zip(*drawn, strict=True))
    polar_score = np.where(score == 0, 0.5, score)
    before = regression_metrics(polar_score, truth, MOSI)
    after = regression_metrics(-polar_score, -truth, MOSI)
    for name in ("acc2_negpos", "f1_negpos", "acc7", "acc5", "mae", "corr"):
        assert after[name] == pytest.approx(before[name], abs=1e-6, nan_ok=True)
    against = regression_metrics(-polar_score, truth, MOSI)
    assert against["corr"] == pytest.approx(-before["corr"], abs=1e-6)
    if (truth != 0).any():
        assert against["acc2_negpos"] == pytest.approx(1 - before["acc2_negpos"])


@pytest.mark.parametrize("convention", CONVENTIONS)
@given(drawn=pairs, seed=st.integers(0, 99))
@quickly
def test_the_order_of_the_samples_does_not_matter(convention, drawn, seed):
    score, truth = map(np.array, zip(*drawn, strict=True))
    order = np.random.default_rng(seed).permutation(len(score))
    before = regression_metrics(score, truth, MOSI, convention)
    assert regression_metrics(score[order], truth[order], MOSI, convention) == pytest.approx(
        before, abs=1e-6, nan_ok=True
    )


def test_the_conventions_differ_on_zeros():
    score, truth = [0.5, 0.0, -0.5, 1.0, -1.0, -2.0], [0.0, 0.0, 0.0, 1.0, 2.0, -3.0]
    mmsa, mult, pase = (regression_metrics(score, truth, MOSI, convention) for convention in CONVENTIONS)
    assert mmsa["acc2_nonneg"] == pytest.approx(4 / 6)  # 0.0 agrees with a zero, as 0.5 does
    assert mult["acc2_nonneg"] == pytest.approx(4 / 6)  # 0.0 and -0.5 agree with a zero, 0.5 does not
    assert mmsa["acc2_negpos"] == mult["acc2_negpos"] == pase["acc2_negpos"] == pytest.approx(2 / 3)
    # MulT weighs by the predictions: they hold twice as many negatives as positives, the truth the reverse,
    # so that the two F1 are each the other's with the sides exchanged
    assert mult["f1_negpos"] == regression_metrics([1, 2, -3], [1, -1, -2], MOSI)["f1_negpos"]
    assert mult["f1_nonneg"] != pytest.approx(mmsa["f1_nonneg"])
    assert mmsa["mae"] == mult["mae"] == pytest.approx((0.5 + 0 + 0.5 + 0 + 3 + 1) / 6)
    assert pase["mae"] == pytest.approx(4 / 3)
    assert pase["corr"] != pytest.approx(mmsa["corr"])


def test_halves_round_to_even_and_scores_outside_are_clipped_for_classes_only():
    found = regression_metrics([0.5, 2.5, 9.0], [0.0, 2.0, 3.0], MOSI)
    assert found["acc7"] == 1
    assert found["acc5"] == 1
    assert found["mae"] == pytest.approx((0.5 + 0.5 + 6) / 3)


@pytest.mark.parametrize(("low", "high"), [(1, 5), (0, 1), (-1, 1), (0, 0.3)])
def test_another_range_is_the_same_task_moved_and_stretched(low, high):
    task = Task.regression(["text"], low, high, num_classes=7)
    score, truth = np.array([-2.6, -0.3, 0.2, 1.8, 0.4]), np.array([-3, 0.0, -0.6, 2.2, 1.0])
    stretch = (high - low) / 6
    moved = regression_metrics(score * stretch + task.center, truth * stretch + task.center, task, "mosi")
    expected = regression_metrics(score, truth, MOSI)
    assert moved.pop("mae") == pytest.approx(expected.pop("mae") * stretch, rel=1e-5)
    assert moved == pytest.approx(expected)


@pytest.mark.parametrize("score", [[0.3, 0.3, 0.3], [1.0, 1.0, 1.0 + 1e-7]])
def test_a_constant_prediction_has_no_correlation(score):
    assert regression_metrics(score, [-1.0, 2.0, 1.0], MOSI)["corr"] == 0


def test_without_polar_labels_polarity_is_not_a_number():
    found = regression_metrics([0.1, -0.2], [0.0, 0.0], MOSI, "pase")
    missing = {name for name, value in found.items() if math.isnan(value)}
    assert missing == {"acc2_negpos", "f1_negpos", "mae", "corr"}
    assert found["acc2_nonneg"] == 0.5


def test_a_class_that_does_not_occur_is_left_out_of_ua():
    found = classification_metrics([0, 1, 2], [0, 0, 1], EMOTIONS.classes)
    assert found["ua"] == pytest.approx((1 / 2 + 0) / 2)
    assert math.isnan(found["per_class"]["neutral"]["recall"])


@pytest.mark.parametrize("task", [MOSI, EMOTIONS], ids=lambda task: task.kind)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_metric_over_batches_equals_the_function_over_all(task, convention):
    result, truth = outputs(task, 37)
    metric = SentimentMetrics(task, convention)
    for where in (slice(0, 16), slice(16, 17), slice(17, 37)):
        metric.update(part(result, where), truth[where])
    expected = task_metrics(task, result.probabilities, result.score, truth, convention)
    expected.pop("per_class", None)
    p = result.probabilities.double()
    expected["entropy"] = float(-(p * p.log()).sum(1).mean())
    assert metric.compute() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("task", [MOSI, EMOTIONS], ids=lambda task: task.kind)
def test_processes_together_measure_what_one_would(task):
    result, truth = outputs(task, 20)
    here, there, whole = (SentimentMetrics(task) for _ in range(3))
    here.update(part(result, slice(0, 12)), truth[:12])
    there.update(part(result, slice(12, 20)), truth[12:])
    whole.update(result, truth)

    def gather(value, group=None):
        mine = {id(state[0]): name for name in here._defaults if (state := getattr(here, name))}
        return [value, getattr(there, mine[id(value)])[0]]

    here.sync(dist_sync_fn=gather, distributed_available=lambda: True)
    assert task_metrics(task, here.probabilities, None, here.labels) == task_metrics(
        task, result.probabilities, None, truth
    )
    here.unsync()
    here.merge_state(there)
    assert here.compute() == pytest.approx(whole.compute())


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_an_epoch_without_predictions_is_a_mistake():
    with pytest.raises(PaSEError, match="no predictions"):
        SentimentMetrics(MOSI).compute()


def test_headline_is_an_output_of_the_metrics():
    for task in (MOSI, EMOTIONS):
        result, truth = outputs(task, 9)
        name, _ = headline(task)
        assert name in task_metrics(task, result.probabilities, result.score, truth)
    assert headline(MOSI)[1] == "min"
    assert headline(EMOTIONS)[1] == "max"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: regression_metrics([1.0], [1.0, 2.0], MOSI), "shapes"),
        (lambda: regression_metrics([], [], MOSI), "shapes"),
        (lambda: regression_metrics([math.nan, 1.0], [1.0, 2.0], MOSI), "1 of 2 predictions"),
        (lambda: regression_metrics([1.0, 1.0], [1.0, math.nan], MOSI), "1 of 2 labels"),
        (lambda: regression_metrics([1.0], [1.0], MOSI, "acl"), "mmsa, mult, pase"),
        (lambda: regression_metrics([1.0], [1.0], EMOTIONS), "regression task"),
        (lambda: classification_metrics([0, 4], [0, 1], EMOTIONS.classes), "0 to 3"),
        (lambda: classification_metrics([0.5], [0], EMOTIONS.classes), "0 to 3"),
        (lambda: task_metrics(MOSI, np.full((2, 3), 1 / 3), None, [0.0, 1.0]), r"\[N, 7\]"),
        (lambda: task_metrics(EMOTIONS, np.full((1, 4), math.nan), None, [0]), "finite"),
        (lambda: SentimentMetrics(MOSI, "acl"), "mmsa, mult, pase"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(PaSEError, match=words):
        call()


# labels of CH-SIMS are tenths, of which single precision has no exact one
tenths = st.integers(-10, 10).map(lambda k: k / 10)


def naive_sims(score, truth):
    """MMSA's metrics of CH-SIMS as a loop: intervals are open below and closed above."""
    edges = {"acc2_nonneg": [0], "acc3": [-0.1, 0.1], "acc5": [-0.7, -0.1, 0.1, 0.7]}
    pairs = [(np.float32(p), np.float32(t)) for p, t in zip(score, truth, strict=True)]
    cell = lambda value, cuts: sum(value > np.float32(cut) for cut in cuts)  # noqa: E731
    return {name: sum(cell(p, cuts) == cell(t, cuts) for p, t in pairs) / len(pairs) for name, cuts in edges.items()}


@given(st.lists(st.tuples(st.one_of(tenths, st.floats(-2, 2, width=32)), tenths), min_size=1, max_size=40))
@quickly
def test_labels_in_minus_one_to_one_are_measured_as_those_of_sims(drawn):
    score, truth = zip(*drawn, strict=True)
    found = regression_metrics(np.array(score), np.array(truth), SIMS)
    assert {name: found[name] for name in ("acc2_nonneg", "acc3", "acc5")} == pytest.approx(naive_sims(score, truth))


def test_f1_of_sims_counts_zero_as_negative():
    found = regression_metrics([-0.5, 0.5, 0.5, 0.0], [0.0, 0.0, 1.0, 1.0], SIMS)
    assert found["f1_nonneg"] == pytest.approx(0.5)
    assert found["acc2_nonneg"] == 0.5


def test_errors_of_sims_are_those_of_clipped_scores():
    assert regression_metrics([1.5, -1.0], [1.0, -1.0], SIMS)["mae"] == 0.0


@pytest.mark.parametrize(
    ("low", "high", "asked", "said"),
    [
        (-1, 1, "mmsa", "sims"),
        (-1, 1, "mosi", "mosi"),
        (-1, 1, "pase", "pase"),
        (-3, 3, "mmsa", "mmsa"),
        (-3, 3, "mosi", "mmsa"),
        (-3, 3, "sims", "sims"),
        (0, 1, "mmsa", "mmsa"),
        (1, 5, "mmsa", "mmsa"),
    ],
)
def test_the_convention_follows_from_the_label_range_and_can_be_chosen(low, high, asked, said):
    assert resolve_convention(Task.regression(["text"], low, high), asked) == said


def test_the_thresholds_of_mosi_can_be_had_for_labels_of_sims():
    score, truth = [0.3, -0.2, 0.0], [0.5, 0.0, 0.0]
    triple = [[3 * value for value in side] for side in (score, truth)]
    found = regression_metrics(score, truth, SIMS, "mosi")
    expected = regression_metrics(*triple, MOSI)
    assert "acc3" not in found
    assert found.pop("mae") == pytest.approx(expected.pop("mae") / 3)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 5)])
def test_other_ranges_are_divided_at_their_middle(low, high):
    middle = (low + high) / 2
    found = regression_metrics([high, low, middle], [high, low, middle], Task.regression(["text"], low, high))
    assert found["acc2_nonneg"] == found["acc2_negpos"] == 1.0
    assert regression_metrics([low], [middle], Task.regression(["text"], low, high))["acc2_nonneg"] == 0.0
