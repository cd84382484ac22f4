"""The result for a clip: predictions by utterance and over time, contributions of modalities and of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pase_msa.serve.predictor import Prediction

SCHEMA_VERSION = 2
"""Version of the JSON that `ClipResult.to_dict` and the server give; it rises when a field changes its meaning or name.

Since 2: `influence` is null where it was not computed, `masked` names the modalities that the caller took away, and the
last stage of `seconds` is called "predict".
"""


@dataclass(frozen=True)
class WordInfluence:
    """A word of the transcript and its influence on the prediction.

    Attributes:
        text: the word as the transcript has it.
        start: in seconds from the beginning of the file; None where its time is unknown.
        end: as `start`.
        influence: the word's Shapley value. The players are the words of one utterance: the text is read again without
            some of them, while sound and pictures stay. The unit is that of the score, or probability of the predicted
            class. The words of an utterance sum to the prediction minus the prediction without the text. Exact for up
            to 8 words, else an estimate from random orders (at least 4, always the same). 0 where the prediction does
            not use the words; None where influences were not computed.
    """

    text: str
    start: float | None
    end: float | None
    influence: float | None


@dataclass(frozen=True)
class CurvePoint:
    """A point of the curve.

    Attributes:
        time: in seconds from the beginning of the file.
        value: the prediction if the utterance ended here: the score, or the probability of the predicted class.
    """

    time: float
    value: float


@dataclass
class UtteranceResult:
    """The result for one utterance.

    Attributes:
        start: where it begins, in seconds from the beginning of the file.
        end: where it ends; None for text alone.
        text: the transcript.
        prediction: score or label, confidence, contributions, probabilities.
        base: the prediction without any modality. Base and contributions sum to the value.
        words: of the transcript, in order.
        curve: the prediction from the utterance so far; empty for text alone, or where it was not computed.
        modalities: those that the prediction uses: the utterance has them, and they were not masked.
        notes: what is absent or was repaired, one sentence each.
        speaker: who speaks, where it is known.
    """

    start: float
    end: float | None
    text: str | None
    prediction: Prediction
    base: float
    words: list[WordInfluence]
    curve: list[CurvePoint]
    modalities: list[str]
    notes: list[str] = field(default_factory=list)
    speaker: str | None = None

    @property
    def value(self) -> float:
        """The score, or the probability of the predicted class."""
        return value_of(self.prediction, self.prediction.label)


@dataclass(frozen=True)
class SpeakerResult:
    """What one speaker of a clip says, altogether.

    Attributes:
        speaker: name.
        seconds: of talk.
        share: of the talk of all utterances, in [0, 1].
        utterances: how many.
        prediction: mean over them, weighted by their length.
        base: the prediction without any modality, weighted alike.
    """

    speaker: str
    seconds: float
    share: float
    utterances: int
    prediction: Prediction
    base: float

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        fields = {key: value for key, value in self.prediction.to_dict().items() if key != "id"}
        facts = {"speaker": self.speaker, "seconds": round(self.seconds, 3), "share": round(self.share, 4)}
        return {**facts, "utterances": self.utterances, **fields, "base": self.base}


@dataclass
class ClipResult:
    """The result for a clip.

    Attributes:
        name: of the clip.
        duration: in seconds; None for text alone.
        overall: mean over the utterances, weighted by their length; of one utterance, its own prediction. For classes
            the label is that of the mean probabilities.
        base: the prediction without any modality, weighted alike.
        utterances: in order.
        seconds: time that each stage took.
        masked: modalities that the caller masked. They are not absent from the clip; the prediction does not use them.
        languages: of the words, as given or detected, by their codes.
    """

    name: str
    duration: float | None
    overall: Prediction
    base: float
    utterances: list[UtteranceResult]
    seconds: dict[str, float]
    masked: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)

    @property
    def speakers(self) -> list[SpeakerResult]:
        """What each known speaker says altogether, in the order in which they first talk."""
        names = dict.fromkeys(item.speaker for item in self.utterances if item.speaker is not None)
        total = sum(_length(item) for item in self.utterances)
        found = []
        for name in names:
            items = [item for item in self.utterances if item.speaker == name]
            seconds = sum(_length(item) for item in items)
            found.append(SpeakerResult(name, seconds, seconds / total, len(items), *overall(name, items)))
        return found

    @property
    def notes(self) -> list[str]:
        """Notes of all utterances, each sentence once."""
        return list(dict.fromkeys(note for item in self.utterances for note in item.notes))

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON, see `SCHEMA_VERSION`."""
        utterances = [
            {
                "start": item.start,
                "end": item.end,
                **({} if item.speaker is None else {"speaker": item.speaker}),
                "text": item.text,
                **item.prediction.to_dict(),
                "base": item.base,
                "words": [asdict(word) for word in item.words],
                "curve": [asdict(point) for point in item.curve],
                "modalities": item.modalities,
                "notes": item.notes,
            }
            for item in self.utterances
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            "clip": self.name,
            "duration": self.duration,
            **{key: value for key, value in self.overall.to_dict().items() if key != "id"},
            "base": self.base,
            "masked": self.masked,
            **({"languages": self.languages} if self.languages else {}),
            **({"speakers": [speaker.to_dict() for speaker in speakers]} if (speakers := self.speakers) else {}),
            "utterances": utterances,
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
        }


def value_of(prediction: Prediction, label: str | None) -> float:
    """The score, or the probability of a class."""
    if label is not None:
        return prediction.probabilities[label]
    assert prediction.score is not None
    return prediction.score


def _length(item: UtteranceResult) -> float:
    """Seconds of an utterance; a little where it has none, since it is a weight."""
    return max((item.end or item.start) - item.start, 1e-3)


def overall(name: str, utterances: Sequence[UtteranceResult]) -> tuple[Prediction, float]:
    """The prediction for a whole clip, and its base: means over the utterances, weighted by their length."""
    if len(utterances) == 1:
        return utterances[0].prediction, utterances[0].base
    lengths = np.array([_length(item) for item in utterances])
    weights = lengths / lengths.sum()
    parts = [item.prediction for item in utterances]

    def mean(values: list[float]) -> float:
        return float(weights @ np.array(values))

    probabilities = {key: mean([part.probabilities[key] for part in parts]) for key in parts[0].probabilities}
    prediction = Prediction(
        name,
        None if parts[0].score is None else mean([part.score or 0.0 for part in parts]),
        None if parts[0].label is None else max(probabilities, key=lambda key: probabilities[key]),
        mean([part.confidence for part in parts]),
        {key: mean([part.contributions[key] for part in parts]) for key in parts[0].contributions},
        probabilities,
    )
    return prediction, mean([item.base for item in utterances])
