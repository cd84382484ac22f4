"""The JSON of the server: what a request may hold, and the fields of every response."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pase_msa.data.inputs import InputSpec
from pase_msa.data.table import Utterance
from pase_msa.errors import PaSEError
from pase_msa.serve.results import SCHEMA_VERSION

Number = Annotated[float | None, Field(allow_inf_nan=False)]
_MOST_UTTERANCES = 256  # per request


class FeatureRow(BaseModel):
    """An utterance as features."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(default="", max_length=200)
    features: dict[str, list[list[Number]]] = Field(
        default_factory=dict, description="by modality, a list of steps, each a list of numbers; null is unknown"
    )
    text: str | None = Field(default=None, max_length=20_000, description="transcript, where the model reads it itself")


class FeatureRequest(BaseModel):
    """Utterances to predict from their features."""

    model_config = ConfigDict(extra="forbid")

    utterances: list[FeatureRow] = Field(min_length=1, max_length=_MOST_UTTERANCES)


class PredictionFields(BaseModel):
    """Score (regression) or label (classification), never both, with confidence and contributions."""

    score: float | None = Field(default=None, description="regression only; left out otherwise")
    label: str | None = Field(default=None, description="classification only; left out otherwise")
    confidence: float = Field(description="calibrated probability that the sign of the score, or the class, is right")
    contributions: dict[str, float] = Field(
        description="Shapley value by modality, in the score's unit or in probability of the predicted class"
    )
    probabilities: dict[str, float] = Field(description="by class; empty where the task has no named classes")


class FeaturePrediction(PredictionFields):
    """The prediction for an utterance of features."""

    id: str = Field(description="as in the request")


class FeatureResponse(BaseModel):
    """One prediction per utterance, in the order of the request."""

    schema_version: int = SCHEMA_VERSION
    predictions: list[FeaturePrediction]


class Word(BaseModel):
    """A word of the transcript."""

    text: str
    start: float | None = Field(description="seconds from the beginning of the clip; null where unknown")
    end: float | None = Field(description="as start")
    influence: float | None = Field(
        description="Shapley value of the word; 0 where the text is not used, null with explain=false"
    )


class Point(BaseModel):
    """A point of the curve."""

    time: float = Field(description="seconds from the beginning of the clip")
    value: float = Field(description="score, or probability of the predicted class, if the utterance ended here")


class UtteranceFields(PredictionFields):
    """The result for one utterance of a clip."""

    id: str
    start: float = Field(description="seconds from the beginning of the clip")
    end: float | None
    speaker: str | None = Field(default=None, description="who speaks; left out where it is not known")
    text: str | None = Field(description="transcript; null where nobody speaks")
    base: float = Field(description="prediction without any modality; with the contributions it sums to the prediction")
    words: list[Word]
    curve: list[Point] = Field(description="empty with explain=false")
    modalities: list[str] = Field(description="that the prediction uses")
    notes: list[str] = Field(description="what is absent or was repaired, one sentence each")


class SpeakerFields(PredictionFields):
    """What one speaker of a clip says, altogether."""

    speaker: str
    seconds: float = Field(description="of talk")
    share: float = Field(description="of all talk, in [0, 1]")
    utterances: int
    base: float


class ClipResponse(PredictionFields):
    """The result for a clip."""

    schema_version: int = SCHEMA_VERSION
    clip: str
    duration: float | None = Field(description="seconds")
    base: float
    masked: list[str] = Field(description="modalities that were masked on request; the server masks none")
    languages: list[str] = Field(
        default_factory=list, description="of the words, as given or detected, by code; left out where not known"
    )
    speakers: list[SpeakerFields] = Field(default_factory=list, description="left out where no speaker is known")
    utterances: list[UtteranceFields]
    seconds: dict[str, float] = Field(description="time by stage")


class Health(BaseModel):
    """The state of the server, and what its model reads."""

    status: str = Field(description='"ok"')
    schema_version: int = SCHEMA_VERSION
    modalities: list[str]
    label: str = Field(description="name of the label that is predicted")
    classes: list[str]
    clips: bool = Field(description="whether clips are taken, and not features only")


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="one sentence")


def utterance(row: FeatureRow, inputs: dict[str, InputSpec], most_steps: int) -> Utterance:
    """A row of a feature table, checked for everything that could spoil the batch that it becomes part of.

    Errors:
        PaSEError: a modality that the model does not read, other sizes, or too many steps.
    """
    name = row.id or "the utterance"
    features = {}
    for modality, steps in row.features.items():
        spec = inputs.get(modality)
        if spec is None or spec.made:
            read = ", ".join(key for key, value in inputs.items() if not value.made)
            raise PaSEError(f"The model reads features of {read or 'no modality'}, not {modality!r}; leave it out.")
        if len(steps) > most_steps:
            raise PaSEError(
                f"{name} has {len(steps)} steps of {modality}, and this server takes {most_steps} at most; cut it."
            )
        if wrong := next((len(step) for step in steps if len(step) != spec.dim), None):
            raise PaSEError(
                f"{name} has a step of {modality} with {wrong} numbers, and the model was trained on {spec.dim}; use "
                "the same extractor as in training."
            )
        if any(not step for step in steps):
            raise PaSEError(f"{name} has an empty step of {modality}; leave the step out.")
        if steps:
            features[modality] = np.array(steps, dtype=np.float32)  # None becomes NaN
    text = row.text if any(spec.text is not None for spec in inputs.values()) else None
    if not features and not (text and text.strip()):
        raise PaSEError(
            f"{name} has no features of a modality that the model reads ({', '.join(inputs)}); give those of one."
        )
    return Utterance(row.id, "", "", {}, features, text)
