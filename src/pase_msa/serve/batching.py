"""Requests that come at about the same time are predicted together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Saturated(Exception):
    """More is waiting than may wait; come back later."""


@dataclass
class _Job(Generic[Given, Made]):
    items: Sequence[Given]
    future: asyncio.Future[list[Made]]


class Batcher(Generic[Given, Made]):
    """Gathers items and works on them in one thread.

    Args:
        work: items -> as many results, in their order.
        size: most items of a batch; a request with more is a batch of its own.
        wait: seconds that the first one waits for others.
        queue: items that may wait.
        observe: told the size of every batch.
    """

    def __init__(
        self,
        work: Callable[[list[Given]], list[Made]],
        size: int,
        wait: float,
        queue: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._size, self._wait, self._most, self._observe = work, size, wait, queue, observe
        self._jobs: asyncio.Queue[_Job[Given, Made]] = asyncio.Queue()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "batch")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Items that are not done yet."""
        return self._waiting

    def start(self) -> None:
        """Begin, within a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; what waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        while not self._jobs.empty():
            self._jobs.get_nowait().future.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def submit(self, items: Sequence[Given]) -> list[Made]:
        """The results of some items.

        Errors:
            Saturated: too many wait.
        """
        if self._waiting + len(items) > self._most:
            raise Saturated
        job = _Job[Given, Made](items, asyncio.get_running_loop().create_future())
        self._waiting += len(items)
        try:
            self._jobs.put_nowait(job)
            return await job.future
        finally:
            self._waiting -= len(items)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._jobs.get()]
            until = loop.time() + self._wait
            while sum(len(job.items) for job in batch) < self._size:
                try:
                    batch.append(await asyncio.wait_for(self._jobs.get(), until - loop.time()))
                except TimeoutError:
                    break
            batch = [job for job in batch if not job.future.done()]  # nobody waits for the others any more
            items = [item for job in batch for item in job.items]
            if not items:
                continue
            self._observe(len(items))
            try:
                results = await loop.run_in_executor(self._thread, self._work, items)
            except asyncio.CancelledError:
                for job in batch:
                    job.future.cancel()
                raise
            except Exception as error:  # the requests of this batch fail, the next one is another
                for job in batch:
                    if not job.future.done():
                        job.future.set_exception(error)
                continue
            done = 0
            for job in batch:
                if not job.future.done():
                    job.future.set_result(results[done : done + len(job.items)])
                done += len(job.items)
