"""Predictions while somebody speaks: sound comes in by pieces, messages about utterances go out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.context import REACH
from pase_msa.data.table import Utterance
from pase_msa.errors import PaSEError
from pase_msa.media.decode import RATE
from pase_msa.media.voice import FRAME, Cutter, Stretch, VoiceStream
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.results import SCHEMA_VERSION, UtteranceResult

SETTLED = 0.2
"""Seconds of silence after which what was said is predicted already, in case that the utterance ends there."""
Message = dict[str, Any]
Send = Callable[[Message], None]


@dataclass(frozen=True)
class LiveLimits:
    """Limits of a stream.

    Attributes:
        every: seconds of speech between two partial results; 0 gives none.
        buffer: seconds of sound that may wait; of more, the oldest is dropped.
    """

    every: float = 1.0
    buffer: float = 30.0

    def __post_init__(self) -> None:
        if not (0 <= self.every <= 60 and 1 <= self.buffer <= 600):
            raise PaSEError(
                "A stream needs partial results every 0 to 60 s and a buffer of 1 to 600 s, found "
                f"{self.every:g} and {self.buffer:g}."
            )


class LiveStream:
    """The sound of one microphone, and the utterances in it.

    `feed` and `end` may be called from any thread, the rest from one thread.

    Args:
        predictor: gives the predictions.
        send: called with every message.
        limits: of the stream.
    """

    def __init__(self, predictor: ClipPredictor, send: Send, limits: LiveLimits | None = None) -> None:
        self._predictor, self._send = predictor, send
        self._limits = limits or LiveLimits()
        config = predictor.extractor.config
        self._voice = VoiceStream()
        self._cutter = Cutter(config.voice, config.pause, config.longest)
        self._lock = threading.Lock()
        self._waiting: deque[Array | int] = deque()  # sound, and the length of a gap where some was dropped
        self._samples = 0  # that wait
        self._ending = self._ended = False
        self._sound = np.zeros(0, np.float32)  # from `_offset` on
        self._offset = 0
        self._chances: deque[float] = deque()  # of speech, in the frames that the cutter has not seen
        self._finished: Stretch | None = None
        self._partial: _Predicted | None = None
        self._before: deque[Utterance] = deque(maxlen=REACH)
        self._number = 0

    # called by whoever has the sound: ---------------------------------------------------------------------------

    def feed(self, sound: Array) -> None:
        """Hand over sound, int16 [n] at 16 kHz; where more waits than may, the oldest is dropped with a message."""
        with self._lock:
            if self._ending or not len(sound):
                return
            self._waiting.append(sound)
            self._samples += len(sound)
            self._drop()

    def end(self) -> None:
        """No more sound comes; the last utterance is finished."""
        with self._lock:
            self._ending = True

    @property
    def waiting(self) -> float:
        """Seconds of sound that nobody has listened to so far."""
        return self._samples / RATE

    @property
    def done(self) -> bool:
        """Whether the stream has ended and everything of it has been predicted."""
        return self._ended

    def _drop(self) -> None:
        excess = self._samples - round(self._limits.buffer * RATE)
        gap = 0
        while excess > 0:
            first = self._waiting.popleft()
            if isinstance(first, int):
                gap += first
                continue
            cut = min(excess, len(first))
            gap, excess = gap + cut, excess - cut
            self._samples -= cut
            if cut < len(first):
                self._waiting.appendleft(first[cut:])
        if gap:
            self._waiting.appendleft(gap)

    # called by whoever predicts: --------------------------------------------------------------------------------

    @property
    def urgency(self) -> int | None:
        """0 if an utterance has ended, 1 if it may have, 2 if a partial result is due; None if there is nothing."""
        if self._finished is not None:
            return 0
        start = self._cutter.start
        if start is None:
            return None
        spoken = self._cutter.spoken
        told = None if self._partial is None else self._partial.stretch.end
        if self._cutter.silence >= SETTLED:
            return 1 if told != spoken else None
        if not self._limits.every:
            return None
        since = start if told is None else told
        return 2 if self._cutter.silence == 0 and spoken - since >= self._limits.every * RATE else None

    def listen(self) -> None:
        """Look for speech in the sound that waits, until an utterance ends or nothing waits; it takes little time."""
        while self._finished is None and not self._ended:
            while self._chances and self._finished is None:
                self._finished = self._cutter.add(self._chances.popleft())
                self._forget_noise()
            if self._finished is not None or not self._take():
                return

    def _forget_noise(self) -> None:
        """A partial result about what turned out to be no utterance, as a click, is taken back."""
        if self._partial is not None and self._finished is None and self._cutter.start is None:
            if self._limits.every:
                self._tell("nothing", self._partial.stretch, detail="That was no speech.")
            self._partial = None

    def _take(self) -> bool:
        """Take sound or a gap from what waits; whether there was any."""
        with self._lock:
            item = self._waiting.popleft() if self._waiting else None
            if item is not None and not isinstance(item, int):
                self._samples -= len(item)
            ending = self._ending
        if item is None:
            return ending and self._flush()
        if isinstance(item, int):
            return self._skip(item)
        self._trim()
        self._sound = np.concatenate([self._sound, item.astype(np.float32) / 32768])
        self._judge()
        return True

    def _judge(self) -> None:
        """Chances of speech in the frames that are complete."""
        begin = self._cutter.position + FRAME * len(self._chances) - self._offset
        count = max(0, len(self._sound) - begin) // FRAME
        self._chances.extend(self._voice(self._sound[begin : begin + count * FRAME]).tolist())

    def _trim(self) -> None:
        """Forget the sound of what is over."""
        useless = min(self._cutter.needed, self._cutter.position) - self._offset
        if useless > 0:
            self._sound = self._sound[useless:]
            self._offset += useless

    def _skip(self, gap: int) -> bool:
        """Sound was dropped: what is spoken ends there, and the voice detector starts afresh."""
        end = self._offset + len(self._sound)
        if (stretch := self._cutter.flush(end)) is not None:
            with self._lock:  # the gap is dealt with after the utterance
                self._waiting.appendleft(gap)
            self._finished = stretch
            return True
        self._send(
            {
                "type": "dropped",
                "start": end / RATE,
                "end": (end + gap) / RATE,
                "detail": f"{gap / RATE:.1f} s of sound were dropped: it comes faster than it can be predicted.",
            }
        )
        self._partial = None
        self._cutter.skip(end + gap - self._cutter.position)
        self._voice.reset()
        self._chances.clear()
        self._sound, self._offset = np.zeros(0, np.float32), end + gap
        return True

    def _flush(self) -> bool:
        """The end of the stream."""
        length = self._offset + len(self._sound)
        rest = length - self._cutter.position
        if 0 < rest < FRAME:  # an incomplete frame
            frame = np.pad(self._sound[len(self._sound) - rest :], (0, FRAME - rest))
            self._finished = self._cutter.add(float(self._voice(frame)[0]))
        if self._finished is None:
            self._finished = self._cutter.flush(length)
        if self._finished is not None:
            # the padding of a silence may lie behind the end
            self._finished = Stretch(self._finished.start, min(self._finished.end, length))
            return True
        self._forget_noise()
        self._ended = True
        return False

    def work(self) -> None:
        """Predict what is most urgent, and send it."""
        urgency = self.urgency
        if urgency is None:
            return
        stretch = self._finished
        if stretch is None:
            start = self._cutter.start
            assert start is not None
            stretch = Stretch(start, self._cutter.spoken)
        known = self._partial
        predicted = known if known is not None and known.stretch == stretch else self._predict(stretch)
        if urgency > 0:
            self._partial = predicted
            if predicted.result is not None and self._limits.every:
                self._tell("partial", stretch, predicted)
            return
        self._finished = self._partial = None
        if predicted.result is None:
            self._tell("nothing", stretch, detail=predicted.detail)
        else:
            self._tell("final", stretch, predicted)
            if self._predictor.reads_before and predicted.row is not None:
                self._before.append(predicted.row)
            self._number += 1
        self._trim()

    def _predict(self, stretch: Stretch) -> _Predicted:
        began = time.perf_counter()
        sound = self._sound[stretch.start - self._offset : stretch.end - self._offset]
        clip = self._predictor.extract_sound(sound, stretch.start / RATE)
        try:
            result, row = self._predictor.predict_in_turn(clip, list(self._before))
        except PaSEError as error:
            return _Predicted(stretch, detail=" ".join(str(error).split()))
        return _Predicted(stretch, result, row, time.perf_counter() - began)

    def _tell(self, kind: str, stretch: Stretch, predicted: _Predicted | None = None, *, detail: str = "") -> None:
        message: Message = {
            "type": kind,
            "utterance": self._number,
            "start": round(stretch.start / RATE, 3),
            "end": round(stretch.end / RATE, 3),
        }
        if predicted is not None and predicted.result is not None:
            result = predicted.result
            message |= {"text": result.text, **{k: v for k, v in result.prediction.to_dict().items() if k != "id"}}
            message |= {"base": result.base, "modalities": result.modalities, "seconds": round(predicted.seconds, 3)}
        if detail:
            message["detail"] = detail
        self._send(message)


@dataclass(frozen=True)
class _Predicted:
    """What came of an utterance, or of a part of it; without a result, why not."""

    stretch: Stretch
    result: UtteranceResult | None = None
    row: Utterance | None = None
    seconds: float = 0.0
    detail: str = ""


def ready(predictor: ClipPredictor) -> Message:
    """The first message of a stream: what comes in, and what the model gives."""
    task = predictor.predictor.model.task
    return {
        "type": "ready",
        "schema_version": SCHEMA_VERSION,
        "rate": RATE,
        "label": task.label,
        "classes": list(task.classes),
        "range": None if task.values is None else [task.values[0], task.values[-1]],
        "modalities": list(predictor.modalities),
        "context": predictor.reads_before,
    }
