"""From contributions to a verdict: useful, uninformative, memorised, identity, deceptive, or undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pase_msa.heldout.contributions import Estimate, quantile

Verdict = Literal["useful", "uninformative", "memorised", "identity", "deceptive", "undecided"]
#: verdicts that exclude a modality from every prediction
EXCLUDED: tuple[Verdict, ...] = ("deceptive", "identity")
#: one-sided confidence that a verdict wants
SURE = 0.995
#: one-sided confidence that a condition beside the main one wants
LIKELY = 0.95
#: nats per utterance below which a contribution is not worth a modality
NEGLIGIBLE = 0.01
#: further videos that are within reach, at most
MOST_VIDEOS = 100_000
#: videos; of fewer the spread is not known, so that nothing is shown to be small, or smaller than something else
FEW = 5


@dataclass(frozen=True)
class Evidence:
    """Contribution of one modality to the reference model, in nats per utterance.

    Attributes:
        sample: in sample, at the least penalty.
        random: on folds drawn at random.
        grouped: on folds by video.
        valid: on validation, as sure of itself as on folds by video.
        suited: on validation, as sure as suits what it says there.
        leak: random minus grouped, paired by utterance.
        learned: sample minus random, paired by utterance.
    """

    sample: Estimate
    random: Estimate
    grouped: Estimate
    valid: Estimate
    suited: Estimate
    leak: Estimate
    learned: Estimate

    @property
    def gap(self) -> tuple[float, float]:
        """Folds by video minus validation, and its standard error: what does not survive the training split."""
        return self.grouped.value - self.valid.value, math.hypot(self.grouped.error, self.valid.error)

    @property
    def joint(self) -> tuple[float, float]:
        """Mean of folds by video and validation, weighted by precision (inverse variance), and its standard error."""
        both = (self.grouped, self.valid)
        weights = [1 / max(e.error, 1e-6) ** 2 for e in both]
        total = sum(weights)
        if total == 0:  # a single video each
            return sum(e.value for e in both) / 2, math.inf
        return sum(w * e.value for w, e in zip(weights, both, strict=True)) / total, total**-0.5

    @property
    def joint_videos(self) -> int:
        """Videos of one mean with as many degrees of freedom as `joint` has (Satterthwaite 1946)."""
        both = (self.grouped, self.valid)
        if min(e.videos for e in both) < 2:
            return min(e.videos for e in both)
        weights = [1 / max(e.error, 1e-6) ** 2 for e in both]
        terms = [(w / sum(weights)) ** 2 / (e.videos - 1) for w, e in zip(weights, both, strict=True)]
        return int(1 / sum(terms)) + 1


def judge(evidence: Evidence) -> tuple[Verdict, str]:
    """The verdict, and one clause that gives the reason.

    - deceptive: the folds of the training split show a contribution that validation does not: none, or surely less than
      half of it, not even where predictions are as sure as suits validation. Only data from outside the training split
      can tell.
    - undecided, where the latter alone is in the way: what is said on validation is of use, and far too sure. Other
      recordings, other rooms or louder voices do that to a modality that is truthful.
    - useful: validation alone shows a contribution, and the folds agree.
    - identity: random folds show a contribution of which folds by video and validation show less than half: the
      modality recognises the video.
    - memorised, uninformative: the contribution is below 0.01 nats at its upper bound. Memorised where the training
      split can nevertheless be learned by heart from it.
    """
    gap, gap_error = evidence.gap
    videos = min(evidence.grouped.videos, evidence.valid.videos)
    sure = quantile(SURE, videos)
    promises = evidence.grouped.bound(SURE) > 0 and evidence.grouped.value > NEGLIGIBLE
    # a modality that keeps a part of its promise is excluded only if that part is shown to be less than half
    if promises and gap > sure * gap_error and not _keeps_half(evidence.valid, evidence.grouped):
        if not _keeps_half(evidence.suited, evidence.grouped):
            return "deceptive", "its contribution on the training split does not hold on validation"
        return "undecided", "tells something on validation, but is too sure there, as where recordings differ"
    if evidence.valid.bound(SURE) > 0 and evidence.grouped.value > 0 and evidence.valid.value > NEGLIGIBLE:
        return "useful", "contributes on new videos"
    value, error = evidence.joint
    small = value + quantile(SURE, videos) * error < NEGLIGIBLE and evidence.valid.upper(LIKELY) < NEGLIGIBLE
    small = small and videos >= FEW
    leaks = evidence.leak.bound(SURE) > 0 and evidence.random.bound(LIKELY) > 0
    # as above: what is excluded is shown to keep less than half of its promise on new videos
    keeps_half = value + quantile(LIKELY, evidence.joint_videos) * error > 0.5 * evidence.random.value
    if leaks and not keeps_half and evidence.grouped.bound(LIKELY) <= 0 and evidence.random.value > NEGLIGIBLE:
        return "identity", "recognises the video: it contributes only where other utterances of the video are known"
    if small:
        if evidence.learned.bound(SURE) > 0 and evidence.sample.value > 10 * max(value, NEGLIGIBLE):
            return "memorised", "can be learned by heart in training and contributes nothing on other utterances"
        return "uninformative", "contributes nothing"
    if evidence.valid.videos < 2:
        return "undecided", "a single validation video gives no interval"
    if evidence.valid.low > 0:
        return "undecided", "likely contributes on new videos, but not with the certainty that a verdict wants"
    return "undecided", "the interval holds both a contribution and none"


def _keeps_half(found: Estimate, promised: Estimate) -> bool:
    """Whether a contribution is likely, and not shown to be less than half of another."""
    return found.bound(LIKELY) > 0 and found.upper(LIKELY) > 0.5 * promised.value


def videos_needed(evidence: Evidence) -> int | None:
    """Further validation videos that would decide; None where no number within reach does, or nothing can be said.

    The further videos are assumed to contribute what folds and validation together estimate, with the spread of those
    at hand. The number is the least with which the validation mean is surely above zero, or surely negligible.
    """
    value, _ = evidence.joint
    count, at_hand = evidence.valid.videos, evidence.valid
    if count < 2 or at_hand.error <= 0:
        return None
    spread = at_hand.error * math.sqrt(count)

    def decided(total: int) -> bool:
        mean = value + (at_hand.value - value) * count / total
        half = quantile(SURE, total) * spread / math.sqrt(total)
        if value > NEGLIGIBLE:
            return mean > max(half, NEGLIGIBLE)
        return mean + half < NEGLIGIBLE

    few, many = count, count + MOST_VIDEOS
    if not decided(many):
        return None
    while many - few > 1:  # bisection: more videos that agree never undo a decision
        middle = (few + many) // 2
        few, many = (few, middle) if decided(middle) else (middle, many)
    return many - count
