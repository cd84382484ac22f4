"""Early fusion by one LSTM (EF-LSTM): modalities are concatenated frame by frame, before the LSTM.

The usual baseline of multimodal sentiment analysis (used as such by Tsai et al. 2019, "MulT"; the LSTM is Hochreiter
and Schmidhuber 1997).

Frames can be concatenated only if all modalities have equally many. So every sequence is averaged to `steps` frames:
frame s is the mean of the frames between floor(s T / steps) and ceil((s + 1) T / steps), which is adaptive average
pooling over the utterance's own T frames; a shorter sequence repeats its frames. With `steps=0` frames stay as they
are, for data that were aligned beforehand, and shorter sequences end with zeros.

The frames of each modality go through a linear map of their own first. For the LSTM's input, which is linear, this is
the concatenation in another basis; it gives modalities equal size and each its own parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.base import Encoder
from pase_msa.encoders.layout import resample, step_mask
from pase_msa.errors import PaSEError
from pase_msa.models.base import head
from pase_msa.models.fused import FusedModel
from pase_msa.ranges import SIZE, Range, check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of each modality's part of a frame.
        hidden: size of the LSTM's state.
        steps: frames that every modality is resampled to; 0 takes them as they are.
        dropout: on the frames and in the head.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "ef_lstm"
    width: int = 64
    hidden: int = 128
    steps: int = 16
    dropout: float = 0.4
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, hidden=SIZE, steps=Range(0, 2**16, whole=True))


class FrameEncoder(Encoder):
    """A linear map of every frame, in place of the sequence encoder, whose options do not apply here."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)

    def frames(
        self, features: Float[Tensor, "n t f"], lengths: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n t d"], Bool[Tensor, "n t"]]:
        """The mapped frames, and which are valid."""
        mapped: Tensor = self.project(features)
        return mapped, step_mask(lengths, features.shape[1])

    def forward(self, features: Float[Tensor, "n t f"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The mean of the mapped frames, [N, width]."""
        return resample(self.frames(features, lengths)[0], lengths, 1)[:, 0]


class EarlyFusionLSTM(FusedModel):
    """One LSTM over concatenated frames; its last state goes to the head. The frames of an absent modality are zero."""

    has_vectors = False

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config, self.steps = config, config.steps
        for name, spec in inputs.items():
            if spec.encoder == "sequence":
                self.encoders[name] = FrameEncoder(spec.dim, config.width)
            elif not self.encoders[name].has_frames:
                raise PaSEError(
                    f"The model ef_lstm needs frames, and the encoder {spec.encoder!r} of {name} gives a vector only; "
                    "leave that encoder out, or give it a method `frames`."
                )
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(config.width * len(inputs), config.hidden, batch_first=True)
        self.head = head(config.hidden, task.num_classes, config.dropout)

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """Frames [N, S, D] and presence; with `steps=0` S is the longest of the batch, and frames after an utterance's
        last one are zero."""
        parts, present = {}, {}
        longest = max(features.shape[1] for features in batch.features.values())
        for name, encoder in self.encoders.items():
            if name not in batch.features:
                raise PaSEError(f"The model needs the modality {name!r}; the batch has {list(batch.features)}.")
            features, lengths, flag = batch.features[name], batch.lengths[name], batch.present[name]
            if name in self.scalers:
                features = self.scalers[name](features)
            assert isinstance(encoder, Encoder)
            with self.encoding(features):
                frames, valid = encoder.frames(features, lengths)
            frames = frames.to(self.class_prior.dtype)
            if self.steps:
                frames = resample(frames, valid.sum(1), self.steps)
            else:
                frames = nn.functional.pad(frames * valid.unsqueeze(2), (0, 0, 0, longest - frames.shape[1]))
            parts[name], present[name] = frames * flag.view(-1, 1, 1), flag
        return parts, present

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The last state of the LSTM over concatenated frames."""
        frames = torch.cat([parts[name] for name in self.task.modalities], dim=2)
        states, (last, _) = self.lstm(self.dropout(frames))
        if self.steps:
            fused: Tensor = last[0]
            return fused
        # the state after the utterance's last frame; without any frame, the state after one frame of zeros
        numbers = torch.arange(1, frames.shape[1] + 1, device=frames.device) * (frames != 0).any(2)
        end = (numbers.amax(1) - 1).clamp(min=0)
        state: Tensor = states[torch.arange(len(states), device=states.device), end]
        return state


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> EarlyFusionLSTM:
    """The plug-in's entry point."""
    return EarlyFusionLSTM(task, inputs, config)
