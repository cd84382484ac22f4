"""Requests that come at about the same time are predicted together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(Exception):
    """As many items wait as may wait; a later try can succeed."""


@dataclass
class _Job(Generic[Item, Result]):
    items: Sequence[Item]
    future: asyncio.Future[list[Result]]


class Batcher(Generic[Item, Result]):
    """Gathers items of several requests into batches and works on them in one thread.

    Args:
        work: turns a list of items into as many results, in the same order.
        size: most items per batch; a request with more is a batch of its own.
        wait: seconds that the first item waits for others.
        queue: number of items that may wait.
        observe: called with the size of every batch.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        size: int,
        wait: float,
        queue: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._size, self._wait, self._most, self._observe = work, size, wait, queue, observe
        self._jobs: asyncio.Queue[_Job[Item, Result]] = asyncio.Queue()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "batch")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of items without a result so far."""
        return self._waiting

    def start(self) -> None:
        """Begin to gather; call it within a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; requests that wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        while not self._jobs.empty():
            self._jobs.get_nowait().future.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """The results of some items.

        Errors:
            QueueFull: too many items wait.
        """
        if self._waiting + len(items) > self._most:
            raise QueueFull
        job = _Job[Item, Result](items, asyncio.get_running_loop().create_future())
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
            batch = [job for job in batch if not job.future.done()]  # the requests of the others were cancelled
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
            except Exception as error:  # only the requests of this batch fail; the loop goes on
                for job in batch:
                    if not job.future.done():
                        job.future.set_exception(error)
                continue
            done = 0
            for job in batch:
                if not job.future.done():
                    job.future.set_result(results[done : done + len(job.items)])
                done += len(job.items)
