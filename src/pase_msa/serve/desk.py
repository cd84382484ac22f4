"""The page's desk: recordings are handed in for a ticket, read by turns, and their answers are kept for a while.

Answers, and the recordings to play them with, are kept in memory only. A recording is on disk until it has been read.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pase_msa.errors import PaSEError
from pase_msa.media.clip import Clip
from pase_msa.media.config import RecordingOptions
from pase_msa.media.decode import probe
from pase_msa.media.pipeline import TEXT_SUFFIX
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.pieces import Progress
from pase_msa.serve.results import ClipResult
from pase_msa.serve.turns import Turns

_log = logging.getLogger(__name__)
OPEN = 16
"""Tickets that may be worked on at the same time."""
ANSWERS = 64
"""Answers that are kept; the oldest go first."""
MEMORY = 256_000_000
"""Bytes of recordings that are kept for listening; the oldest go first."""
KEEP = 3600.0
"""Seconds for which an answer is kept."""


@dataclass
class Source:
    """A recording that is handed in.

    Attributes:
        path: of the file; None for a text alone.
        text: the transcript, or the text; None where there is none.
        upload: whether the file is ours to move and to delete.
        media: its content, where it is in memory and not in a file.
        name: of the file as the user knows it.
        speakers: how they are told apart, as in `RecordingOptions`; None where they are not.
        language: of the words, as there; that of the training if None.
    """

    path: Path | None
    text: str | None = None
    upload: bool = True
    media: bytes | None = None
    name: str = ""
    speakers: str | None = None
    language: str | None = None


@dataclass
class Reading:
    """A recording and what came of it.

    Attributes:
        name: of the file as the user knows it.
        progress: how far it is.
        video: whether it has pictures; None for a text alone, or until it is opened.
        clips: its utterances.
        result: the prediction; None as long as there is none.
        sentence: why there is none, if it failed.
        media: the content of the file, as long as it is kept.
    """

    name: str
    progress: Progress = field(default_factory=lambda: Progress("wait"))
    video: bool | None = None
    clips: list[Clip] = field(default_factory=list)
    result: ClipResult | None = None
    sentence: str = ""
    media: bytes | None = None


@dataclass
class Ticket:
    """What a user waits for.

    Attributes:
        id: cannot be guessed: whoever has it sees the answer.
        kind: what was handed in, for example "video" or "several".
        readings: one per recording.
        without: modalities that are masked.
        round: rises when other modalities are to be masked; an earlier round then ends.
        done: whether everything has been read.
        answered: when it was done, by the desk's clock.
    """

    id: str
    kind: str
    readings: list[Reading]
    without: tuple[str, ...] = ()
    round: int = 0
    done: bool = False
    answered: float = 0.0

    @property
    def fraction(self) -> float:
        """Of the work that is done, in [0, 1]."""
        parts = [1.0 if item.result or item.sentence else item.progress.fraction for item in self.readings]
        return sum(parts) / len(parts)


class Desk:
    """Tickets by their id, and the thread that reads for them.

    Args:
        predictor: reads the recordings.
        max_seconds: length of the longest one.
        clock: gives seconds.
    """

    def __init__(
        self, predictor: ClipPredictor, max_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.predictor, self.max_seconds = predictor, max_seconds
        self._clock = clock
        self._tickets: dict[str, Ticket] = {}
        self._lock = threading.Lock()
        self._turns = Turns(name="page")

    def close(self) -> None:
        """End the work, and forget everything."""
        self._turns.close()
        self._tickets.clear()

    def hand_in(self, kind: str, sources: Sequence[Source], *, without: Collection[str], words: bool) -> Ticket:
        """Put recordings into the line.

        Args:
            kind: of the ticket.
            sources: the recordings.
            without: modalities to mask.
            words: compute the influence of words and the curve.

        Errors:
            PaSEError: as many tickets are worked on as may be, or an upload is gone.
        """
        self.forget()
        with self._lock:
            if sum(not ticket.done for ticket in self._tickets.values()) >= OPEN:
                raise PaSEError("As many recordings are read as this page takes on; try again in a minute.")
            names = [source.name or (source.path.name if source.path else "text") for source in sources]
            ticket = Ticket(secrets.token_urlsafe(16), kind, [Reading(name) for name in names], tuple(without))
            self._tickets[ticket.id] = ticket
        folder = Path(tempfile.mkdtemp(prefix="pase_page_"))
        try:
            paths = [_taken(source, folder / str(number)) for number, source in enumerate(sources)]
        except BaseException:
            self._tickets.pop(ticket.id, None)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._turns.add(self._read(ticket, list(zip(paths, sources, strict=True)), folder, words))
        return ticket

    def find(self, id: str | None) -> Ticket | None:
        """The ticket; None where there is none, or no longer."""
        self.forget()
        return self._tickets.get(id or "")

    def mask(self, ticket: Ticket, without: Collection[str]) -> None:
        """Predict again with other modalities masked; what was extracted is not extracted again.

        Errors:
            PaSEError: the ticket is not done, or nothing is left to predict from.
        """
        if not ticket.done or any(not item.clips for item in ticket.readings):
            raise PaSEError("There is no answer yet whose modalities could be masked; wait for it.")
        self.predictor.check_masked(without)
        with self._lock:
            ticket.round += 1
            ticket.done, ticket.without = False, tuple(without)
        self._turns.add(self._predict_again(ticket, ticket.round))

    def forget(self) -> None:
        """Forget answers that are too old or too many, and recordings that take too much memory."""
        with self._lock:
            done = sorted((t for t in self._tickets.values() if t.done), key=lambda ticket: ticket.answered)
            late = self._clock() - KEEP
            for ticket in done[: max(0, len(done) - ANSWERS)] + [t for t in done if t.answered < late]:
                self._tickets.pop(ticket.id, None)
            kept = [item for ticket in done if ticket.id in self._tickets for item in ticket.readings if item.media]
            excess = sum(len(item.media or b"") for item in kept) - MEMORY
            for item in kept:
                if excess <= 0:
                    break
                excess -= len(item.media or b"")
                item.media = None

    def _read(
        self, ticket: Ticket, sources: list[tuple[Path | None, Source]], folder: Path, words: bool
    ) -> Iterator[None]:
        try:
            for reading, (path, source) in zip(ticket.readings, sources, strict=True):
                yield from self._read_one(ticket, reading, path, source, words)
                if path is not None and path.is_relative_to(folder):
                    shutil.rmtree(path.parent, ignore_errors=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._finish(ticket)

    def _read_one(
        self, ticket: Ticket, reading: Reading, path: Path | None, source: Source, words: bool
    ) -> Iterator[None]:
        def report(progress: Progress) -> None:
            reading.progress = progress

        try:
            reading.video = self._opened(path)
            options = RecordingOptions(None if reading.video is None else source.speakers, language=source.language)
            clips = yield from self.predictor.extract_pieces(path, source.text, progress=report, options=options)
            yield
            result = yield from self.predictor.predict_pieces(
                clips, without=ticket.without, words=words, name=reading.name, progress=report
            )
            # kept are recordings to listen to, and of the tracks what a masked prediction needs
            if ticket.kind != "several" and path is not None and reading.video is not None:
                reading.media = path.read_bytes() if path.stat().st_size <= MEMORY else None
            reading.clips = [] if ticket.kind == "several" else [_slim(clip) for clip in clips]
            reading.result = result
        except PaSEError as error:
            reading.sentence = " ".join(str(error).replace(str(path), reading.name).split())
        except Exception:
            _log.exception("%s could not be read", reading.name)
            reading.sentence = f"{reading.name} could not be read because of a fault in the page."

    def _opened(self, path: Path | None) -> bool | None:
        """Whether a recording has pictures; None for a text."""
        if path is None or path.suffix.lower() == TEXT_SUFFIX:
            return None
        info = probe(path)
        if info.duration > self.max_seconds:
            raise PaSEError(
                f"{path} is {info.duration:.0f} s long, and this page takes {self.max_seconds:g} s at most; cut it."
            )
        return info.video

    def _predict_again(self, ticket: Ticket, number: int) -> Iterator[None]:
        results = []
        try:
            for reading in ticket.readings:
                result = reading.result
                if result is None:
                    return
                # without the influence of words where they were not asked for
                words = any(word.influence is not None for item in result.utterances for word in item.words)

                def report(progress: Progress, reading: Reading = reading) -> None:
                    reading.progress = replace(progress, fraction=2 * progress.fraction - 1)

                pieces = self.predictor.predict_pieces(
                    reading.clips, without=ticket.without, words=words, name=reading.name, progress=report
                )
                while True:
                    if ticket.round != number:  # other modalities were chosen meanwhile
                        return
                    try:
                        next(pieces)
                    except StopIteration as end:
                        results.append(end.value)
                        break
                    yield
            for reading, result in zip(ticket.readings, results, strict=True):
                reading.result, reading.sentence = result, ""
        except PaSEError as error:
            ticket.readings[0].sentence = str(error)
        finally:
            if ticket.round == number:
                self._finish(ticket)

    def _finish(self, ticket: Ticket) -> None:
        ticket.answered = self._clock()
        ticket.done = True
        self.forget()


def _taken(source: Source, folder: Path) -> Path | None:
    """Where the recording can be read from; an upload is moved there, so that nobody else deletes it."""
    if source.path is None and source.media is None:
        return None
    if source.path is not None and not source.upload:
        return source.path
    folder.mkdir()
    target = folder / Path(source.path or source.name or "clip").name
    if source.media is not None:
        target.write_bytes(source.media)
        return target
    assert source.path is not None
    try:
        shutil.move(source.path, target)
    except FileNotFoundError:
        raise PaSEError(f"The upload {target.name} is no longer there; choose the file again.") from None
    with contextlib.suppress(OSError):  # another upload is in it
        source.path.parent.rmdir()
    return target


def _slim(clip: Clip) -> Clip:
    """A clip without the values of its tracks, whose times alone are needed from here on."""
    tracks = {name: replace(track, values=track.values[:0]) for name, track in clip.tracks.items()}
    return replace(clip, tracks=tracks)
