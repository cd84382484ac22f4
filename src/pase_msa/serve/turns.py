"""Taking turns: work in pieces, of which the next one is always that of the work that was served least recently."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

_log = logging.getLogger(__name__)


class Turns:
    """Threads that take turns with pieces of work.

    Work that is added stands at the end of the line, and after each of its pieces again. So a short recording waits for
    one piece of every other one, and not for a long recording to end.

    Args:
        workers: number of threads; no work is in two of them at once.
        name: of the threads.
    """

    def __init__(self, workers: int = 1, name: str = "turns") -> None:
        self._line: deque[Iterator[Any]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}_{i}", daemon=True) for i in range(max(1, workers))
        ]
        for thread in self._threads:
            thread.start()

    def add(self, work: Iterator[Any]) -> None:
        """Put work into the line; an error of it is logged, so it reports its own."""
        with self._changed:
            self._line.append(work)
            self._changed.notify()

    def close(self) -> None:
        """Wait for the pieces that run; what is in the line is given up, and nothing of it is done."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for work in self._line:
            _close(work)
        self._line.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._line)
                if self._ended:
                    return
                work = self._line.popleft()
            if self._piece(work):
                with self._changed:
                    self._line.append(work)
                    self._changed.notify()

    @staticmethod
    def _piece(work: Iterator[Any]) -> bool:
        """Do one piece; whether there are more."""
        try:
            next(work)
        except StopIteration:
            return False
        except Exception:
            _log.exception("a piece of work failed")
            return False
        return True


def _close(work: Iterator[Any]) -> None:
    """Let a generator run its `finally`."""
    close = getattr(work, "close", None)
    if close is not None:
        close()
