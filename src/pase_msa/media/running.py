"""Clips are extracted in parallel processes; each ends in an outcome, whatever is wrong with it."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pase_msa.errors import PaSEError
from pase_msa.media import parts
from pase_msa.media.clip import Clip
from pase_msa.media.config import ExtractConfig
from pase_msa.media.decode import duration_of
from pase_msa.media.manifest import Item
from pase_msa.media.outcomes import Outcome
from pase_msa.media.pipeline import TEXT_SUFFIX, Extractor
from pase_msa.media.recordings import divide
from pase_msa.parallel import Backend
from pase_msa.tasks import run_tasks

Cut = Literal["auto", "always", "never"]
LONG = 30.0  # seconds from which on an unlabelled clip is cut into utterances
_MOST_JOBS = 8  # unless more are asked for; a process takes about 1.2 GB
_log = logging.getLogger(__name__)


def finished_before(items: list[Item], targets: list[Path]) -> dict[str, Outcome]:
    """Outcomes by id of the clips that an earlier run has finished."""
    outcomes = {}
    for item, target in zip(items, targets, strict=True):
        if (rows := parts.facts(target)) is not None:
            outcomes[item.id] = Outcome(item.id, item.written, "ok", "", rows)
    if outcomes:
        _log.info("%d of %d clips were extracted before", len(outcomes), len(items))
    return outcomes


def run_clips(
    todo: list[tuple[Item, Path]],
    config: ExtractConfig,
    cut: Cut,
    jobs: int | None,
    backend: Backend,
    timeout: float | None,
) -> Iterator[Outcome]:
    """Extract clips; each outcome comes as soon as there is one.

    Args:
        todo: clips, and the file that each becomes (see `pase_msa.media.parts`), whose folder exists.
        config: options of the extraction.
        cut: see `pase_msa.media.table.extract_table`, as all that follows.
        jobs: number of processes.
        backend: where they run.
        timeout: longest duration of a clip in seconds.
    """
    if not todo:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(len(todo), jobs or min(cores, _MOST_JOBS))
    settings = json.dumps(config.to_dict())
    # a worker on another machine has another current folder
    arguments = [
        (settings, replace(item, path=item.path and item.path.absolute()), target.absolute(), cut)
        for item, target in todo
    ]
    if count == 1 and backend == "loky" and timeout is None:
        for each in arguments:
            yield _work(*each)
        return
    threads = 1 if backend == "ray" else max(1, cores // count)
    for ended in run_tasks(_work_apart, arguments, jobs=count, threads=threads, backend=backend, seconds=timeout):
        item = todo[ended.index][0]
        if ended.lost is not None or ended.error is not None:
            reason = ended.lost or _unexpected(ended.error)
            yield Outcome(item.id, item.written, "failed", f"{item.written}: {reason}", [])
        else:
            yield ended.value()


def _unexpected(error: Exception | None) -> str:
    return " ".join(f"It could not be extracted ({type(error).__name__}: {error}).".split())


def extractor_of(config: ExtractConfig) -> Extractor:
    """The extractor of this process with these options, which is made once."""
    return _extractor(json.dumps(config.to_dict()))


@lru_cache(maxsize=1)
def _extractor(settings: str) -> Extractor:
    """The extractor of this process."""
    return Extractor(ExtractConfig(**json.loads(settings)))


def _work(settings: str, item: Item, target: Path, cut: Cut) -> Outcome:
    """Extract one clip; an error becomes its outcome."""
    try:
        clips = list(_utterances(_extractor(settings), item, cut))
        parts.save(target, clips)
        return Outcome(item.id, item.written, "ok", "", parts.facts(target) or [])
    except PaSEError as error:
        return Outcome(item.id, item.written, "failed", str(error), [])
    except Exception as error:  # one clip must not end the run of ten thousand
        _log.debug("clip %s", item.id, exc_info=True)
        return Outcome(item.id, item.written, "failed", _unexpected(error), [])


def _work_apart(settings: str, item: Item, target: Path, cut: Cut) -> Outcome:
    """`_work` in a process of its own."""
    done = _work(settings, item, target, cut)
    _freeze()
    return done


@lru_cache(maxsize=1)
def _freeze() -> None:
    """Exclude the networks from garbage collection, which the pool runs after every task for a quarter of a second."""
    gc.freeze()


def _utterances(extractor: Extractor, item: Item, cut: Cut) -> Iterator[Clip]:
    """The clip, or its utterances; with "auto" a clip stays whole if it has a text, times or labels of its own."""
    whole = item.text is not None or item.end is not None or item.start > 0 or item.labelled
    media = item.path is not None and item.path.suffix.lower() != TEXT_SUFFIX
    if media and item.text is None and (cut == "always" or (cut == "auto" and not whole)):
        assert item.path is not None
        clips = list(_by_speaker(extractor, item.path, item))
        if clips:
            yield from clips
            return
        if cut == "always" or duration_of(item.path) > LONG:
            yield from extractor.extract_utterances(item.path, item.language)
            return
    yield extractor.extract_clip(item.path, item.text, start=item.start, end=item.end, language=item.language)


def _by_speaker(extractor: Extractor, path: Path, item: Item) -> Iterator[Clip]:
    """The utterances of a recording with their speakers; none where speakers were not asked for, or nobody speaks."""
    options = extractor.config.recording
    if options.speakers is None:
        return
    if item.speaker is not None:  # the manifest knows who they are
        options = replace(options, names=[name.strip() for name in item.speaker.split(";")])
        options.check()
    language = extractor.language_of(path, item.language)
    for part in divide(path, options, extractor.config):
        clip = extractor.extract_clip(path, start=part.start, end=part.end, channel=part.channel, language=language)
        clip.speaker = part.speaker
        yield clip


@contextlib.contextmanager
def progress_bar(total: int, before: int, *, show: bool) -> Iterator[Any]:
    """A progress bar; yields the function to call with every finished clip."""
    columns = (
        TextColumn("extracting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    began, count, seconds = time.perf_counter(), 0, 0.0
    with Progress(*columns, disable=not show, transient=True) as bar:
        task = bar.add_task("", total=total, completed=before, rate="")

        def advance(done: Outcome) -> None:
            nonlocal count, seconds
            count, seconds = count + 1, seconds + done.seconds
            spent = time.perf_counter() - began
            bar.update(
                task, advance=1, rate=f"{count / spent:.2f} clips/s, {seconds / spent:.1f} s of media per second"
            )

        yield advance
