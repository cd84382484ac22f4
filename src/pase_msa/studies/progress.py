"""A progress bar for joblib, also with backends that do not report single tasks (Ray)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from joblib import Parallel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Watched(Parallel):  # type: ignore[misc]
    """joblib's loop with a callback per finished task, also on backends that cannot stream results (Ray).

    Args:
        report: called whenever a task is done, from a thread of joblib; it must not raise.
        options: of `joblib.Parallel`.
    """

    def __init__(self, report: Callable[[], None], **options: Any) -> None:
        # one task per message and none in advance, so that a kill loses as little as possible
        super().__init__(**{"batch_size": 1, "pre_dispatch": "n_jobs", **options})
        self._report = report

    def print_progress(self) -> None:
        """Called by joblib whenever a task is done."""
        self._report()


class Bar:
    """One line: title, bar, tasks done, tasks failed, time."""

    def __init__(self, progress: Progress, title: str) -> None:
        self.progress = progress
        self.task = progress.add_task(title, total=None, failed="")

    def show(self, done: int, total: int, failed: int) -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=done, total=total, failed=f"{failed} failed" if failed else "")


@contextlib.contextmanager
def display(title: str, progress: bool) -> Iterator[Bar | None]:
    """A bar on stderr inside the block; None without `progress`."""
    if not progress:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        yield Bar(drawn, title)
