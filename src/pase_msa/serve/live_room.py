"""The thread that predicts for all streams: an utterance that has ended first, partial results when there is time."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable

from pase_msa.data.columns import Array
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.live import LiveLimits, LiveStream, Send

_log = logging.getLogger(__name__)


class RoomFull(Exception):
    """There are as many streams as may be; a later try can succeed."""


class Stream:
    """A stream's end for whoever has the sound.

    Args:
        room: that it is in.
        live: the stream.
        left: called when it has left the room: after its last message, or because it failed.
    """

    def __init__(self, room: LiveRoom, live: LiveStream, left: Callable[[], None]) -> None:
        self._room, self._live, self.left = room, live, left

    def feed(self, sound: Array) -> None:
        """Hand over sound, int16 [n] at 16 kHz."""
        self._live.feed(sound)
        self._room.wake()

    @property
    def waiting(self) -> float:
        """Seconds of sound that nobody has listened to so far."""
        return self._live.waiting

    def end(self) -> None:
        """No more sound comes; the stream leaves when its last message has been sent."""
        self._live.end()
        self._room.wake()

    def leave(self) -> None:
        """Forget the stream, whatever of it waits."""
        self._room.leave(self)


class LiveRoom:
    """Streams, and one thread that listens and predicts.

    Args:
        predictor: gives the predictions.
        most: number of streams at the same time.
        limits: of each of them.

    Attributes:
        most: as given.
    """

    def __init__(self, predictor: ClipPredictor, most: int = 4, limits: LiveLimits | None = None) -> None:
        self._predictor, self.most, self._limits = predictor, most, limits or LiveLimits()
        self._streams: dict[Stream, tuple[LiveStream, int]] = {}  # with the number of the turn that each had last
        self._turn = itertools.count(1)
        self._changed = threading.Condition()
        self._news = self._closed = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def full(self) -> bool:
        """Whether a further stream would be refused."""
        return len(self._streams) >= self.most

    def enter(self, send: Send, left: Callable[[], None]) -> Stream:
        """A new stream.

        Args:
            send: called with every message, by the room's thread.
            left: called once, when the stream has left.

        Errors:
            RoomFull: there are as many streams as may be.
        """
        with self._changed:
            if self._closed or self.full:
                raise RoomFull
            live = LiveStream(self._predictor, send, self._limits)
            stream = Stream(self, live, left)
            self._streams[stream] = (live, 0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live", daemon=True)
                self._thread.start()
            return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream."""
        with self._changed:
            found = self._streams.pop(stream, None)
        if found is not None:
            stream.left()

    def wake(self) -> None:
        """Something has come."""
        with self._changed:
            self._news = True
            self._changed.notify()

    def close(self) -> None:
        """End all streams."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        for stream in list(self._streams):
            self.leave(stream)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._news or self._closed)
                if self._closed:
                    return
                self._news = False
                streams = dict(self._streams)
            waiting = [found for key, (live, turn) in streams.items() if (found := self._listened(key, live, turn))]
            if waiting:
                self._serve(min(waiting, key=lambda item: item[:2])[2])
                self._news = True  # others may still wait

    def _listened(self, stream: Stream, live: LiveStream, turn: int) -> tuple[int, int, Stream] | None:
        """How urgent a stream is, after it was listened to; streams that have ended leave."""
        if not self._safely(stream, live.listen):
            return None
        if live.done:
            self.leave(stream)
            return None
        urgency = live.urgency
        return None if urgency is None else (urgency, turn, stream)

    def _serve(self, stream: Stream) -> None:
        with self._changed:
            if stream not in self._streams:
                return
            live, _ = self._streams[stream]
            self._streams[stream] = (live, next(self._turn))
        self._safely(stream, live.work)

    def _safely(self, stream: Stream, step: Callable[[], None]) -> bool:
        """Run a step of a stream; one that fails leaves the others alone."""
        try:
            step()
        except Exception:
            _log.exception("a stream failed")
            self.leave(stream)
            return False
        return True
