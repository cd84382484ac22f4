"""MAG-BERT (Rahman et al. 2020, "Integrating Multimodal Information in Large Pretrained Transformers", ACL).

Inside a fine-tuned language model, before one of its layers, the state of each token is shifted by a gated mixture of
the other modalities' frames at that token (the Multimodal Adaptation Gate). The shift is never longer than `beta` times
the state. The text is pooled as its encoder pools it, and a head predicts from that.

Where text is not fine-tuned (`--text.frozen true`, or features of another kind) the states before a layer are not at
hand. The gate then shifts the last states, the frames of the text's encoder, which are averaged: "MAG, last states".

Ours, where the published code goes another way:

- Frames need not be aligned to words: each modality's are averaged to as many steps as the text has tokens. This is the
  paper's set-up where there is one frame per word and one token per word.
- An absent modality adds nothing; in the published code its zero frames still shift by the biases. Nor do frames shift
  the padding. The frames are those of the library's encoders.
- The published code selects the epoch on the test split and measures errors without neutral utterances; here all models
  are selected and measured in one way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.data.pretrained import pool_tokens
from pase_msa.encoders.language_model import LanguageModelEncoder
from pase_msa.encoders.layout import resample
from pase_msa.errors import PaSEError
from pase_msa.models.base import Model, head
from pase_msa.models.fused import FusedModel, check_frames
from pase_msa.ranges import NOT_NEGATIVE, Range, check_model
from pase_msa.task import Task

REDUCED = "on the last states unless text is fine-tuned"
_EPSILON = 1e-6


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the fused vector, and of the frames of the other modalities.
        text: the modality whose states are shifted.
        layer: of the language model that the shifted states enter; 0 is the first one after the embeddings.
        beta: longest shift, as a multiple of the state's length.
        dropout: behind the gate and in the head.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mag_bert"
    width: int = 128
    text: str = "text"
    layer: int = 0
    beta: float = 1.0
    dropout: float = 0.3
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, beta=NOT_NEGATIVE, layer=Range(0, 1000, whole=True))


class Gate(nn.Module):
    """The Multimodal Adaptation Gate.

    Args:
        sizes: of the frames, by modality.
        size: H of the states.
        beta: longest shift, as a multiple of the state's length.
        dropout: of the result.
    """

    def __init__(self, sizes: Mapping[str, int], size: int, beta: float, dropout: float) -> None:
        super().__init__()
        self.beta = beta
        self.gates = nn.ModuleDict({name: nn.Linear(d + size, size) for name, d in sizes.items()})
        self.shifts = nn.ModuleDict({name: nn.Linear(d, size) for name, d in sizes.items()})
        self.norm, self.dropout = nn.LayerNorm(size), nn.Dropout(dropout)

    def forward(
        self, states: Float[Tensor, "n t h"], frames: Mapping[str, Tensor], here: Mapping[str, Bool[Tensor, "n t"]]
    ) -> Float[Tensor, "n t h"]:
        """Layer norm of the shifted states.

        Args:
            states: of the tokens.
            frames: of each other modality, one per token, [N, T, d].
            here: whether there is a frame at the token.
        """
        shift = torch.zeros_like(states)
        for name, part in frames.items():
            opened = self.gates[name](torch.cat([part, states], dim=2)).relu()
            shift = shift + opened * self.shifts[name](part) * here[name].unsqueeze(2)
        longest = self.beta * states.norm(dim=2, keepdim=True)
        scale = (longest / (shift.norm(dim=2, keepdim=True) + _EPSILON)).clamp(max=1.0)
        result: Tensor = self.dropout(self.norm(states + scale * shift))
        return result


class MAGBERT(FusedModel):
    """A text encoder whose states are shifted by the frames of the other modalities, pooled, and a head."""

    has_vectors = False

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config: Config = config
        if config.text not in inputs:
            raise PaSEError(
                f"The model mag_bert shifts the states of {config.text!r}, which the task lacks ({', '.join(inputs)}); "
                "add it, or name another modality with --model.text."
            )
        check_frames("mag_bert", self.encoders, inputs)
        self.others = [name for name in task.modalities if name != config.text]
        self.inside = isinstance(self.encoders[config.text], LanguageModelEncoder)
        size = int(self.encoders[config.text].model.config.hidden_size) if self.inside else config.width  # type: ignore[union-attr,arg-type]
        self.gate = Gate(dict.fromkeys(self.others, config.width), size, config.beta, config.dropout)
        self.head = head(config.width, task.num_classes, config.dropout)

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """The encoder and, of other modalities than the text, their part of the gate."""
        own: list[nn.Module] = [self.encoders[modality]]
        if modality != self.config.text:
            own += [self.gate.gates[modality], self.gate.shifts[modality]]
        return [parameter for module in own for parameter in module.parameters()]

    def network(self, batch: Batch) -> Outputs:
        """One pass with every modality of the batch."""
        parts, present = self.encode_parts(batch)
        return self._outputs(parts, present)

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """A pass per coalition, since the other modalities change what the text becomes."""
        return Model.network_coalitions(self, batch, coalitions)

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """The vector of the shifted text under its name, as one frame [N, 1, D], and presence."""
        text = self.config.text
        frames, valid, present = self.encode_frames(batch, self.others)
        if text not in batch.features:
            raise PaSEError(f"The model needs the modality {text!r}; the batch has {list(batch.features)}.")
        here = batch.present[text]
        encoder, lengths = self.encoders[text], batch.lengths[text] * here

        def shifted(states: Tensor, tokens: Tensor) -> Tensor:
            steps = states.shape[1]
            inside = torch.arange(steps, device=states.device) < tokens.unsqueeze(1)
            placed = {n: resample(part, valid[n].sum(1), tokens, steps).to(states) for n, part in frames.items()}
            return self.gate(states, placed, {n: inside & present[n].unsqueeze(1) for n in placed})  # type: ignore[no-any-return]

        if isinstance(encoder, LanguageModelEncoder):
            tokens = lengths.clamp(min=1)
            with self.encoding(batch.features[text]):
                states, mask = encoder.states(
                    batch.features[text], lengths, change=lambda given: shifted(given, tokens), layer=self.config.layer
                )
                vector = encoder.output(encoder.dropout(pool_tokens(states, mask, encoder.pooling)))
            vector = vector.to(self.class_prior.dtype)
        else:
            alone, steps, _ = self.encode_frames(batch, [text])
            states, tokens = alone[text], steps[text].sum(1).clamp(min=1)
            # an absent text is one state of ones, so that the others have something to shift
            missing = ~steps[text].any(1, keepdim=True) & (torch.arange(states.shape[1], device=states.device) == 0)
            states = shifted(states + missing.unsqueeze(2).to(states), tokens)
            vector = pool_tokens(states, steps[text] | missing, "mean")
        return {text: vector.unsqueeze(1)}, {
            name: here if name == text else present[name] for name in self.task.modalities
        }

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n f"]:
        """The vector of the text."""
        return parts[self.config.text][:, 0]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MAGBERT:
    """The plug-in's entry point."""
    return MAGBERT(task, inputs, config)
