"""`pase extract`."""

from __future__ import annotations

import sys
from typing import Any, Literal


def extract(
    clips: str,
    *,
    out: str = "features",
    modalities: list[str] | None = None,
    extractors: dict[str, dict[str, Any]] | None = None,
    align: Literal["word", "window", "frame"] = "word",
    window: float = 0.5,
    recogniser: str = "tiny.en",
    language: str = "en",
    voice: float = 0.5,
    pause: float = 0.6,
    longest: float = 20.0,
    cut: Literal["auto", "always", "never"] = "auto",
    jobs: int | None = None,
    backend: Literal["loky", "ray"] = "loky",
    timeout: float | None = None,
) -> None:
    """Extract features from video, audio or text files.

    Args:
        clips: folder of clips, manifest (CSV with a column path and optionally id, video, split, text, start, end and
            labels), or one file.
        out: folder for the feature table; the same command goes on where it was stopped.
        modalities: to extract, divided by commas; text, audio and vision if left out.
        extractors: options by modality, for example '{"audio": {"extractor": "whisper"}, "vision": {"rate": 10}}'.
        align: one step per word, one step per window, or each modality at its own rate.
        window: seconds of a window.
        recogniser: faster-whisper model that transcribes speech.
        language: of the speech.
        voice: probability of speech from which on a moment counts as speech.
        pause: silence, in seconds, at which long media are cut into utterances.
        longest: seconds of the longest utterance.
        cut: long media into utterances; auto leaves those with labels or a text of their own whole.
        jobs: processes; as many as cores, at most 8, if left out.
        backend: loky for processes of this machine, ray for a Ray cluster whose nodes share the folders.
        timeout: longest duration of a clip in seconds; one that takes longer has failed. No limit if left out.
    """
    from pase_msa.media.config import ExtractConfig
    from pase_msa.media.table import REPORT, extract_table

    names = {} if modalities is None else {"modalities": modalities}
    config = ExtractConfig(
        extractors=extractors or {},
        align=align,
        window=window,
        recogniser=recogniser,
        language=language,
        voice=voice,
        pause=pause,
        longest=longest,
        **names,
    )
    progress = sys.stderr.isatty()
    table, ordered = extract_table(
        clips, out, config, jobs=jobs, backend=backend, cut=cut, progress=progress, timeout=timeout
    )
    counts = {name: int(table.sequences(name).present.sum()) for name in table.modalities}
    seconds = sum(done.seconds for done in ordered)
    parts = ", ".join(f"{name} {count}" for name, count in counts.items()) or "transcripts only"
    print(f"{len(table)} utterances of {len(ordered)} clips ({seconds:.0f} s) in {out}: {parts}")
    failed = [done for done in ordered if done.status == "failed"]
    for done in failed[:3]:
        print(f"not read: {done.reason}")
    if failed:
        print(f"{len(failed)} of {len(ordered)} clips could not be read; the reasons are in {out}/{REPORT}")
    print(f"next: pase inspect {out}")
