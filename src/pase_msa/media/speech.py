"""Stretches of speech (Silero's voice detector), and the utterances that long media are cut into."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media.clip import Span
from pase_msa.media.config import ExtractConfig
from pase_msa.media.decode import RATE, duration_of, read_audio
from pase_msa.media.weights import Weights, require

VOICE = Weights(
    "faster-whisper",
    "1.2.1",
    "faster_whisper",
    "assets/silero_vad_v6.onnx",
    "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
    "MIT",
)
_PAD = 0.1  # seconds kept on both sides of speech
_BLOCK = 300.0  # seconds of sound that are searched for speech at once


def find_speech(audio: Array, *, threshold: float, pause: float, longest: float = math.inf) -> list[Span]:
    """Stretches of speech in the sound, in seconds from its beginning.

    Args:
        audio: float32 [n] at `RATE` Hz.
        threshold: probability from which on a moment is speech.
        pause: seconds; a shorter silence does not end a stretch.
        longest: seconds; a longer stretch is cut at its last silence, or after this time.
    """
    if not len(audio):
        return []
    VOICE.path()
    vad = require("faster_whisper.vad", "faster-whisper")
    options = vad.VadOptions(
        threshold=threshold,
        min_speech_duration_ms=100,
        max_speech_duration_s=longest,
        min_silence_duration_ms=round(pause * 1000),
        speech_pad_ms=round(_PAD * 1000),
    )
    stretches = vad.get_speech_timestamps(audio, options, sampling_rate=RATE)
    seconds = len(audio) / RATE
    return [Span(item["start"] / RATE, min(item["end"] / RATE, seconds)) for item in stretches]


def sound_blocks(path: str | Path, channel: int | None = None) -> Iterator[tuple[float, Array]]:
    """The sound of a file in blocks, with the time at which each begins, so that the length of the file is no matter.

    Args:
        path: of the file.
        channel: that is read, from 0; the mix of all if left out.
    """
    duration, begin = duration_of(path), 0.0
    while begin == 0 or begin < duration:
        block = read_audio(path, begin, begin + _BLOCK, channel=channel)
        if not len(block):
            return
        yield begin, block
        begin += _BLOCK


def speech_in(sound: Array, config: ExtractConfig) -> list[Span]:
    """Stretches of speech as long media are cut into them, in seconds from the beginning of the sound."""
    return find_speech(sound, threshold=config.voice, pause=config.pause, longest=config.longest)


def speech_blocks(path: str | Path, config: ExtractConfig) -> Iterator[tuple[float, Array, list[Span]]]:
    """Blocks of the sound of a file: where each begins, its sound, and where somebody speaks in it."""
    for begin, sound in sound_blocks(path):
        yield begin, sound, speech_in(sound, config)


def cut(duration: float, speech: Iterable[Span], longest: float) -> list[Span]:
    """Utterances of a long clip: its stretches of speech, or parts of equal length where nobody speaks.

    Args:
        duration: in seconds.
        speech: stretches of speech, none longer than `longest`.
        longest: of a part, in seconds.
    """
    if duration <= 0:
        raise PaSEError("A clip without a length cannot be cut into utterances; give a file with sound or pictures.")
    if stretches := list(speech):
        return stretches
    count = max(1, math.ceil(duration / longest))
    return [Span(i * duration / count, (i + 1) * duration / count) for i in range(count)]
