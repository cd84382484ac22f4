"""A progress bar of tasks done and failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
