"""Limits of the server, so that it takes on no more than the machine can carry."""

from __future__ import annotations

from dataclasses import dataclass

from pase_msa.errors import PaSEError


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        max_seconds: length of the longest clip.
        max_megabytes: size of the largest request.
        clips: number of clips that are read at the same time.
        waiting: number of clips that may wait.
        batch: most utterances of features that are predicted together.
        wait: seconds that the first of them waits for others.
        queue: number of utterances of features that may wait.
        max_steps: length of the longest sequence of features.
        streams: number of live streams at the same time.
    """

    max_seconds: float = 120.0
    max_megabytes: float = 50.0
    clips: int = 1
    waiting: int = 4
    batch: int = 32
    wait: float = 0.005
    queue: int = 256
    max_steps: int = 2000
    streams: int = 4

    def __post_init__(self) -> None:
        fewest = min(self.waiting, self.streams)
        if min(self.clips, self.batch, self.max_steps) < 1 or fewest < 0 or self.queue < self.batch:
            raise PaSEError(
                "A server needs clips and batch of 1 or more, waiting and streams of 0 or more and a queue no smaller "
                f"than batch, found {self.clips}, {self.batch}, {self.waiting}, {self.streams} and {self.queue}."
            )
        if not (self.max_seconds > 0 and self.max_megabytes > 0 and 0 <= self.wait <= 1):
            raise PaSEError(
                "A server needs max_seconds and max_megabytes above 0 and wait between 0 and 1 s, found "
                f"{self.max_seconds:g}, {self.max_megabytes:g} and {self.wait:g}."
            )
