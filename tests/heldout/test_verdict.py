"""Each verdict from the evidence that calls for it, and how many videos more would decide."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.heldout.contributions import Estimate, quantile
from pase_msa.heldout.verdict import MOST_VIDEOS, NEGLIGIBLE, Evidence, judge, videos_needed

steady = settings(derandomize=True, deadline=None, max_examples=150)


def at(value, error=0.005, videos=40):
    if videos < 2:
        return Estimate(value, math.inf, -math.inf, math.inf, videos)
    half = quantile(0.975, videos) * error
    return Estimate(value, error, value - half, value + half, videos)


def evidence(sample, random, grouped, valid, error=0.005, videos=40, suited=None):
    given = [at(value, 0.005, 100) for value in (sample, random, grouped)]
    new = [at(valid, error, videos), at(valid if suited is None else suited, error, videos)]
    return Evidence(*given, *new, at(random - grouped, 0.005, 100), at(sample - random, 0.005, 100))


CASES = {
    "contributes everywhere": (evidence(0.3, 0.2, 0.2, 0.2), "useful"),
    "weak, but sure": (evidence(0.08, 0.05, 0.05, 0.05), "useful"),
    "does not hold on validation": (evidence(0.3, 0.3, 0.3, -0.2), "deceptive"),
    "is worth nothing on validation": (evidence(0.3, 0.3, 0.3, 0.0), "deceptive"),
    "is too sure on validation, and right": (evidence(0.3, 0.3, 0.3, -0.2, error=0.02, suited=0.2), "undecided"),
    "is too sure on validation, and tells little": (evidence(0.3, 0.3, 0.3, -0.2, suited=0.05), "deceptive"),
    "holds by less than half": (evidence(0.3, 0.3, 0.3, 0.05), "deceptive"),
    "holds by half, perhaps": (evidence(0.18, 0.116, 0.113, 0.052, error=0.019, videos=30), "undecided"),
    "holds for the most part": (evidence(0.3, 0.3, 0.3, 0.2), "useful"),
    "only where the video is known": (evidence(0.3, 0.2, -0.05, 0.0), "identity"),
    "leaks the video, and perhaps keeps half on new ones": (
        Evidence(at(0.3), at(0.15, 0.02), at(0.05, 0.04, 9), *[at(0.1, 0.05, 3)] * 2, at(0.1), at(0.15)),
        "undecided",
    ),
    "leaks the video, and surely keeps less than half": (
        Evidence(at(0.3), at(0.15, 0.02), at(0.01, 0.02, 40), *[at(-0.02, 0.05, 10)] * 2, at(0.1), at(0.15)),
        "identity",
    ),
    "only by heart": (evidence(0.3, 0.0, -0.03, -0.03), "memorised"),
    "nothing anywhere": (evidence(0.01, -0.01, -0.02, -0.02), "uninformative"),
    "not sure yet": (evidence(0.1, 0.05, 0.05, 0.05, error=0.04), "undecided"),
    "a gap that may be chance": (evidence(0.1, 0.08, 0.08, 0.0, error=0.05), "undecided"),
    "one validation video": (evidence(0.3, 0.3, 0.3, -5.0, videos=1), "undecided"),
    "two videos that agree by chance": (evidence(0.3, 0.3, 0.3, 0.2, error=0.05, videos=2), "undecided"),
}


@pytest.mark.parametrize("case", CASES)
def test_verdict(case):
    row, wanted = CASES[case]
    verdict, why = judge(row)
    assert verdict == wanted
    assert why


@steady
@given(st.tuples(*[st.floats(-0.5, 0.5)] * 4), st.floats(1e-4, 0.3), st.integers(1, 60))
def test_a_modality_without_a_contribution_on_validation_is_never_useful(values, error, videos):
    row = evidence(*values, error=error, videos=videos)
    verdict, _ = judge(row)
    if row.valid.low <= 0:
        assert verdict != "useful"
    if row.valid.low > 0 and row.valid.value >= row.grouped.value:
        assert verdict != "deceptive"
    if videos < 2:
        assert verdict not in ("useful", "deceptive", "uninformative", "memorised")


@steady
@given(st.tuples(*[st.floats(-0.5, 0.5)] * 4), st.floats(1e-4, 0.3), st.integers(1, 60))
def test_further_videos_are_a_positive_number_or_none(values, error, videos):
    more = videos_needed(evidence(*values, error=error, videos=videos))
    assert more is None or 1 <= more <= MOST_VIDEOS
    if videos < 2:
        assert more is None


@pytest.mark.parametrize(("value", "error"), [(0.05, 0.03), (0.02, 0.03), (-0.03, 0.05), (-0.05, 0.03)])
def test_the_number_of_further_videos_decides_and_one_less_does_not(value, error):
    start = replace(evidence(0.1, value, value, value), valid=at(value, error, 12))
    more = videos_needed(start)
    assert more is not None
    decided = []
    for videos in (12 + more - 1, 12 + more):
        after = replace(start, valid=at(value, error * math.sqrt(12 / videos), videos))
        bound = after.valid.bound(0.995) > 0 if value > NEGLIGIBLE else after.valid.upper(0.995) < NEGLIGIBLE
        decided.append(bound)
    assert decided == [False, True]


def test_a_contribution_at_the_threshold_cannot_be_decided():
    assert videos_needed(evidence(0.1, NEGLIGIBLE, NEGLIGIBLE, NEGLIGIBLE)) is None


def test_evidence_is_joined_by_precision():
    row = replace(evidence(0, 0, 0.1, 0.4), grouped=at(0.1, 0.01, 100), valid=at(0.4, 0.02, 40))
    value, error = row.joint
    assert value == pytest.approx((4 * 0.1 + 0.4) / 5)
    assert error == pytest.approx(0.02 / math.sqrt(5))
    gap, gap_error = row.gap
    assert gap == pytest.approx(-0.3)
    assert gap_error == pytest.approx(np.hypot(0.01, 0.02))
