"""Many clips become one feature table: in parallel processes, resumable, with a report of clips that failed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pase_msa.data.table import ARROW, META, FeatureTable, LabelKind, Schema
from pase_msa.errors import PaSEError
from pase_msa.files import check_out, write_text
from pase_msa.locks import locked
from pase_msa.media import parts
from pase_msa.media.config import ExtractConfig
from pase_msa.media.manifest import Item, read_clips
from pase_msa.media.outcomes import REPORT, Outcome, read_utterances, report_text
from pase_msa.media.pipeline import Extractor
from pase_msa.media.record import with_languages
from pase_msa.media.running import Cut, extractor_of, finished_before, progress_bar, run_clips
from pase_msa.parallel import Backend
from pase_msa.tasks import check_limit

PARTS = "parts"
#: in PARTS, of an extraction into shards
PLAN = "plan.json"


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
    extractor = extractor_of(config)
    with locked(folder / PARTS):
        keys = [parts.key(item, cut, extractor.record, config.division) for item in items]
        targets = [folder / PARTS / f"{key}.safetensors" for key in keys]
        outcomes = finished_before(items, targets)
        todo = [(item, target) for item, target in zip(items, targets, strict=True) if item.id not in outcomes]
        with progress_bar(len(items), len(outcomes), show=progress) as advance:
            for done in run_clips(todo, config, cut, jobs, backend, timeout):
                outcomes[done.id] = done
                advance(done)
        ordered = [outcomes[item.id] for item in items]
        write_text(folder / REPORT, report_text(done.summary() for done in ordered))
        if all(done.status == "failed" for done in ordered):
            raise PaSEError(f"None of the {len(ordered)} clips could be read: {ordered[0].reason}")
        return _build(folder, items, ordered, targets, kinds, extractor), ordered


def _check_folder(folder: Path) -> None:
    """Refuse a folder with other content, so that nothing of the user's is overwritten."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / PARTS).is_dir())):
        raise PaSEError(f"{folder} is there already and holds no extraction; give another folder.")
    if (folder / PARTS / PLAN).is_file():
        raise PaSEError(f"{folder} holds an extraction into shards; give its --shards, or another folder.")


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
    speakers = any(item.speaker for item in items) or any(row.get("speaker") for row in rows)
    if not dims and not text:
        raise PaSEError(f"No clip has anything to extract; {folder / REPORT} has the reasons.")
    building = folder / ".building"
    shutil.rmtree(building, ignore_errors=True)
    extraction = with_languages(extractor.record, [done.summary().languages for done in ordered])
    meta = {"format": "extraction", "source": folder.name, "extraction": extraction}
    schema = Schema(dims, kinds, text, speakers)
    FeatureTable.build(read_utterances(items, ordered, targets), schema, path=building, meta=meta)
    for name in (META, ARROW):
        os.replace(building / name, folder / name)
    building.rmdir()
    return FeatureTable.load(folder)
