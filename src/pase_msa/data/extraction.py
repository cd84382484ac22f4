"""How the features of a table were extracted: the record is plain data, and a model refuses another table's record.

`pase_msa.media.record` writes the record into `table.meta["extraction"]`. Training copies it into the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError

#: settings of an extraction that hold for every modality
SETTINGS = ("align", "window", "recogniser", "language", "voice", "pause", "longest")
# what may change the numbers of a modality; versions of packages are recorded too, but do not tell two records apart
_BINDING = ("extractor", "options", "weights", "model_sha256")


def difference(expected: Mapping[str, Any], actual: Mapping[str, Any], modalities: Iterable[str]) -> str | None:
    """The first difference between two records for these modalities, as the rest of a sentence; None without one.

    Args:
        expected: the record that a model was trained on.
        actual: the record of the features that it is given.
        modalities: those that the model reads.
    """
    for name in SETTINGS:
        if expected["settings"][name] != actual["settings"][name]:
            return f"{name} was {expected['settings'][name]!r} in training and is {actual['settings'][name]!r} here"
    for modality in modalities:
        before, now = (record["modalities"].get(modality) for record in (expected, actual))
        if before is None or now is None:
            continue
        for name in _BINDING:
            if before.get(name) != now.get(name):
                return f"the {name} of {modality} {_both(before.get(name), now.get(name))}"
    if expected["words"]["weights"] != actual["words"]["weights"]:
        return "the recogniser or aligner of words has other weights than in training"
    return None


def _both(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        return f"had {key} {before.get(key)!r} in training and have {now.get(key)!r} here"
    if isinstance(before, str) and len(before) < 40:
        return f"was {before!r} in training and is {now!r} here"
    return "are others than in training"


def require_same(expected: Mapping[str, Any], actual: Mapping[str, Any], modalities: Iterable[str]) -> None:
    """Refuse features that were extracted otherwise than those that a model was trained on.

    Errors:
        PaSEError: the records differ; the sentence names the first difference.
    """
    if what := difference(expected, actual, modalities):
        raise PaSEError(f"The model was trained on features that were extracted otherwise: {what}; extract them alike.")


def check_extraction(
    expected: Mapping[str, Any] | None, meta: Mapping[str, Any], inputs: Mapping[str, InputSpec]
) -> None:
    """Refuse a table whose record differs from a model's; a table or a model without a record is accepted.

    Args:
        expected: the model's record.
        meta: of the table.
        inputs: of the model. Those that it makes by itself, from transcripts or other utterances, are not compared.
    """
    actual = meta.get("extraction")
    if expected is not None and actual is not None:
        require_same(expected, actual, [name for name, spec in inputs.items() if not spec.made])
