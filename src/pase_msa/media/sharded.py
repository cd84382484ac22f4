"""Many clips become a feature table in shards, in a folder or at an address; this machine never holds all of it.

Clips are dealt to shards in the order of the manifest. A shard is written when the last of its clips is done, and the
files of these clips are removed; a record beside it says what it was made from. So a later run finds it, on another
machine as well. The list that makes a table of the shards is written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pase_msa.data.batches import note_rounding, record_batches
from pase_msa.data.columns import SequenceColumn
from pase_msa.data.guard import reading
from pase_msa.data.shards import (
    Shards,
    find_shards,
    fingerprint_of,
    has_shards,
    is_address,
    shard_name,
    write_list,
    write_shard,
)
from pase_msa.data.table import LabelKind, Schema
from pase_msa.errors import PaSEError
from pase_msa.files import check_out, make_folder
from pase_msa.locks import locked
from pase_msa.media import parts
from pase_msa.media.config import ExtractConfig
from pase_msa.media.manifest import Item, read_clips
from pase_msa.media.outcomes import REPORT, Outcome, Summary, read_utterances, report_text, utterance_ids
from pase_msa.media.place import Place
from pase_msa.media.record import with_languages
from pase_msa.media.running import Cut, extractor_of, finished_before, progress_bar, run_clips
from pase_msa.media.table import PARTS
from pase_msa.parallel import Backend
from pase_msa.tasks import check_limit

_WRITERS = 4  # shards that are written at the same time; as many may wait


@dataclass(frozen=True)
class _Shard:
    """Clips of one shard.

    Attributes:
        number: of the shard.
        items: its clips.
        files: local file of each clip that is finished.
        key: a hash of all that its rows are made of.
    """

    number: int
    items: list[Item]
    files: list[Path]
    key: str


@dataclass(frozen=True)
class _Record:
    """What is known of a shard that is written.

    Attributes:
        key: a hash of all that its rows are made of.
        clips: what became of each clip.
        entry: of the list of shards; None where no clip of it could be read, and nothing was written.
        lengths: by modality, steps of every row.
        rounded: by modality, the largest value, where single precision rounds them.
    """

    key: str
    clips: list[Summary]
    entry: dict[str, Any] | None = None
    lengths: dict[str, list[int]] = field(default_factory=dict)
    rounded: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, content: bytes | None) -> _Record | None:
        """The record in a file; None where there is none, or a damaged one."""
        with suppress(ValueError, TypeError, KeyError):
            plain = json.loads(content or b"")
            return cls(**{**plain, "clips": [Summary(**clip) for clip in plain["clips"]]})
        return None


def extract_shards(
    clips: str | Path,
    out: str | Path,
    shards: int,
    config: ExtractConfig | None = None,
    *,
    jobs: int | None = None,
    backend: Backend = "loky",
    cut: Cut = "auto",
    progress: bool = False,
    timeout: float | None = None,
) -> tuple[Shards, list[Summary]]:
    """Extract clips into a feature table in shards, equal to that of `extract_table`.

    A shard that is written is not made again, also after the process was killed, and neither are finished clips of the
    others. Clips that failed are tried again only where their shard is not written yet.

    Args:
        clips: folder, manifest or file, see `read_clips`.
        out: folder, or address of one, for the shards and the report.
        shards: how many; never more than there are clips.
        config: options of the extraction.
        jobs: number of processes; as many as there are cores, at most 8, if left out.
        backend: "loky" for processes of this machine, or "ray" for a cluster whose nodes share the clips and the cache.
        cut: see `extract_table`.
        progress: show a progress bar.
        timeout: longest duration of a clip in seconds; one that takes longer has failed. None: no limit.

    Returns:
        The shards, and what became of every clip in the order of the manifest.

    Errors:
        PaSEError: the clips or the options have a mistake, the place cannot be written to or holds something else, or
            no clip at all could be read.
    """
    check_limit(timeout)
    if shards < 1:
        raise PaSEError(f"A table has one shard or more, found --shards {shards}; give a larger number.")
    config = config or ExtractConfig()
    items, kinds = read_clips(clips)
    if not is_address(out):
        check_out(out, folder=True)
    place = Place(out)
    place.begin(shards)
    record = extractor_of(config).record
    work = place.work
    with locked(work):
        plan = _plan(items, kinds, min(shards, len(items)), cut, record, work, config.division)
        with ThreadPoolExecutor(_WRITERS) as pool:
            found = pool.map(lambda shard: _find(place, shard), plan)
            written = {shard.number: made for shard, made in zip(plan, found, strict=True) if made is not None}
        if has_shards(out):
            if len(written) == len(plan):
                return find_shards(out), _summaries(plan, written)
            raise PaSEError(
                f"{out} already holds a feature table, of other clips or options; give another folder or remove it."
            )
        speakers = any(item.speaker for item in items) or config.speakers is not None
        dims = {name: row["dim"] for name, row in record["modalities"].items()}
        schema = Schema(dims, kinds, text=True, speakers=speakers)
        with progress_bar(len(items), sum(len(made.clips) for made in written.values()), show=progress) as advance:
            missing = [shard for shard in plan if shard.number not in written]
            writing = _Writing(place, missing, schema)
            for done in writing.follow(lambda todo: run_clips(todo, config, cut, jobs, backend, timeout)):
                advance(done)
        written |= writing.records
        summaries = _summaries(plan, written)
        place.write(REPORT, report_text(summaries).encode())
        if all(clip.status == "failed" for clip in summaries):
            raise PaSEError(f"None of the {len(summaries)} clips could be read: {summaries[0].reason}")
        _finish(place, [written[shard.number] for shard in plan], summaries, schema, record)
    with suppress(OSError):  # only an empty folder can be removed
        work.rmdir()
    return find_shards(out), summaries


def _plan(
    items: Sequence[Item],
    kinds: Mapping[str, LabelKind],
    count: int,
    cut: Cut,
    record: Mapping[str, Any],
    work: Path,
    division: Sequence[str] | None,
) -> list[_Shard]:
    """The clips in as many shards, in their order."""
    ends = [len(items) * number // count for number in range(count + 1)]
    speakers = any(item.speaker for item in items)
    plan = []
    for number in range(count):
        own = list(items[ends[number] : ends[number + 1]])
        keys = [parts.key(item, cut, record, division) for item in own]
        # unlike the file of a clip, a shard holds names, splits and labels
        facts = [[key, i.id, i.video, i.split, i.labels, i.speaker] for key, i in zip(keys, own, strict=True)]
        mark = hashlib.sha256(json.dumps([kinds, speakers, facts]).encode()).hexdigest()
        plan.append(_Shard(number, own, [work / f"{number:05d}" / f"{key}.safetensors" for key in keys], mark))
    return plan


def _find(place: Place, shard: _Shard) -> _Record | None:
    """The record of a shard that an earlier run has written from the same clips; None where it is to be made."""
    record = _Record.read(place.read(_record_name(shard)))
    if record is None or record.key != shard.key:
        return None
    if record.entry is not None and place.size(record.entry["file"]) != record.entry["bytes"]:
        return None
    return record


def _record_name(shard: _Shard) -> str:
    return f"{PARTS}/{shard.number:05d}.json"


def _summaries(plan: Sequence[_Shard], written: Mapping[int, _Record]) -> list[Summary]:
    return [clip for shard in plan for clip in written[shard.number].clips]


class _Writing:
    """Writes each shard in a thread as soon as all of its clips are done.

    Args:
        place: where.
        shards: those that are missing.
        schema: with all modalities that there may be, and text.

    Attributes:
        records: of the shards that were written, by number.
    """

    def __init__(self, place: Place, shards: Sequence[_Shard], schema: Schema) -> None:
        self.place, self.shards, self.schema = place, shards, schema
        self.records: dict[int, _Record] = {}
        self._running: dict[Future[_Record], int] = {}
        self._outcomes: dict[str, Outcome] = {}

    def follow(self, run: Callable[[list[tuple[Item, Path]]], Iterator[Outcome]]) -> Iterator[Outcome]:
        """Extract what is missing, and write; gives every outcome of a clip.

        Args:
            run: from pairs of clip and file to outcomes.

        Errors:
            PaSEError: a shard cannot be written. Those that are being written are finished first.
        """
        pairs = [pair for shard in self.shards for pair in zip(shard.items, shard.files, strict=True)]
        self._outcomes = finished_before([item for item, _ in pairs], [file for _, file in pairs])
        todo = [pair for pair in pairs if pair[0].id not in self._outcomes]
        owner = {item.id: shard for shard in self.shards for item in shard.items}
        left = Counter(owner[item.id].number for item, _ in todo)
        for shard in self.shards:
            make_folder(shard.files[0].parent)
        with ThreadPoolExecutor(_WRITERS) as pool:
            try:
                for shard in self.shards:
                    if not left[shard.number]:
                        yield from self._submit(pool, shard)
                for done in run(todo):
                    shard = owner[done.id]
                    self._outcomes[done.id] = done
                    left[shard.number] -= 1
                    yield done
                    if not left[shard.number]:
                        self._submit(pool, shard)
                self._collect(0)
            finally:
                for future in self._running:
                    future.cancel()

    def _submit(self, pool: ThreadPoolExecutor, shard: _Shard) -> list[Outcome]:
        """Begin to write a shard; gives the outcomes of its clips."""
        self._collect(2 * _WRITERS - 1)  # extraction waits where it is faster than writing
        outcomes = [self._outcomes.pop(item.id) for item in shard.items]
        future = pool.submit(_write, self.place, shard, outcomes, self.schema)
        self._running[future] = shard.number
        return outcomes

    def _collect(self, most: int) -> None:
        """Take the records of what is written, and wait while more than `most` shards are not."""
        while True:
            for future in [future for future in self._running if future.done()]:
                self.records[self._running.pop(future)] = future.result()
            if len(self._running) <= most:
                return
            wait(self._running, return_when=FIRST_COMPLETED)


def _write(place: Place, shard: _Shard, outcomes: Sequence[Outcome], schema: Schema) -> _Record:
    """Write a shard and its record, and remove the files of its clips."""
    rounded: dict[str, float] = {}
    lengths: dict[str, list[int]] = {name: [] for name in schema.modalities}

    def groups() -> Iterator[pa.Table]:
        rows = read_utterances(shard.items, outcomes, shard.files)
        for batch in record_batches(rows, schema, schema.arrow(), rounded):
            group = pa.Table.from_batches([batch])
            for name, dim in schema.modalities.items():
                column = SequenceColumn.from_arrow(group.column(f"features.{name}"), dim)
                lengths[name] += column.lengths.tolist()
            yield group

    entry = None
    if any(done.rows for done in outcomes):
        with place.writing():
            entry = write_shard(place.system, place.path(shard_name(shard.number)), schema.arrow(), groups())
    record = _Record(shard.key, [done.summary() for done in outcomes], entry, lengths, rounded)
    place.write(_record_name(shard), json.dumps(dataclasses.asdict(record)).encode())
    shutil.rmtree(shard.files[0].parent, ignore_errors=True)
    return record


def _finish(
    place: Place,
    records: Sequence[_Record],
    clips: Sequence[Summary],
    written: Schema,
    extraction: Mapping[str, Any],
) -> None:
    """Make a table of the shards, which have the columns of the schema `written`."""
    _check_unique(name for clip in clips for name in utterance_ids(clip.id, clip.utterances))
    present = {name for clip in clips for name in clip.modalities}
    dims = {name: row["dim"] for name, row in extraction["modalities"].items() if name in present}
    # the files have columns for all modalities, since what is absent throughout is known only now
    schema = Schema(dims, written.labels, any(clip.text for clip in clips), written.speakers)
    if not dims and not schema.text:
        raise PaSEError(f"No clip has anything to extract; {place.out}/{REPORT} has the reasons.")
    rounded: dict[str, float] = {}
    for record in records:
        for name, largest in record.rounded.items():
            rounded[name] = max(rounded.get(name, 0.0), largest)
    extraction = with_languages(extraction, [clip.languages for clip in clips])
    meta = {"format": "extraction", "source": place.name, "extraction": extraction}
    note_rounding(meta, rounded)
    files = [record.entry for record in records if record.entry is not None]
    lengths = {name: [step for record in records for step in record.lengths[name]] for name in dims}
    with reading(place.out, "a sharded feature table", "give the same command again"):
        fingerprint = fingerprint_of(Shards(str(place.out), files, schema, meta, None, ""), lengths)
    with place.writing():
        write_list(place.system, place.folder, schema, meta, files, fingerprint)


def _check_unique(names: Iterable[str]) -> None:
    """Refuse a name that an utterance of a cut clip shares with another clip."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PaSEError(f"Utterance ids must be unique, but {name!r} stands there twice; rename one.")
        seen.add(name)
