"""Speech in sound that is still coming: the voice detector with its state, and utterances cut as `find_speech` cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.media.decode import RATE
from pase_msa.media.speech import VOICE
from pase_msa.media.weights import require

FRAME = 512
"""Samples that the detector judges at once, 32 ms."""
_CONTEXT = 64  # samples before a frame that it reads too
_STATE = 128
_HYSTERESIS = 0.15  # a moment is silence only if it is so much below the threshold
_PAD = 0.1  # seconds kept on both sides of speech, as in `find_speech`
_SHORTEST = 0.1  # seconds of speech, as in `find_speech`
_SHORT_SILENCE = 0.098  # seconds; a longer silence is where an utterance may be cut that gets too long


class VoiceStream:
    """Silero's voice detector over sound that comes in pieces. It gives what it gives for the whole sound at once."""

    def __init__(self) -> None:
        runtime = require("onnxruntime", "onnxruntime")
        options = runtime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self._session: Any = runtime.InferenceSession(
            str(VOICE.path()), providers=["CPUExecutionProvider"], sess_options=options
        )
        self.reset()

    def reset(self) -> None:
        """Forget what came before."""
        self._h = self._c = np.zeros((1, 1, _STATE), np.float32)
        self._before = np.zeros(_CONTEXT, np.float32)

    def __call__(self, sound: Array) -> Array:
        """Probability of speech in every frame, float32 [n].

        Args:
            sound: float32 [n * FRAME] at `RATE` Hz; it goes on where the last one ended.
        """
        if not len(sound):
            return np.zeros(0, np.float32)
        padded = np.concatenate([self._before, sound])
        starts = np.arange(0, len(sound), FRAME)
        frames = padded[starts[:, None] + np.arange(_CONTEXT + FRAME)]
        values, self._h, self._c = self._session.run(None, {"input": frames, "h": self._h, "c": self._c})
        self._before = padded[-_CONTEXT:]
        probabilities: Array = np.asarray(values, np.float32).reshape(-1)
        return probabilities


@dataclass(frozen=True)
class Stretch:
    """An utterance.

    Attributes:
        start: its first sample, from the beginning of the stream.
        end: the sample after its last one.
    """

    start: int
    end: int


class Cutter:
    """Cuts a stream into utterances by the probabilities of its frames, by the rules of `find_speech`.

    Args:
        threshold: probability from which on a moment is speech.
        pause: seconds of silence that end an utterance.
        longest: seconds; a longer utterance is cut at its last silence, or there.
    """

    def __init__(self, threshold: float, pause: float, longest: float) -> None:
        self._threshold, self._silent = threshold, max(threshold - _HYSTERESIS, 0.01)
        self._pause, self._longest = pause * RATE, longest * RATE - FRAME - 2 * _PAD * RATE
        self._pad = round(_PAD * RATE)
        self.position = 0
        self._last = 0  # where the last utterance ended, with its padding
        self._clear()

    def _clear(self) -> None:
        self._start: int | None = None
        self._ended: int | None = None  # where the silence began that may end the utterance
        self._cut: int | None = None  # the last silence at which a long utterance may be cut
        self._next: int | None = None  # where speech went on after that

    @property
    def start(self) -> int | None:
        """Where the utterance began that is being spoken; None in silence."""
        return None if self._start is None else max(self._last, self._start - self._pad)

    @property
    def needed(self) -> int:
        """The first sample that an utterance to come may still hold."""
        start = self.start
        return max(self._last, self.position - self._pad) if start is None else start

    @property
    def spoken(self) -> int:
        """The end of what has been said of the utterance: where its silence began, or now."""
        return self.position if self._ended is None else min(self.position, self._ended + self._pad)

    @property
    def silence(self) -> float:
        """Seconds for which the utterance has been silent; 0 while somebody speaks."""
        return 0.0 if self._ended is None else (self.position - self._ended) / RATE

    def add(self, probability: float) -> Stretch | None:
        """Take one more frame; the utterance that ends by it."""
        here, speech = self.position, probability >= self._threshold
        self.position += FRAME
        if speech and self._ended is not None:
            self._ended = None
            if self._cut is not None and (self._next is None or self._next < self._cut):
                self._next = here
        if self._start is None:
            if speech:
                self._start = here
            return None
        if here - self._start > self._longest:
            return self._shorten(here, silent=probability < self._silent)
        if probability < self._silent:
            if self._ended is None:
                self._ended = here
            if here - self._ended > _SHORT_SILENCE * RATE:
                self._cut = self._ended
            if here - self._ended >= self._pause:
                return self._end(self._ended)
        return None

    def _shorten(self, here: int, *, silent: bool) -> Stretch | None:
        """End an utterance that is too long, at its last silence."""
        cut, following = self._cut, self._next
        if cut is None:
            return self._end(here)
        if following is None or following < cut:
            return self._end(cut)
        done = self._end(cut, min(self._pad, (following - cut) // 2))
        self._start = following
        self._ended = here if silent else None
        return done

    def flush(self, end: int) -> Stretch | None:
        """The utterance that the end of the stream ends, with all that follows it.

        Args:
            end: samples of the stream.
        """
        self.position = min(self.position, end)
        return None if self._start is None else self._end(end)

    def skip(self, samples: int) -> None:
        """Go on after a gap; nothing may be spoken."""
        self._clear()
        self.position += samples
        self._last = self.position

    def _end(self, end: int, pad: int | None = None) -> Stretch | None:
        start, first = self.start, self._start
        assert start is not None
        assert first is not None
        self._clear()
        if end - first <= _SHORTEST * RATE:
            return None
        self._last = min(end + (self._pad if pad is None else pad), self.position)
        return Stretch(start, self._last)
