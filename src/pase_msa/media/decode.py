"""Decoding with PyAV: what a file holds, its sound at 16 kHz, and pictures at a stated rate.

Files are read as streams, so that their length does not matter for memory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media.streams import Mono, audible, audio_streams, video_stream
from pase_msa.media.weights import require

RATE = 16_000  # Hz; the recogniser, the voice detector and the aligner were trained at it
_FAULTS = (ValueError, MemoryError, RuntimeError, OverflowError)  # of PyAV, for frames that it cannot hand over
MOST_PIXELS = 64_000_000  # per picture; a decoder holds several of them


@dataclass(frozen=True)
class Info:
    """What a media file holds.

    Attributes:
        duration: in seconds; 0 where neither the file nor its packets state it.
        audio: whether there is sound.
        video: whether there are pictures.
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        frame_rate: pictures per second.
        sample_rate: of the sound, in Hz.
        channels: of the sound.
    """

    duration: float
    audio: bool
    video: bool
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    sample_rate: int = 0
    channels: int = 0


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """The container. It can read this one file only, so that a playlist in it opens no other."""
    av = require("av", "av")
    file = Path(path)
    if not file.is_file():
        if file.exists():  # a pipe or a device may block or never end
            raise PaSEError(f"{file} is no plain file (a folder, pipe or device); give a video or audio file.")
        raise PaSEError(f"There is no file {file}; check the path.")
    if not file.stat().st_size:
        raise PaSEError(f"{file} is empty (0 bytes); record or copy it again.")
    with file.open("rb") as stream:
        try:
            container = av.open(
                stream, options={"protocol_whitelist": "none"}, metadata_errors="ignore", buffer_size=1 << 20
            )
        except (av.FFmpegError, OSError, *_FAULTS) as error:
            raise PaSEError(
                f"{file} cannot be read as video or audio ({_reason(error)}): it is cut off, damaged or no media file."
            ) from error
        with container:
            yield container


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split(";")[0].strip().lower()


def probe(path: str | Path) -> Info:
    """What a file holds.

    Errors:
        PaSEError: the file does not exist, is empty, damaged or not a media file, or has neither sound nor pictures, or
            pictures that are too large.
    """
    with _opened(path) as container:
        audio = next(iter(audio_streams(container)), None)
        video = video_stream(container)
        if audio is None and video is None:
            raise PaSEError(f"{path} holds neither sound nor pictures; give a video or audio file.")
        facts: dict[str, Any] = {"duration": _duration(container, audio, video)}
        if audio is not None:
            facts["sample_rate"] = int(audio.codec_context.sample_rate or 0)
            facts["channels"] = int(audio.codec_context.layout.nb_channels)
        if video is not None:
            width, height = int(video.codec_context.width), int(video.codec_context.height)
            if width * height > MOST_PIXELS:
                raise PaSEError(
                    f"{path} has pictures of {width} x {height} pixels, more than {MOST_PIXELS // 1_000_000} million; "
                    "scale it down first."
                )
            facts |= {"width": width, "height": height, "frame_rate": float(video.average_rate or 0)}
        return Info(audio=audio is not None, video=video is not None, **facts)


def duration_of(path: str | Path) -> float:
    """Length of a media file in seconds; the errors are those of `probe`."""
    return probe(path).duration


def channels_of(path: str | Path) -> int:
    """Channels of the sound of a media file, 0 where it has none; the errors are those of `probe`."""
    return probe(path).channels


def _duration(container: Any, *streams: Any) -> float:
    if container.duration and container.duration > 0:
        return float(container.duration) / 1e6
    durations = [float(s.duration * s.time_base) for s in streams if s is not None and s.duration and s.time_base]
    return max(durations, default=0.0) or _end_of_packets(container)


def _end_of_packets(container: Any) -> float:
    """The end of the last packet, since files that a browser records do not state their length."""
    av = require("av", "av")
    end = 0.0
    with contextlib.suppress(av.FFmpegError, OSError):
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return max(0.0, end - _origin(container))


def _origin(container: Any) -> float:
    """The time at which the file begins, on its own clock, in seconds."""
    return float(container.start_time or 0) / 1e6


def _decoded(container: Any, stream: Any, start: float, notes: list[str]) -> Iterator[Any]:
    """Frames of a stream from `start` on; where the rest is damaged they end there, with a note."""
    av = require("av", "av")
    stream.codec_context.thread_count = 1  # processes run side by side, and a decoder's threads each hold pictures
    try:
        if start > 0:
            container.seek(int((start + _origin(container)) * 1e6))
        yield from container.decode(stream)
    except (av.FFmpegError, OSError, *_FAULTS) as error:
        notes.append(f"The file is damaged ({_reason(error)}), so only what comes before was read.")


def read_audio(
    path: str | Path,
    start: float = 0.0,
    end: float = math.inf,
    notes: list[str] | None = None,
    channel: int | None = None,
) -> Array:
    """The sound between two times as float32 [n] in [-1, 1], mono, at `RATE` Hz; [0] where there is none.

    Where the sound begins later than the pictures, silence is put before it, so that times agree.

    Args:
        path: of the file.
        start: in seconds from its beginning.
        end: in seconds.
        notes: that sentences about what was repaired are added to.
        channel: that is read, from 0; the mix of all if left out.
    """
    notes = notes if notes is not None else []
    number = _track(path, notes)
    if number is None:
        return np.zeros(0, np.float32)
    mono = Mono(RATE, channel)
    begin, parts = _listen(path, number, mono, start, end, notes)
    if (channel := mono.cancelled()) is not None:
        notes.append(f"The channels of the sound cancel each other, so channel {channel + 1} alone was read.")
        begin, parts = _listen(path, number, Mono(RATE, channel), start, end, [])
    if not parts or begin is None:
        return np.zeros(0, np.float32)
    sound = np.concatenate(parts)
    offset = round((begin - start) * RATE)
    sound = np.pad(sound, (offset, 0)) if offset > 0 else sound[-offset:]
    if math.isfinite(end):
        sound = sound[: round((end - start) * RATE)]
    return sound.astype(np.float32) / 32768


def _track(path: str | Path, notes: list[str]) -> int | None:
    """The number of the audio stream that is read: the default one, or the next that is not silent."""
    with _opened(path) as container:
        numbers: list[int] = [stream.index for stream in audio_streams(container)]
    if len(numbers) < 2:
        return next(iter(numbers), None)
    for place, number in enumerate(numbers):
        with _opened(path) as container:
            stream = container.streams[number]
            if audible(stream, _decoded(container, stream, 0.0, [])):
                what = f"the default one is silent, so stream {number}" if place else "the default one"
                notes.append(f"The file has {len(numbers)} audio tracks; {what} was read.")
                return number
    return numbers[0]


def _listen(
    path: str | Path, number: int, mono: Mono, start: float, end: float, notes: list[str]
) -> tuple[float | None, list[Array]]:
    """The sound of a stream between two times, and the time at which it begins."""
    parts: list[Array] = []
    begin: float | None = None
    with _opened(path) as container:
        origin = _origin(container)
        for frame in _decoded(container, container.streams[number], start, notes):
            time = (frame.time - origin) if frame.time is not None else None
            if time is not None and time >= end:
                break
            if begin is None:
                begin = time if time is not None else start
            parts += mono.add(frame)
        if begin is not None:
            parts += mono.end()
    return begin, parts


def read_frames(
    path: str | Path,
    rate: float,
    longest_side: int,
    start: float = 0.0,
    end: float = math.inf,
    notes: list[str] | None = None,
) -> Iterator[tuple[float, Image]]:
    """Pictures between two times as (time in seconds, RGB image), at most `rate` per second, one in memory at a time.

    Larger ones are scaled down to `longest_side` before they become RGB; a rotation that the file states is applied.
    """
    av = require("av", "av")
    notes = notes if notes is not None else []
    with _opened(path) as container:
        stream = video_stream(container)
        if stream is None:
            return
        origin, due = _origin(container), start
        for i, frame in enumerate(_decoded(container, stream, start, notes)):
            time = (frame.time - origin) if frame.time is not None else start + i / float(stream.average_rate or 25)
            if time >= end:
                break
            if time < due - 1e-6:
                continue
            due = start + (math.floor((time - start) * rate + 1e-6) + 1) / rate
            if frame.width * frame.height > MOST_PIXELS:  # sizes may change within a stream
                notes.append(f"A picture has {frame.width} x {frame.height} pixels, so the rest was not read.")
                break
            scale = min(1.0, longest_side / max(frame.width, frame.height))
            size = {"width": max(1, round(frame.width * scale)), "height": max(1, round(frame.height * scale))}
            try:
                image: Image = frame.reformat(format="rgb24", **size).to_image()
            except (av.FFmpegError, OSError, *_FAULTS) as error:
                notes.append(f"Pictures cannot be turned into RGB ({_reason(error)}), so the rest was not read.")
                break
            if rotation := getattr(frame, "rotation", 0):
                image = image.rotate(rotation, expand=True)
            yield max(time, 0.0), image
