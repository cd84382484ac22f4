"""Many clips become one feature table: in parallel processes, resumable, with a report of clips that failed."""

from __future__ import annotations

import contextlib
import csv
import gc
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pase_msa.data.table import ARROW, META, FeatureTable, LabelKind, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.files import check_out, replacing
from pase_msa.locks import locked
from pase_msa.media import parts
from pase_msa.media.clip import Clip
from pase_msa.media.config import ExtractConfig
from pase_msa.media.decode import probe
from pase_msa.media.manifest import Item, read_clips
from pase_msa.media.pipeline import TEXT_SUFFIX, Extractor
from pase_msa.parallel import Backend
from pase_msa.tasks import check_limit, run_tasks

Cut = Literal["auto", "always", "never"]
REPORT, PARTS = "report.csv", "parts"
LONG = 30.0  # seconds from which on an unlabelled clip is cut into utterances
_MOST_JOBS = 8  # unless more are asked for; a process takes about 1.2 GB
_log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What became of one clip.

    Attributes:
        id: the clip's.
        path: as the manifest has it.
        status: "ok", or "failed".
        reason: one sentence, where it failed.
        rows: facts about each utterance, see `parts.facts`.
    """

    id: str
    path: str
    status: Literal["ok", "failed"]
    reason: str
    rows: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        """Length of the clip's utterances."""
        return sum(row["duration"] or 0.0 for row in self.rows)


def extract_table(
    clips: str | Path,
    out: str | Path,
    config: ExtractConfig | None = None,
    *,
    jobs: int | None = None,
    backend: Backend = "loky",
    cut: Cut = "auto",
    progress: bool = False,
    timeout: float | None = None,
) -> tuple[FeatureTable, list[Outcome]]:
    """Extract clips into a feature table.

    A clip that is finished is not extracted again, also after the process was killed; one that failed is tried again.

    Args:
        clips: folder, manifest or file, see `read_clips`.
        out: folder for the table, the report, and one file per finished clip.
        config: options of the extraction.
        jobs: number of processes; as many as there are cores, at most 8, if left out.
        backend: "loky" for processes of this machine, or "ray" for a cluster whose nodes share the folders.
        cut: "auto" cuts clips of more than 30 s that have neither labels nor a text of their own into utterances.
        progress: show a progress bar.
        timeout: longest duration of a clip in seconds; one that takes longer has failed. None: no limit.

    Returns:
        The table, and the outcome of every clip in the order of the manifest.

    Errors:
        PaSEError: the clips or the options have a mistake, or no clip at all could be read.
    """
    check_limit(timeout)
    config = config or ExtractConfig()
    items, kinds = read_clips(clips)
    folder = Path(out)
    _check_folder(folder)
    check_out(folder, folder=True)
    extractor = _extractor(json.dumps(config.to_dict()))
    with locked(folder / PARTS):
        targets = [folder / PARTS / f"{parts.key(item, cut, extractor.record)}.safetensors" for item in items]
        outcomes = _finished_before(items, targets)
        todo = [(item, target) for item, target in zip(items, targets, strict=True) if item.id not in outcomes]
        with _bar(len(items), len(outcomes), show=progress) as advance:
            for done in _run(todo, config, cut, jobs, backend, timeout):
                outcomes[done.id] = done
                advance(done)
        ordered = [outcomes[item.id] for item in items]
        _write_report(folder / REPORT, ordered)
        if all(done.status == "failed" for done in ordered):
            raise PaSEError(f"None of the {len(ordered)} clips could be read: {ordered[0].reason}")
        return _build(folder, items, ordered, targets, kinds, extractor), ordered


def _check_folder(folder: Path) -> None:
    """Refuse a folder with other content, so that nothing of the user's is overwritten."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / PARTS).is_dir())):
        raise PaSEError(f"{folder} is there already and holds no extraction; give another folder.")


def _finished_before(items: list[Item], targets: list[Path]) -> dict[str, Outcome]:
    """Outcomes by id of the clips that an earlier run has finished."""
    outcomes = {}
    for item, target in zip(items, targets, strict=True):
        if (rows := parts.facts(target)) is not None:
            outcomes[item.id] = Outcome(item.id, item.written, "ok", "", rows)
    if outcomes:
        _log.info("%d of %d clips were extracted before", len(outcomes), len(items))
    return outcomes


def _run(
    todo: list[tuple[Item, Path]],
    config: ExtractConfig,
    cut: Cut,
    jobs: int | None,
    backend: Backend,
    timeout: float | None,
) -> Iterator[Outcome]:
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
    whole = item.text is not None or item.end is not None or item.start > 0 or bool(item.labels)
    media = item.path is not None and item.path.suffix.lower() != TEXT_SUFFIX
    if media and item.text is None and (cut == "always" or (cut == "auto" and not whole)):
        assert item.path is not None
        if cut == "always" or probe(item.path).duration > LONG:
            yield from extractor.extract_utterances(item.path)
            return
    yield extractor.extract_clip(item.path, item.text, start=item.start, end=item.end)


def _build(
    folder: Path,
    items: list[Item],
    ordered: list[Outcome],
    targets: list[Path],
    kinds: dict[str, LabelKind],
    extractor: Extractor,
) -> FeatureTable:
    """The table of all clips that were read; an older one is replaced when the new one is complete."""
    rows = [row for done in ordered for row in done.rows]
    present = {name for row in rows for name in row["modalities"]}
    dims = {name: item["dim"] for name, item in extractor.record["modalities"].items() if name in present}
    text = any(row["text"] for row in rows)
    speakers = any(item.speaker for item in items)
    if not dims and not text:
        raise PaSEError(f"No clip has anything to extract; {folder / REPORT} has the reasons.")

    def utterances() -> Iterator[Utterance]:
        for item, done, target in zip(items, ordered, targets, strict=True):
            for i, row in enumerate(done.rows):
                name = item.id if len(done.rows) == 1 else f"{item.id}_{i + 1:04d}"
                features = parts.features(target, i, row["modalities"])
                yield Utterance(
                    name, item.video or item.id, item.split, item.labels, features, row["text"], item.speaker
                )

    building = folder / ".building"
    shutil.rmtree(building, ignore_errors=True)
    meta = {"format": "extraction", "source": folder.name, "extraction": extractor.record}
    FeatureTable.build(utterances(), Schema(dims, kinds, text, speakers), path=building, meta=meta)
    for name in (META, ARROW):
        os.replace(building / name, folder / name)
    building.rmdir()
    return FeatureTable.load(folder)


def _write_report(path: Path, ordered: list[Outcome]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "path", "status", "utterances", "seconds", "words", "modalities", "notes"])
        for done in ordered:
            notes = dict.fromkeys(note for row in done.rows for note in row["notes"])
            modalities = dict.fromkeys(name for row in done.rows for name in row["modalities"])
            words = sum(len(row["words"]) for row in done.rows)
            about = done.reason or " ".join(notes)
            length = f"{done.seconds:.2f}"
            writer.writerow(
                [done.id, done.path, done.status, len(done.rows), length, words, " ".join(modalities), about]
            )


@contextlib.contextmanager
def _bar(total: int, before: int, *, show: bool) -> Iterator[Any]:
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
