"""Recordings of several people: cut into utterances with their speakers, by voice or by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media.config import CHANNELS, ExtractConfig, RecordingOptions
from pase_msa.media.decode import RATE, channels_of
from pase_msa.media.speakers import Talk, find_speakers, read_voices
from pase_msa.media.speech import sound_blocks, speech_blocks, speech_in
from pase_msa.media.timelines.base import Segment
from pase_msa.parallel import threads

_LEAKED = 0.25  # of the loudness of another channel, -12 dB: what is quieter is that channel's sound
_FRAME, _SMOOTH = RATE // 100, 20  # samples of a measurement of loudness, and measurements that are averaged
_EQUAL = 0.02  # of the loudness of the first channel, -34 dB: a channel that differs by less holds the same


@threads(1, numpy=True)
def divide(path: str | Path, options: RecordingOptions, config: ExtractConfig) -> list[Segment]:
    """The utterances of a recording with their speakers, in order of time; none where nobody speaks.

    Args:
        path: of the recording.
        options: with `speakers`.
        config: where speech is cut.

    Errors:
        PaSEError: the sound has no channels to tell speakers apart by, or not as many as there are names.
    """
    if options.speakers == CHANNELS:
        return _by_channel(path, options.names, config)
    return _by_voice(path, options, config)


def _by_voice(path: str | Path, options: RecordingOptions, config: ExtractConfig) -> list[Segment]:
    stretches = [
        stretch for begin, sound, spans in speech_blocks(path, config) for stretch in read_voices(sound, spans, begin)
    ]
    talks = find_speakers(stretches, options.count)
    return [Segment(talk.start, talk.end, speaker=_name(talk, options.names)) for talk in talks]


def _name(talk: Talk, names: Sequence[str]) -> str:
    return names[talk.speaker] if talk.speaker < len(names) else f"speaker {talk.speaker + 1}"


def _by_channel(path: str | Path, names: Sequence[str], config: ExtractConfig) -> list[Segment]:
    count = channels_of(path)
    if count < 2:
        raise PaSEError(
            f"{path} has {count or 'no'} channel of sound, so it has not one per speaker; take --speakers auto."
        )
    if names and len(names) != count:
        raise PaSEError(f"{path} has {count} channels, found {len(names)} names; give a name for each channel.")
    segments: list[Segment] = []
    for blocks in zip(*(sound_blocks(path, channel) for channel in range(count)), strict=False):
        begin, sounds = blocks[0][0], [sound for _, sound in blocks]
        if begin == 0 and _same(sounds):
            raise PaSEError(f"{path} holds the same sound in its {count} channels; take --speakers auto.")
        for channel, sound in enumerate(_without_leaks(sounds)):
            name = names[channel] if names else f"channel {channel + 1}"
            segments += [
                Segment(begin + span.start, begin + span.end, speaker=name, channel=channel)
                for span in speech_in(sound, config)
            ]
    return sorted(segments, key=lambda segment: (segment.start, segment.end))


def _loudness(sound: Array) -> float:
    return float(np.sqrt(np.mean(sound.astype(np.float64) ** 2))) if len(sound) else 0.0


def _same(sounds: Sequence[Array]) -> bool:
    """Whether all channels hold what the first one does."""
    shortest = min(map(len, sounds))
    first = sounds[0][:shortest]
    return all(_loudness(sound[:shortest] - first) <= _EQUAL * _loudness(first) for sound in sounds[1:])


def _without_leaks(sounds: Sequence[Array]) -> list[Array]:
    """The channels, silent where another one is much louder: what a microphone or a line lets through of it."""
    frames = min(map(len, sounds)) // _FRAME
    parts = np.stack([sound[: frames * _FRAME].reshape(frames, _FRAME) for sound in sounds])
    mean = np.ones(_SMOOTH) / _SMOOTH
    power = np.stack([np.convolve(row, mean, mode="same") for row in np.square(parts, dtype=np.float64).mean(2)])
    heard = power >= _LEAKED**2 * power.max(0)
    return [(part * own[:, None]).reshape(-1) for part, own in zip(parts, heard, strict=True)]


def with_speakers(segments: Sequence[Segment], found: Sequence[Segment]) -> list[Segment]:
    """Segments that a timeline gives, each with the speaker (and channel) who talks for most of it.

    Args:
        segments: without speakers.
        found: of `divide`.
    """
    result = []
    for segment in segments:
        seconds: dict[tuple[str | None, int | None], float] = {}
        for other in found:
            shared = min(segment.end, other.end) - max(segment.start, other.start)
            if shared > 0:
                key = (other.speaker, other.channel)
                seconds[key] = seconds.get(key, 0.0) + shared
        speaker, channel = max(seconds, key=lambda key: seconds[key], default=(None, None))
        result.append(replace(segment, speaker=speaker, channel=channel))
    return result
