"""Which streams of a file are read: pictures that move or are all there is, and a track that can be heard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.media.weights import require

_SILENT = 1e-4  # of full scale, -80 dB
_QUIETER = 0.1  # of the loudest channel, -20 dB: so much of the sound is lost where channels cancel
_HEARD = 60.0  # seconds of a track that are listened to, since a silent one would be read to its end


def video_stream(container: Any) -> Any | None:
    """The first video stream that is no attached picture, such as the cover of a music file; None where there is none.

    Streams whose decoder is not installed, or that state no size, hold no pictures that could be read.
    """
    av = require("av", "av")
    for stream in container.streams.video:
        attached = bool(stream.disposition & av.stream.Disposition.attached_pic)
        if not attached and _decodable(stream) and stream.codec_context.width and stream.codec_context.height:
            return stream
    return None


def audio_streams(container: Any) -> list[Any]:
    """Audio streams that can be decoded, the default one first."""
    av = require("av", "av")
    streams = [stream for stream in container.streams.audio if _decodable(stream)]
    return sorted(streams, key=lambda stream: not stream.disposition & av.stream.Disposition.default)


def audible(stream: Any, frames: Iterator[Any]) -> bool:
    """Whether any of the first minute of a track's frames can be heard in any channel."""
    av = require("av", "av")
    to_float = av.AudioResampler(format="flt")
    seconds = 0.0
    with contextlib.suppress(av.FFmpegError, OSError):
        for frame in frames:
            frame.pts = None
            for part in to_float.resample(frame):
                if float(np.abs(np.nan_to_num(part.to_ndarray())).max(initial=0.0)) >= _SILENT:
                    return True
            seconds += frame.samples / max(1, frame.sample_rate)
            if seconds > _HEARD:
                break
    return False


class Mono:
    """Frames of any rate, format and layout as one channel of whole numbers at another rate.

    The channels are mixed, and their loudness is kept beside the mix: where they cancel each other, as with a
    microphone that is wired the wrong way round, the mix is silent and the sound is not.

    Args:
        rate: of the result, in Hz.
        channel: the one that is read; None is the mix of all.
    """

    def __init__(self, rate: int, channel: int | None = None) -> None:
        self.rate, self.channel = rate, channel
        self._start()
        self._energy: Array = np.zeros(0)
        self._mixed = 0.0
        self._samples = 0

    def _start(self) -> None:
        av = require("av", "av")
        self._packed = av.AudioResampler(format="flt")  # not by planes: PyAV miscounts those of eight channels
        self._to_rate = av.AudioResampler(format="s16", layout="mono", rate=self.rate)

    def add(self, frame: Any) -> list[Array]:
        """The sound of a frame, as far as it can be given already, int16 [n] each."""
        frame.pts = None  # gaps in the clock of a file are not gaps in its sound
        try:
            return self._add(frame)
        except ValueError:  # the format changes within the stream
            before = self.end()
            self._start()
            return before + self._add(frame)

    def _add(self, frame: Any) -> list[Array]:
        av = require("av", "av")
        if frame.layout.nb_channels == 1:
            return [part.to_ndarray().reshape(-1) for part in self._to_rate.resample(frame)]
        result: list[Array] = []
        if self.channel is None:
            result = [part.to_ndarray().reshape(-1) for part in self._to_rate.resample(frame)]
        for packed in self._packed.resample(frame):
            values = np.nan_to_num(packed.to_ndarray().reshape(-1, packed.layout.nb_channels).T)
            if self.channel is None:
                self._count(values)
                continue
            chosen = np.ascontiguousarray(values[min(self.channel, len(values) - 1)][None])
            one = av.AudioFrame.from_ndarray(chosen, format="fltp", layout="mono")
            one.sample_rate = packed.sample_rate
            result += [part.to_ndarray().reshape(-1) for part in self._to_rate.resample(one)]
        return result

    def _count(self, values: Array) -> None:
        energy = (values.astype(np.float64) ** 2).sum(1)
        if len(energy) > len(self._energy):
            self._energy = np.pad(self._energy, (0, len(energy) - len(self._energy)))
        self._energy[: len(energy)] += energy
        self._mixed += float((values.mean(0, dtype=np.float64) ** 2).sum())
        self._samples += values.shape[1]

    def end(self) -> list[Array]:
        """What is left at the end of the stream."""
        return [part.to_ndarray().reshape(-1) for part in self._to_rate.resample(None)]

    def cancelled(self) -> int | None:
        """The loudest channel where the mix lost it; None where the mix has the sound."""
        if self.channel is not None or not self._samples:
            return None
        loudest = int(self._energy.argmax())
        loudness = float(np.sqrt(self._energy[loudest] / self._samples))
        # the mix of one channel that speaks and k - 1 silent ones has 1 / k of its loudness, which is no cancelling
        mixed = float(np.sqrt(self._mixed / self._samples))
        lost = loudness >= _SILENT and mixed < _QUIETER * loudness / len(self._energy)
        return loudest if lost else None


def _decodable(stream: Any) -> bool:
    """Whether there is a decoder; PyAV has no context for a codec that it does not know."""
    with contextlib.suppress(Exception):
        return stream.codec_context is not None and bool(stream.codec_context.is_decoder)
    return False
