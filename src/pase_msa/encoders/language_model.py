"""A fine-tuned language model as an encoder of token ids."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.data.inputs import InputSpec
from pase_msa.data.pretrained import load_model, pool_tokens
from pase_msa.encoders.base import Encoder
from pase_msa.encoders.layout import step_mask
from pase_msa.errors import PaSEError
from pase_msa.ranges import PROPER_SHARE, check_ranges

_ROWS = 32  # texts of similar length that are read together where nothing is learned


@dataclass
class Config:
    """Options of the fine-tuned language model; what it is comes from `InputSpec.text`.

    Attributes:
        dropout: before the output.
    """

    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self, "encoders", dropout=PROPER_SHARE)


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
        states, mask = self.states(features, lengths)
        vector: Tensor = self.output(self.dropout(pool_tokens(states, mask, self.pooling)))
        return vector

    def frames(
        self, features: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n t d"], Bool[Tensor, "n t"]]:
        """One vector per token, [N, T, width]: its state, projected; and which tokens are valid."""
        frames: Tensor = self.output(self.dropout(self.states(features, lengths)[0]))
        return frames, step_mask(lengths, features.shape[1])

    def states(
        self,
        features: Int[Tensor, "n t"],
        lengths: Int[Tensor, " n"],
        *,
        change: Callable[[Float[Tensor, "n t h"]], Float[Tensor, "n t h"]] | None = None,
        layer: int = 0,
    ) -> tuple[Float[Tensor, "n t h"], Bool[Tensor, "n t"]]:
        """The last hidden states, [N, T, H], and which tokens are valid.

        Args:
            features: token ids, [N, T].
            lengths: valid tokens, [N].
            change: applied to the hidden states that enter a layer, for models that let other modalities into the
                language model (Rahman et al. 2020, MAG-BERT).
            layer: number of that layer; 0 is the first one after the embeddings.

        Errors:
            PaSEError: the language model has no such layer.
        """
        # an absent text counts as one token: the softmax over a row that is masked everywhere is not defined
        mask = step_mask(lengths.clamp(min=1), features.shape[1])
        alone = change is None and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if alone and len(features) > _ROWS:
            return self._by_length(features, lengths, mask), mask
        with contextlib.nullcontext() if change is None else self._changed(change, layer):
            return self.model(input_ids=features, attention_mask=mask.long()).last_hidden_state, mask

    def _by_length(
        self, features: Int[Tensor, "n t"], lengths: Int[Tensor, " n"], mask: Bool[Tensor, "n t"]
    ) -> Float[Tensor, "n t h"]:
        """The last hidden states, of texts of similar length at a time: a batch in the order of the data has few long
        texts, and all the others would be read with as much padding. States of padding are zero.
        """
        states: Tensor | None = None
        for rows in torch.split(lengths.argsort(), _ROWS):
            longest = max(int(lengths[rows].max()), 1)
            part = self.model(input_ids=features[rows, :longest], attention_mask=mask[rows, :longest].long())
            if states is None:
                states = part.last_hidden_state.new_zeros(*features.shape, part.last_hidden_state.shape[2])
            states[rows, :longest] = part.last_hidden_state
        assert states is not None
        return states

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of the language model, from the first after the embeddings to the last."""
        return list(next((m for m in self.model.modules() if isinstance(m, nn.ModuleList)), []))

    @contextlib.contextmanager
    def _changed(self, change: Callable[[Tensor], Tensor], layer: int) -> Iterator[None]:
        """While it lasts, the hidden states that enter a layer are changed."""
        if not 0 <= layer < len(self.layers):
            raise PaSEError(f"The language model has the layers 0 to {len(self.layers) - 1}, not {layer}.")

        def before(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:  # transformers hands the states over by place in some versions and by name in others
                return (change(args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

        handle = self.layers[layer].register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def learning_rates(self) -> Iterator[tuple[nn.Parameter, float]]:
        """The learning rate of each pretrained parameter; it falls by `layer_decay` per layer, from the top down."""
        depth = len(self.layers)
        height = {id(p): i + 1 for i, layer in enumerate(self.layers) for p in layer.parameters()}
        for parameter in self.model.parameters():
            steps = depth - height.get(id(parameter), 0)
            yield parameter, float(self.learning_rate or 0.0) * self.layer_decay**steps


def build(spec: InputSpec, width: int, config: Config) -> LanguageModelEncoder:
    """The plug-in's entry point."""
    return LanguageModelEncoder(spec, width, config)
