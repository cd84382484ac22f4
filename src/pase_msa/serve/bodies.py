"""Requests: how large they may be, and what they hold."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from pase_msa.data.inputs import InputSpec
from pase_msa.data.table import Utterance
from pase_msa.errors import PaSEError

Number = Annotated[float | None, Field(allow_inf_nan=False)]
_MOST = 256  # utterances of a request


class FeatureRow(BaseModel):
    """An utterance as features."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(default="", max_length=200)
    features: dict[str, list[list[Number]]] = Field(
        default_factory=dict, description="by modality, a list of steps, each a list of numbers; null is unknown"
    )
    text: str | None = Field(default=None, max_length=20_000, description="transcript, where the model reads it itself")


class FeatureRequest(BaseModel):
    """Some utterances."""

    model_config = ConfigDict(extra="forbid")

    utterances: list[FeatureRow] = Field(min_length=1, max_length=_MOST)


def utterance(row: FeatureRow, inputs: dict[str, InputSpec], most_steps: int) -> Utterance:
    """A row of a feature table, after everything that could spoil a batch was looked at.

    Errors:
        PaSEError: a modality that the model does not read, other sizes, or too many steps.
    """
    name = row.id or "the utterance"
    features = {}
    for modality, steps in row.features.items():
        spec = inputs.get(modality)
        if spec is None or spec.text is not None:
            read = ", ".join(key for key, value in inputs.items() if value.text is None)
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
        raise PaSEError(f"{name} holds nothing that the model reads ({', '.join(inputs)}); give features of one.")
    return Utterance(row.id, "", "", {}, features, text)


class LimitBody:
    """ASGI middleware: a request of more than `most` bytes is not read to its end, whatever length it states."""

    def __init__(self, app: Any, most: int, sentence: str) -> None:
        self.app, self.most, self.sentence = app, most, sentence

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = JSONResponse({"detail": self.sentence}, 413)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most:
            await refusal(scope, receive, send)
            return
        read = 0

        async def counted() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise HTTPException(413)  # some way up it may become another status, so that is not relied on
            return message

        async def passed(message: Any) -> None:
            if read <= self.most:
                await send(message)

        await self.app(scope, counted, passed)
        if read > self.most:
            await refusal(scope, receive, send)
