"""MCTN (Pham, Liang, Manzini, Morency, Poczos 2019, "Found in Translation: Learning Robust Joint Representations by
Cyclic Translations between Modalities", AAAI).

The prediction is made from one modality alone, the source. Its representation is learned by translating it to the
others: a state sequence E_1 of the source is decoded to the first target, and what comes out is encoded and decoded
back by the same networks (the cycle); E_2 encodes E_1 and is decoded to the second target, and so on.

    L = L_task + translation (sum of |X^_t - X_t|^2 over the targets t + |X^_s - X_s|^2)

An LSTM over the last E, and attention over its states with weights softmax(tanh(H w + b)), give the fused vector.

An utterance without the source is predicted as the class prior, whatever else it has: the method says nothing else.
So withholding a target never changes a prediction, and the score is at chance where the source knows nothing.

Ours, where the paper's code goes another way:

- Frames go through a linear map of their modality to a common width, in place of zeros up to the largest size, and
  every sequence is resampled to `steps` frames, so that there is no padding. The targets are the standardised frames
  themselves, read out by a linear map per modality without tanh: they may lie outside of [-1, 1].
- A decoder is a GRU over what one learned query per step attends to in E; it is not given its own output.
- The prediction is over K classes, and L_task stands in place of the absolute error.
- The translation to an absent target is left out for that utterance, and the cycle with that to the first target. A
  source of token ids has no cycle, since there are no frames to come back to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.base import Encoder
from pase_msa.encoders.layout import resample
from pase_msa.errors import PaSEError
from pase_msa.models.base import head
from pase_msa.models.ef_lstm import FrameEncoder
from pase_msa.models.fused import Fused, FusedModel
from pase_msa.models.missing import masked_mse
from pase_msa.objective import Losses
from pase_msa.ranges import COUNT, NOT_NEGATIVE, check_model, one_of
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size d of frames and states.
        source: the modality that predictions are made from; "" is text, or else the first one.
        steps: frames that every sequence is resampled to.
        dropout: in the head.
        translation: weight of every translation.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mctn"
    width: int = 32
    source: str = ""
    steps: int = 16
    dropout: float = 0.1
    translation: float = 0.1
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, steps=COUNT, translation=NOT_NEGATIVE)


def attention_pool(states: Float[Tensor, "n s d"], logits: Float[Tensor, "n s"]) -> Float[Tensor, "n d"]:
    """The states weighted by softmax(tanh(logits)) over the steps."""
    return (logits.tanh().softmax(1).unsqueeze(1) @ states).squeeze(1)


class StateEncoder(nn.Module):
    """An LSTM in both directions, whose states are added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)

    def forward(self, frames: Float[Tensor, "n s d"]) -> Float[Tensor, "n s d"]:
        """One state per step."""
        forward, backward = self.lstm(frames)[0].chunk(2, dim=2)
        states: Tensor = forward + backward
        return states


class Decoder(nn.Module):
    """One query per step attends to the states, and a GRU reads what it finds."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(steps, width) * width**-0.5)
        self.keys = nn.Linear(width, width)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, states: Float[Tensor, "n s d"]) -> Float[Tensor, "n s d"]:
        """One state per step of the translation."""
        weights = (self.queries @ self.keys(states).transpose(1, 2)).softmax(2)
        decoded: Tensor = self.gru(weights @ states)[0]
        return decoded


class Unread(Encoder):
    """In place of the encoder of a target whose frames are never read; it has no parameters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Tensor, lengths: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Zeros."""
        return torch.zeros(len(features), self.width, device=features.device)


class MCTN(FusedModel):
    """The source's frames, an encoder and a decoder per level, the recurrent regressor, and the head."""

    config: Config
    has_vectors = False

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names, width = task.modalities, config.width
        self.source = one_of(config.source or ("text" if "text" in names else names[0]), names, "model.source of mctn")
        self.targets = [name for name in names if name != self.source]
        self.cyclic = bool(self.targets) and inputs[self.source].dim > 0
        for place, name in enumerate([self.source, *self.targets]):
            spec = inputs[name]
            if place and not spec.dim:
                raise PaSEError(
                    f"The model mctn translates to frames, and {name} has token ids; make it model.source, or freeze "
                    "its language model."
                )
            if place > int(self.cyclic):
                self.encoders[name] = Unread(width)
            elif spec.encoder == "sequence":
                self.encoders[name] = FrameEncoder(spec.dim, width)
            elif not self.encoders[name].has_frames:
                raise PaSEError(
                    f"The model mctn needs frames, and the encoder {spec.encoder!r} of {name} gives a vector only; "
                    "leave that encoder out, or give it a method `frames`."
                )
        levels = max(len(self.targets), 1)
        self.levels = nn.ModuleList(StateEncoder(width) for _ in range(levels))
        self.decoders = nn.ModuleList(Decoder(width, config.steps) for _ in self.targets)
        read = [self.source, *self.targets] if self.cyclic else self.targets
        self.readouts = nn.ModuleDict({name: nn.Linear(width, inputs[name].dim) for name in read})
        self.recurrent = nn.LSTM(width, width, batch_first=True)
        self.attention = nn.Linear(width, 1)
        self.head = head(width, task.num_classes, config.dropout)

    @property
    def reads(self) -> tuple[str, ...]:
        """The source alone."""
        return (self.source,)

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder and read-out."""
        parts = [self.encoders[modality], *([self.readouts[modality]] if modality in self.readouts else [])]
        return [parameter for part in parts for parameter in part.parameters()]

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """The frames of the source [N, S, D], which are zero where it is absent, and presence of all."""
        frames, valid, _ = self.encode_frames(batch, [self.source])
        part = resample(frames[self.source], valid[self.source].sum(1), self.config.steps)
        present = {}
        for name in self.task.modalities:
            if name not in batch.features:
                raise PaSEError(f"The model needs the modality {name!r}; the batch has {list(batch.features)}.")
            present[name] = batch.present[name]
        return {self.source: part}, present

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The pooled states over the last level; beside it the states of every level."""
        states, levels = parts[self.source], {}
        for number, level in enumerate(self.levels):
            states = levels[f"level/{number}"] = level(states)
        hidden = self.recurrent(states)[0]
        return attention_pool(hidden, self.attention(hidden).squeeze(2)), levels

    def outputs(self, logits: Tensor, fused: Tensor, present: dict[str, Tensor], **details: Any) -> Outputs:
        """As of every model; for an utterance without the source, too, the class prior."""
        logits = torch.where(present[self.source].unsqueeze(1), logits, self.class_prior.log())
        return super().outputs(logits, fused, present, **details)

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task; "translation/NAME" for every target, and "cycle" of the source."""
        losses, tensors, weight = super().losses(outputs, batch), self.tensors(outputs), self.config.translation
        for number, (name, decoder) in enumerate(zip(self.targets, self.decoders, strict=True)):
            here = outputs.present[self.source] & outputs.present[name]
            guess = self.readouts[name](decoder(tensors[f"level/{number}"]))
            losses[f"translation/{name}"] = weight * masked_mse(guess, self.frames_of(name, batch), here)
            if number == 0 and self.cyclic:
                source = self.frames_of(self.source, batch)
                losses["cycle"] = weight * masked_mse(self._back(guess), source, here)
        return losses

    def frames_of(self, name: str, batch: Batch) -> Float[Tensor, "n s f"]:
        """The standardised frames of a modality, resampled; what a translation is compared with."""
        lengths = batch.lengths[name] * batch.present[name]
        return resample(self.scalers[name](batch.features[name]), lengths, self.config.steps)

    def _back(self, translated: Float[Tensor, "n s f"]) -> Float[Tensor, "n s g"]:
        """The source's frames from the frames that it was translated to."""
        lengths = torch.full((len(translated),), translated.shape[1], device=translated.device)
        with self.encoding(translated):
            frames, valid = self.encoders[self.targets[0]].frames(translated, lengths)  # type: ignore[operator]
        states = self.levels[0](resample(frames.to(translated.dtype), valid.sum(1), self.config.steps))
        source: Tensor = self.readouts[self.source](self.decoders[0](states))
        return source


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MCTN:
    """The plug-in's entry point."""
    return MCTN(task, inputs, config)
