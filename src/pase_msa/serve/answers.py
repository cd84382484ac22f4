"""What is said about a clip: by utterance, over time, by modality and by word."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pase_msa.serve.predictor import Prediction


@dataclass(frozen=True)
class WordInfluence:
    """A word and what it did.

    Attributes:
        text: as it was said.
        start: in seconds from the beginning of the file; None where its time is unknown.
        end: as `start`.
        influence: how far the word moved the answer: its Shapley value over the words of the utterance's text, which is
            read again without some of them while sound and picture stay; in the score's unit, or in probability of the
            predicted class. The words of an utterance add up to the answer less the one without its text. Exact for 8
            words or fewer, else over random orders (at least 4, always the same). 0 where the text is not read.
    """

    text: str
    start: float | None
    end: float | None
    influence: float


@dataclass(frozen=True)
class Moment:
    """A point of the curve.

    Attributes:
        time: in seconds from the beginning of the file.
        value: what would be said if the utterance ended here: the score, or the probability of the predicted class.
    """

    time: float
    value: float


@dataclass
class UtteranceAnswer:
    """What is said about one utterance.

    Attributes:
        start: where it begins, in seconds from the beginning of the file.
        end: where it ends; None for text alone.
        text: what was said.
        prediction: score or label, confidence, contributions, probabilities.
        base: what would be said without any modality; the contributions add up to the value less this.
        words: of the transcript, in order.
        curve: the answer so far; empty for text alone.
        modalities: that the utterance has and that were not withheld.
        notes: what is absent or was mended, one sentence each.
    """

    start: float
    end: float | None
    text: str | None
    prediction: Prediction
    base: float
    words: list[WordInfluence]
    curve: list[Moment]
    modalities: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The score, or the probability of the predicted class."""
        return value_of(self.prediction, self.prediction.label)


@dataclass
class ClipAnswer:
    """What is said about a clip.

    Attributes:
        name: of the clip.
        duration: in seconds; None for text alone.
        overall: mean over the utterances, weighted by their length; of one utterance, its own answer. For classes the
            label is that of the mean probabilities.
        base: as in an utterance, weighted alike.
        utterances: in order.
        seconds: that each stage took.
    """

    name: str
    duration: float | None
    overall: Prediction
    base: float
    utterances: list[UtteranceAnswer]
    seconds: dict[str, float]

    @property
    def notes(self) -> list[str]:
        """Of all utterances, each sentence once."""
        return list(dict.fromkeys(note for item in self.utterances for note in item.notes))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        utterances = [
            {
                "start": item.start,
                "end": item.end,
                "text": item.text,
                **item.prediction.to_dict(),
                "base": item.base,
                "words": [asdict(word) for word in item.words],
                "curve": [asdict(moment) for moment in item.curve],
                "modalities": item.modalities,
                "notes": item.notes,
            }
            for item in self.utterances
        ]
        return {
            "clip": self.name,
            "duration": self.duration,
            **{key: value for key, value in self.overall.to_dict().items() if key != "id"},
            "base": self.base,
            "utterances": utterances,
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
        }


def value_of(prediction: Prediction, label: str | None) -> float:
    """The score, or the probability of a class."""
    if label is not None:
        return prediction.probabilities[label]
    assert prediction.score is not None
    return prediction.score


def overall(name: str, utterances: list[UtteranceAnswer]) -> tuple[Prediction, float]:
    """The answer to a whole clip, and its base."""
    if len(utterances) == 1:
        return utterances[0].prediction, utterances[0].base
    lengths = np.array([max((item.end or item.start) - item.start, 1e-3) for item in utterances])
    weights = lengths / lengths.sum()
    parts = [item.prediction for item in utterances]

    def mean(values: list[float]) -> float:
        return float(weights @ np.array(values))

    probabilities = {key: mean([part.probabilities[key] for part in parts]) for key in parts[0].probabilities}
    found = Prediction(
        name,
        None if parts[0].score is None else mean([part.score or 0.0 for part in parts]),
        None if parts[0].label is None else max(probabilities, key=lambda key: probabilities[key]),
        mean([part.confidence for part in parts]),
        {key: mean([part.contributions[key] for part in parts]) for key in parts[0].contributions},
        probabilities,
    )
    return found, mean([item.base for item in utterances])
