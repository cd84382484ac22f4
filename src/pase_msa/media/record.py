"""The record of an extraction.

It is stored in the feature table, and from there in the model that is trained on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.media.base import FeatureExtractor
from pase_msa.media.config import ExtractConfig
from pase_msa.media.speech import VOICE
from pase_msa.media.weights import versions
from pase_msa.media.words import ALIGNER, RECOGNISER

FORMAT = 1
_SETTINGS = ("align", "window", "recogniser", "language", "voice", "pause", "longest")
# what may change the numbers of a modality; versions of packages are told, but do not part two records
_BINDING = ("extractor", "options", "weights", "model_sha256")


def make_record(config: ExtractConfig, extractors: Mapping[str, FeatureExtractor]) -> dict[str, Any]:
    """Extractors, versions, options and the hashes of all weights, as plain containers."""
    modalities = {}
    for name, extractor in extractors.items():
        plugin, options = config.options(name)
        modalities[name] = {
            "extractor": plugin,
            "options": dataclasses.asdict(options),
            "dim": table_dim(extractor, config),
            "columns": table_columns(extractor, config),
            "weights": [weights.to_dict() for weights in extractor.weights],
            "versions": versions(extractor.versions),
            **extractor.state(),
        }
    recogniser = RECOGNISER if config.recogniser == "tiny.en" else ()
    return {
        "format": FORMAT,
        "settings": {name: getattr(config, name) for name in _SETTINGS},
        "words": {
            "weights": [weights.to_dict() for weights in (*recogniser, *ALIGNER, VOICE)],
            "versions": versions(["av", "faster-whisper", "pocketsphinx"]),
        },
        "modalities": modalities,
    }


def table_dim(extractor: FeatureExtractor, config: ExtractConfig) -> int:
    """Size of a step in the table."""
    return extractor.dim * (2 if extractor.deviations and config.align != "frame" else 1)


def table_columns(extractor: FeatureExtractor, config: ExtractConfig) -> list[str]:
    """Names of the numbers of a step in the table, where the extractor has names."""
    names = list(extractor.columns)
    if extractor.deviations and config.align != "frame":
        names += [f"{name}_deviation" for name in names]
    return names


def config_of(record: Mapping[str, Any]) -> ExtractConfig:
    """The configuration that gives features as in the record.

    Errors:
        PaSEError: the record is of another format, or damaged.
    """
    try:
        if record["format"] != FORMAT:
            raise PaSEError(
                f"The extraction is recorded in format {record['format']}, this version reads {FORMAT}; extract again."
            )
        modalities = record["modalities"]
        extractors = {name: {"extractor": item["extractor"], **item["options"]} for name, item in modalities.items()}
        return ExtractConfig(list(modalities), extractors, **record["settings"])
    except (KeyError, TypeError) as error:
        raise PaSEError(f"The record of the extraction is damaged ({error}); extract again.") from error


def difference(expected: Mapping[str, Any], found: Mapping[str, Any], modalities: Iterable[str]) -> str | None:
    """What sets two records apart for these modalities, as the rest of a sentence; None where nothing does.

    Args:
        expected: what a model was trained on.
        found: what it is to be given.
        modalities: that it reads.
    """
    for name in _SETTINGS:
        if expected["settings"][name] != found["settings"][name]:
            return f"{name} was {expected['settings'][name]!r} in training and is {found['settings'][name]!r} here"
    for modality in modalities:
        before, now = (record["modalities"].get(modality) for record in (expected, found))
        if before is None or now is None:
            continue
        for name in _BINDING:
            if before.get(name) != now.get(name):
                return f"the {name} of {modality} {_both(before.get(name), now.get(name))}"
    if expected["words"]["weights"] != found["words"]["weights"]:
        return "the recogniser or aligner of words has other weights than in training"
    return None


def _both(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        return f"had {key} {before.get(key)!r} in training and have {now.get(key)!r} here"
    if isinstance(before, str) and len(before) < 40:
        return f"was {before!r} in training and is {now!r} here"
    return "are others than in training"


def require_same(expected: Mapping[str, Any], found: Mapping[str, Any], modalities: Iterable[str]) -> None:
    """Refuse features that were made otherwise than those a model was trained on."""
    if what := difference(expected, found, modalities):
        raise PaSEError(f"The model was trained on features that were extracted otherwise: {what}; extract them alike.")


def check_table(expected: Mapping[str, Any] | None, meta: Mapping[str, Any], inputs: Mapping[str, InputSpec]) -> None:
    """Refuse a table whose features were made otherwise than those a model was trained on, where both are known.

    Args:
        expected: the model's record.
        meta: of the table.
        inputs: of the model; those that it makes from transcripts by itself are not compared.
    """
    found = meta.get("extraction")
    if expected is not None and found is not None:
        require_same(expected, found, [name for name, spec in inputs.items() if spec.text is None])
