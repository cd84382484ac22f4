"""Whether a language model reads the texts to their end, and whether its tokenizer knows their language."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from pase_msa.data.pretrained import load_tokenizer, longest_text
from pase_msa.data.transcripts import count_cut, text_key
from pase_msa.errors import PaSEError
from pase_msa.files import cache_folder, make_folder, read_json, write_json

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


def warn_of_texts(texts: Sequence[str | None], resolved: dict[str, Any]) -> None:
    """Say that the end of some transcripts is not read, and, once a model, that it hardly knows their language.

    What was found is kept beside the states of frozen text, so that a later run need not load a tokenizer to say it.

    Args:
        texts: transcripts.
        resolved: what `resolve_text` returned.
    """
    model = resolved["model"]
    fit = _fit(texts, resolved)
    if fit["cut"]:
        limit = longest_text(model)
        _log.warning(
            "%d of %d transcripts (%.0f %%) are longer than text.max_length, %d tokens, and what follows is not read; "
            "%s",
            fit["cut"],
            fit["count"],
            max(100 * fit["cut"] / fit["count"], 1),
            resolved["max_length"],
            "this language model reads no more"
            if limit is not None and resolved["max_length"] >= limit
            else f"give a larger one{'' if limit is None else f', up to {limit}'}",
        )
    if fit["foreign"] > _FOREIGN and model not in _said:
        _said.add(model)
        _log.warning(
            "%.0f %% of the transcripts are broken into pieces or unknown words by the language model %r, so it hardly "
            "knows their language; choose one that does, such as --text.model xlm-roberta-base or "
            "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
            100 * fit["foreign"],
            model,
        )


def _fit(texts: Sequence[str | None], resolved: dict[str, Any]) -> dict[str, Any]:
    """How many texts are cut off, of how many, and the share that the tokenizer does not know."""
    file = cache_folder("text_fit") / f"{text_key(texts, resolved)}.json"
    with contextlib.suppress(PaSEError):
        return dict(read_json(file, keys=("cut", "count", "foreign")))
    cut, count = count_cut(texts, resolved)
    fit = {"cut": cut, "count": count, "foreign": foreign_share(texts, resolved["model"])}
    with contextlib.suppress(PaSEError):  # no run needs the cache
        make_folder(file.parent)
        write_json(file, fit)
    return fit
