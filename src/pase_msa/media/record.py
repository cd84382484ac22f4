"""The record of an extraction.

It is stored in the feature table, and from there in the model that is trained on it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pase_msa.data.extraction import SETTINGS
from pase_msa.errors import PaSEError
from pase_msa.media.base import FeatureExtractor
from pase_msa.media.config import ExtractConfig
from pase_msa.media.languages import AUTO
from pase_msa.media.speech import VOICE
from pase_msa.media.weights import versions
from pase_msa.media.words import ALIGNER, recogniser_weights

FORMAT = 1


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
    return {
        "format": FORMAT,
        "settings": {name: getattr(config, name) for name in SETTINGS},
        "words": {
            "weights": [weights.to_dict() for weights in (*recogniser_weights(config.recogniser), *ALIGNER, VOICE)],
            "versions": versions(["av", "faster-whisper", "pocketsphinx"]),
        },
        "modalities": modalities,
    }


def with_languages(record: Mapping[str, Any], counts: Iterable[Mapping[str, int]]) -> dict[str, Any]:
    """The record with the number of utterances in each language, for a model that is trained on them.

    Args:
        record: of the extraction.
        counts: by language, of each clip.
    """
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return {**record, "languages": dict(total.most_common())}


def trained_languages(record: Mapping[str, Any]) -> list[str]:
    """The languages of the utterances behind a record, the most frequent first; none where they are not known."""
    declared = record["settings"]["language"]
    return list(record.get("languages") or ([] if declared == AUTO else [declared]))


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
