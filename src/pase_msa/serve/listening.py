"""`pase listen`: sound of a microphone or a pipe, and a line per utterance."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, strict_json, writing
from pase_msa.media.decode import RATE
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.live import LiveLimits, Message
from pase_msa.serve.live_room import LiveRoom, Stream
from pase_msa.serve.live_socket import samples
from pase_msa.serve.summary import clock

_BLOCK = RATE // 10  # samples, a tenth of a second
_AHEAD = 5.0  # seconds of a pipe that may wait; a file comes faster than it is spoken
_PIPE = "ffmpeg -i FILE -ac 1 -ar 16000 -f s16le - | pase listen RUN --input -"


class Printer:
    """Prints messages: a line per utterance, or JSON lines.

    Args:
        screen: where lines go.
        as_json: every message as a line of JSON, in place of lines to be read.
        file: where every message goes as JSON, too.
    """

    def __init__(self, screen: TextIO, *, as_json: bool, file: TextIO | None = None) -> None:
        self._screen, self._as_json, self._file = screen, as_json, file
        # a partial result is written over by the next one, which only a terminal can do
        self._rewrites = not as_json and screen.isatty()
        self.count = 0

    def __call__(self, message: Message) -> None:
        """Print one message."""
        self.count += message["type"] == "final"
        if self._file is not None:
            self._file.write(strict_json(message) + "\n")
            self._file.flush()
        if self._as_json:
            print(strict_json(message), file=self._screen, flush=True)
            return
        clear = "\r\x1b[K" if self._rewrites else ""
        if message["type"] == "partial":
            if self._rewrites:
                print(f"{clear}{line(message)[:200]}", end="", file=self._screen, flush=True)
        elif message["type"] == "final":
            print(f"{clear}{line(message)}", file=self._screen, flush=True)
        else:
            print(f"{clear}{clock(message['start'])}  {message['detail']}", file=self._screen, flush=True)


def line(message: Message) -> str:
    """A result in a line: times, score or class, confidence, contributions, words."""
    value = message["label"] if "label" in message else f"{message['score']:+.2f}"
    contributions = " ".join(f"{name} {part:+.2f}" for name, part in message["contributions"].items())
    more = " ..." if message["type"] == "partial" else ""
    return (
        f"{clock(message['start'])} to {clock(message['end'])}  {value} (confidence {message['confidence']:.0%}; "
        f"{contributions})  {message['text'] or '(no words)'}{more}"
    )


def listen_to(
    predictor: ClipPredictor, sound: Iterator[Array], show: Callable[[Message], None], limits: LiveLimits, *, hold: bool
) -> None:
    """Predict what is said until the sound ends.

    Args:
        predictor: gives the predictions.
        sound: int16 [n] at 16 kHz, piece by piece.
        show: called with every message.
        limits: of the stream.
        hold: wait where sound comes faster than it can be predicted, as from a file; otherwise the oldest is dropped.
    """
    over = threading.Event()
    room = LiveRoom(predictor, 1, limits)
    stream = room.enter(show, over.set)
    try:
        try:
            for piece in sound:
                if over.is_set():
                    raise PaSEError("Listening failed because of a fault; the message above says where.")
                stream.feed(piece)
                _wait(stream, over, _AHEAD if hold else float("inf"))
        except KeyboardInterrupt:  # the ordinary end of listening to a microphone
            pass
        stream.end()
        with contextlib.suppress(KeyboardInterrupt):
            over.wait()
    finally:
        room.close()


def _wait(stream: Stream, over: threading.Event, most: float) -> None:
    while stream.waiting > most and not over.is_set():
        time.sleep(0.02)


def from_pipe(pipe: BinaryIO) -> Iterator[Array]:
    """The sound of a pipe, s16le, mono, 16 kHz, as it comes.

    Errors:
        PaSEError: nothing comes, or it begins as a file does.
    """
    first = True
    while content := pipe.read(2 * _BLOCK):
        whole = len(content) // 2 * 2  # a program that was stopped may leave half a sample
        yield samples(content[:whole], first=first)
        first = False
    if first:
        raise PaSEError(f"No sound came by standard input; pipe some into it: `{_PIPE}`.")


@contextlib.contextmanager
def microphone() -> Iterator[Iterator[Array]]:
    """The sound of the microphone that the system calls its default.

    Errors:
        PaSEError: the package sounddevice or its library is not installed, or there is no microphone.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise PaSEError(
            "A microphone needs the package sounddevice and the library PortAudio "
            f"({str(error).splitlines()[0]}); install them, or give sound by a pipe: `{_PIPE}`."
        ) from None
    pieces: list[Array] = []
    come = threading.Condition()

    def keep(content: Any, *_: Any) -> None:
        with come:
            pieces.append(np.frombuffer(bytes(content), "<i2"))
            come.notify()

    def sound() -> Iterator[Array]:
        while True:
            with come:
                come.wait_for(lambda: pieces, 1.0)
                taken, pieces[:] = list(pieces), []
            yield from taken

    try:
        stream = sounddevice.RawInputStream(RATE, _BLOCK, channels=1, dtype="int16", callback=keep)
    except sounddevice.PortAudioError as error:
        raise PaSEError(
            f"There is no microphone that can be read ({error}); give sound by a pipe: `{_PIPE}`."
        ) from None
    with stream:
        yield sound()


def listen(
    run: str,
    *,
    source: str | None,
    every: float,
    as_json: bool,
    out: str | None = None,
    screen: TextIO | None = None,
) -> int:
    """Listen until the sound ends or Ctrl+C; returns the number of utterances.

    Args:
        run: run folder, or a folder with a saved model.
        source: "-" for standard input; None for the microphone.
        every: seconds of speech between two partial results; 0 gives none.
        as_json: print JSON lines.
        out: file that gets the JSON lines, too. It is opened when there is a model and sound, so that an older one is
            lost to no mistake.
        screen: where lines are printed; standard output if None.

    Errors:
        PaSEError: there is no model, no microphone, or no sound in the pipe.
    """
    limits = LiveLimits(every=every)
    with contextlib.ExitStack() as stack:
        if source is None:
            sound = stack.enter_context(microphone())
            predictor = ClipPredictor(run)
            print("listening; Ctrl+C ends it", file=sys.stderr, flush=True)
        else:
            predictor = ClipPredictor(run)
            pieces = from_pipe(sys.stdin.buffer)
            sound = chain([next(pieces)], pieces)
        file = None if out is None else stack.enter_context(_opened(out))
        show = Printer(screen or sys.stdout, as_json=as_json, file=file)
        listen_to(predictor, sound, show, limits, hold=source is not None)
    return show.count


def _opened(out: str) -> TextIO:
    make_folder(Path(out).parent)
    with writing(out):
        return Path(out).open("w", encoding="utf-8")
