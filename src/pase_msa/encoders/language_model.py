"""A fine-tuned language model as an encoder of token ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.data.inputs import InputSpec
from pase_msa.data.pretrained import load_model, pool_tokens
from pase_msa.encoders.base import Encoder
from pase_msa.encoders.layout import step_mask
from pase_msa.errors import PaSEError


@dataclass
class Config:
    """Options of the fine-tuned language model; what it is comes from `InputSpec.text`.

    Attributes:
        dropout: before the output.
    """

    dropout: float = 0.1


class LanguageModelEncoder(Encoder):
    """Any `transformers` model, encoder or decoder, pooled and projected; trained at its own learning rate."""

    def __init__(self, spec: InputSpec, width: int, config: Config) -> None:
        super().__init__()
        if spec.text is None:
            raise PaSEError("The language_model encoder reads transcripts, and this modality has none.")
        self.pooling = str(spec.text["pooling"])
        self.learning_rate = float(spec.text["learning_rate"])
        self.layer_decay = float(spec.text["layer_decay"])
        self.model = load_model(spec.text["model"], pretrained=spec.text.get("pretrained", True))
        if hasattr(self.model, "pooler"):
            # the pooler is not used here; parameters without a gradient would stop distributed training
            self.model.pooler = None
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(int(self.model.config.hidden_size), width)

    def forward(self, features: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """One vector per text, [N, width], from token ids [N, T] and lengths [N]."""
        states, mask = self._states(features, lengths)
        vector: Tensor = self.output(self.dropout(pool_tokens(states, mask, self.pooling)))
        return vector

    def frames(
        self, features: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n t d"], Bool[Tensor, "n t"]]:
        """One vector per token, [N, T, width]: its state, projected; and which tokens are valid."""
        frames: Tensor = self.output(self.dropout(self._states(features, lengths)[0]))
        return frames, step_mask(lengths, features.shape[1])

    def _states(
        self, features: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n t h"], Bool[Tensor, "n t"]]:
        # an absent text counts as one token: the softmax over a row that is masked everywhere is not defined
        mask = step_mask(lengths.clamp(min=1), features.shape[1])
        return self.model(input_ids=features, attention_mask=mask.long()).last_hidden_state, mask

    def learning_rates(self) -> Iterator[tuple[nn.Parameter, float]]:
        """The learning rate of each pretrained parameter; it falls by `layer_decay` per layer, from the top down."""
        layers = next((m for m in self.model.modules() if isinstance(m, nn.ModuleList)), None)
        depth = len(layers) if layers is not None else 0
        height = {id(p): i + 1 for i, layer in enumerate(layers or []) for p in layer.parameters()}
        for parameter in self.model.parameters():
            steps = depth - height.get(id(parameter), 0)
            yield parameter, float(self.learning_rate or 0.0) * self.layer_decay**steps


def build(spec: InputSpec, width: int, config: Config) -> LanguageModelEncoder:
    """The plug-in's entry point."""
    return LanguageModelEncoder(spec, width, config)
