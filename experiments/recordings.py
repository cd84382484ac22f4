"""Three recordings of our own making, from file to annotation, subtitles and table.

    python -m experiments.recordings --run runs/tryout --out runs/recordings

- `talk.wav`: two speakers, three minutes, one channel.
- `call.wav`: two speakers, a channel each, with a little of the other one in it.
- `german.wav`: a German clip. It needs the multilingual recogniser (`make media LANGUAGES=all`) and is left out
  without it.

The voices are eSpeak NG's, the words are ours. Each recording is predicted by the command `pase predict` into an ELAN
file, and once more from Python into the other formats. The files are read by the standard library, jsonschema, pympi,
praatio and webvtt-py. Seconds per minute of recording are printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from experiments.diarization import LEAK, Turn, error_of
from experiments.tryout_sentences import sentence
from pase_msa.cli.main import main as pase
from pase_msa.data.columns import Array
from pase_msa.files import make_folder
from pase_msa.media.config import RecordingOptions
from pase_msa.media.example_clip import speak, write_clip
from pase_msa.media.languages import FILES
from pase_msa.optional import installed
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.outputs import write_result
from pase_msa.serve.summary import render_result
from pase_msa.serve.units import units_of

RATE = 22_050  # Hz, eSpeak NG's
VOICES = (("en-us+m3", {"pitch": 25, "speed": 150}), ("en+f4", {"pitch": 85, "speed": 185}))
GERMAN = (
    "Ich habe diesen Film am ersten Wochenende mit meinem Bruder gesehen.",
    "Der Anfang war sehr langweilig, und eine halbe Stunde lang passiert nichts.",
    "Aber die Musik war wunderbar, und am Ende hat mir die Geschichte gut gefallen.",
)


@dataclass(frozen=True)
class Recording:
    """A recording, and how it is predicted.

    Attributes:
        path: of the file.
        seconds: its length.
        options: who speaks, and in which language.
        turns: who speaks when; empty where one person does.
    """

    path: Path
    seconds: float
    options: RecordingOptions
    turns: Sequence[Turn] = ()


def talk(seconds: float, seed: int = 0) -> tuple[Array, list[Turn]]:
    """Two speakers in turn, int16 [2, n], each in a row of its own, and who speaks when."""
    generator = random.Random(seed)
    parts: list[tuple[int, Array]] = []
    turns: list[Turn] = []
    clock = 0.5
    while clock < seconds:
        who = len(turns) % 2
        voice, prosody = VOICES[who]
        text = " ".join(sentence(generator)[0] for _ in range(generator.randint(1, 3)))
        sound, _ = speak(text, voice, **prosody)
        parts.append((round(clock * RATE), sound))
        turns.append((clock, clock + len(sound) / RATE, ("Anna", "Ben")[who]))
        clock = turns[-1][1] + generator.uniform(0.3, 1.0)
    rows = np.zeros((2, round(clock * RATE)), np.int16)
    for number, (start, sound) in enumerate(parts):
        rows[number % 2, start : start + len(sound)] = sound
    return rows, turns


def make(out: Path, minutes: float) -> list[Recording]:
    """Write the recordings."""
    rows, turns = talk(60 * minutes)
    length = rows.shape[1] / RATE
    mixed = write_clip(out / "talk.wav", sound=rows.sum(0, dtype=np.int16), rate=RATE)
    made = [Recording(mixed, length, RecordingOptions("2", ("Anna", "Ben")), turns)]
    rows, turns = talk(20 * minutes, seed=1)
    leaked = (rows + LEAK * rows[::-1]).astype(np.int16)
    call = write_clip(out / "call.wav", sound=leaked, rate=RATE)
    made.append(Recording(call, rows.shape[1] / RATE, RecordingOptions("channels", ("Anna", "Ben")), turns))
    pause = np.zeros(RATE, np.int16)
    spoken = np.concatenate([part for text in GERMAN for part in (speak(text, "de", speed=140)[0], pause)])
    clip = write_clip(out / "german.wav", sound=spoken, rate=RATE)
    if all(installed(weights.module) for weights in FILES):
        made.append(Recording(clip, len(spoken) / RATE, RecordingOptions(language="auto")))
    else:
        print("german.wav is left out: `make media LANGUAGES=all` brings the recogniser for it")
    return made


def _eaf(path: Path) -> int:
    import pympi

    tree = ElementTree.parse(path)
    annotations = len(tree.findall(".//ALIGNABLE_ANNOTATION"))
    read = pympi.Elan.Eaf(str(path))
    assert annotations == sum(len(read.get_annotation_data_for_tier(name)) for name in read.get_tier_names())
    return annotations


def _grid(path: Path) -> int:
    from praatio import textgrid

    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    return sum(len(tier.entries) for tier in grid.tiers)


def _subtitles(path: Path) -> int:
    import webvtt

    return len((webvtt.from_srt if path.suffix == ".srt" else webvtt.read)(str(path)).captions)


def _csv(path: Path) -> int:
    with path.open(newline="", encoding="utf-8") as stream:
        return len(list(csv.DictReader(stream)))


def _json(path: Path) -> int:
    import jsonschema

    schema = json.loads(files("pase_msa.serve").joinpath("clip_result.schema.json").read_text(encoding="utf-8"))
    result = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(result)
    return len(result["utterances"])


def _lines(path: Path) -> int:
    return len([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


READERS: dict[str, Callable[[Path], int]] = {
    "eaf": _eaf,
    "TextGrid": _grid,
    "srt": _subtitles,
    "vtt": _subtitles,
    "csv": _csv,
    "json": _json,
    "jsonl": _lines,
}


def command_of(options: RecordingOptions) -> list[str]:
    """The options as words of a command."""
    words = [] if options.speakers is None else ["--speakers", options.speakers]
    words += ["--speaker-names", ",".join(options.names)] if options.names else []
    return words + ([] if options.language is None else ["--language", options.language])


def report(run: Path, predictor: ClipPredictor, recording: Recording) -> None:
    """Predict a recording into every format, read the files, and print what they hold."""
    minutes, path = recording.seconds / 60, recording.path
    words = command_of(recording.options)
    print(f"\n{path.name}, {minutes:.1f} minutes, pase predict RUN {path.name} {' '.join(words)}")
    path.with_suffix(".eaf").unlink(missing_ok=True)  # of a run before; it is never replaced
    began = time.perf_counter()
    if pase(["predict", str(run), str(path), *words, "--out", str(path.with_suffix(".eaf"))]):
        raise SystemExit(1)
    print(f"  {(time.perf_counter() - began) / minutes:.1f} s per minute of recording, with loading")
    began = time.perf_counter()
    result = predictor.predict(path, options=recording.options)
    print(f"  {(time.perf_counter() - began) / minutes:.1f} s per minute of recording, loaded")
    units = units_of(result, "utterance")
    for ending, read in READERS.items():
        out = path.with_suffix(f".{ending}")
        if ending != "eaf":
            write_result(out, result, "utterance", units, clip=path)
        print(f"  {out.name}: {read(out)} entries")
    print("\n".join(f"  {line}" for line in render_result(result, []).splitlines()))
    if recording.turns:
        found = [(unit.start or 0.0, unit.end or 0.0, unit.speaker or "") for unit in units]
        print(f"  diarisation error {100 * error_of(recording.turns, found).rate:.1f} %")


def main() -> None:
    """Write, predict and read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("runs/tryout"))
    parser.add_argument("--out", type=Path, default=Path("runs/recordings"))
    parser.add_argument("--minutes", type=float, default=3.0, help="of the talk; the call is a third of it")
    options = parser.parse_args()
    make_folder(options.out)
    predictor = ClipPredictor(options.run)
    for recording in make(options.out, options.minutes):
        report(options.run, predictor, recording)


if __name__ == "__main__":
    main()
