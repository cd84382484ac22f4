"""`pase extract`."""

from __future__ import annotations

import sys
from typing import Any, Literal


def extract(
    clips: str,
    *,
    out: str = "features",
    shards: int | None = None,
    modalities: list[str] | None = None,
    extractors: dict[str, dict[str, Any]] | None = None,
    align: Literal["word", "window", "frame"] = "word",
    window: float = 0.5,
    recogniser: str = "tiny.en",
    language: str = "en",
    speakers: str | None = None,
    speaker_names: list[str] | None = None,
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
        out: folder for the feature table; the same command goes on where it was stopped. With --shards it may be an
            address, such as s3://BUCKET/NAME.
        shards: write the table in so many Parquet files, each as soon as its clips are done, so that this machine never
            holds all of it; one Arrow file if left out.
        modalities: to extract, divided by commas; text, audio and vision if left out.
        extractors: options by modality, for example '{"audio": {"extractor": "whisper"}, "vision": {"rate": 10}}'.
        align: one step per word, one step per window, or each modality at its own rate.
        window: seconds of a window.
        recogniser: faster-whisper model that transcribes speech; tiny.en or multilingual by what the language is, if
            left out.
        language: of the speech, by a code such as de, or auto to detect it in every recording; a column language of
            the manifest goes before it.
        speakers: divide recordings without labels and text of their own by who speaks: auto finds how many there are by
            their voices, a number says it, channels is one speaker per channel of the sound.
        speaker_names: of the speakers in the order in which they first talk, or of the channels, divided by commas; the
            column speaker of the manifest, divided by semicolons, goes before it.
        voice: probability of speech from which on a moment counts as speech.
        pause: silence, in seconds, at which long media are cut into utterances.
        longest: seconds of the longest utterance.
        cut: long media into utterances; auto leaves those with labels or a text of their own whole.
        jobs: processes; as many as cores, at most 8, if left out.
        backend: loky for processes of this machine, ray for a Ray cluster whose nodes share the folders.
        timeout: longest duration of a clip in seconds; one that takes longer has failed. No limit if left out.
    """
    from pase_msa.data.shards import is_address
    from pase_msa.errors import PaSEError

    if shards is not None and shards < 1:
        raise PaSEError(
            f"A table has one shard or more, found --shards {shards}; give a larger number, or leave it out."
        )
    if is_address(out) and shards is None:
        raise PaSEError(f"{out} is an address, where a table lies in shards; say how many with --shards N.")
    if speakers is not None and cut == "never":
        raise PaSEError(
            "--speakers cuts recordings where the speaker changes, and --cut never cuts none; leave one out."
        )
    from pase_msa.media.config import ExtractConfig
    from pase_msa.media.outcomes import REPORT

    names = {} if modalities is None else {"modalities": modalities}
    config = ExtractConfig(
        extractors=extractors or {},
        align=align,
        window=window,
        recogniser=recogniser,
        language=language,
        speakers=speakers,
        speaker_names=speaker_names or [],
        voice=voice,
        pause=pause,
        longest=longest,
        **names,
    )
    progress = sys.stderr.isatty()
    more: Any = {"jobs": jobs, "backend": backend, "cut": cut, "progress": progress, "timeout": timeout}
    if shards is None:
        from pase_msa.media.table import extract_table

        table, outcomes = extract_table(clips, out, config, **more)
        done, rows = [outcome.summary() for outcome in outcomes], len(table)
        counts = {name: int(table.sequences(name).present.sum()) for name in table.modalities}
    else:
        from pase_msa.media.sharded import extract_shards

        written, done = extract_shards(clips, out, shards, config, **more)
        rows = sum(int(file["rows"]) for file in written.files)
        counts = {name: sum(clip.modalities.get(name, 0) for clip in done) for name in written.schema.modalities}
    parts = ", ".join(f"{name} {count}" for name, count in counts.items()) or "transcripts only"
    seconds = sum(clip.seconds for clip in done)
    print(f"{rows} utterances of {len(done)} clips ({seconds:.0f} s) in {out}: {parts}")
    failed = [clip for clip in done if clip.status == "failed"]
    for clip in failed[:3]:
        print(f"not read: {clip.reason}")
    if failed:
        print(f"{len(failed)} of {len(done)} clips could not be read; the reasons are in {out}/{REPORT}")
    print(f"next: pase inspect {out}")
