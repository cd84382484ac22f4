"""Whether a language model's tokenizer knows the language of the texts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from pase_msa.data.pretrained import load_tokenizer

_log = logging.getLogger(__name__)
_MOST_TEXTS, _LEAST_TOKENS = 400, 6
_PIECES, _UNKNOWN = 0.3, 0.1
"""Shares of a text's tokens that continue a word, or are unknown, above which the tokenizer does not know the text.

Of English transcripts (CMU-MOSI, IEMOCAP) about 1 % are above them with MiniLM's tokenizer; of German, Spanish,
Russian, Chinese and Turkish sentences nearly all.
"""
_FOREIGN = 0.15
_said: set[str] = set()


def foreign_share(texts: Sequence[str | None], model: str) -> float:
    """Share of the texts (of six tokens or more) that the tokenizer breaks into pieces or does not know, in [0, 1].

    Args:
        texts: transcripts; at most 400 of them, evenly spread, are looked at.
        model: name of the language model, as in `TextConfig.model`.
    """
    filled = [text for text in texts if text and text.strip()]
    tokenizer = load_tokenizer(model)
    unknown = tokenizer.unk_token
    odd = []
    for text in filled[:: max(1, -(-len(filled) // _MOST_TEXTS))]:
        tokens = tokenizer.tokenize(text)
        if len(tokens) >= _LEAST_TOKENS:
            starts = _starts(tokens)
            pieces, missing = 1 - starts / len(tokens), sum(token == unknown for token in tokens) / len(tokens)
            odd.append(pieces > _PIECES or missing > _UNKNOWN)
    return float(np.mean(odd)) if odd else 0.0


def _starts(tokens: Sequence[str]) -> int:
    """How many tokens begin a word: WordPiece marks the others, SentencePiece and byte-level BPE mark these."""
    if any(token.startswith("##") for token in tokens):
        return sum(not token.startswith("##") for token in tokens)
    marked = sum(token.startswith(("\u2581", "\u0120")) for token in tokens)
    return marked + 1 if marked and not tokens[0].startswith(("\u2581", "\u0120")) else marked or len(tokens)


def warn_of_language(texts: Sequence[str | None], model: str) -> None:
    """Say once per process and model that its tokenizer does not know the language of the texts."""
    if model in _said or not any(texts):
        return
    share = foreign_share(texts, model)
    if share > _FOREIGN:
        _said.add(model)
        _log.warning(
            "%.0f %% of the transcripts are broken into pieces or unknown words by the language model %r, so it hardly "
            "knows their language; choose one that does, such as --text.model xlm-roberta-base or "
            "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
            100 * share,
            model,
        )
