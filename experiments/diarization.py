"""How often the wrong speaker is named: the diarisation error on mixtures of voices whose turns are known.

    python -m experiments.diarization [--turns ../shared/data/iemocap/extra.csv] [--dialogues 8] [--real FOLDER]

A mixture has the turn times of a dialogue of IEMOCAP (who speaks when, with overlaps; no word and no sound of it), and
a synthetic voice of eSpeak NG per speaker, which says made-up sentences for as long as the turn lasts. Where the file
of turns does not exist, the times are drawn. `--real` names a folder with recordings and their turns, `NAME.wav` and
`NAME.rttm`, such as the sample in the package pyannote.audio.

The diarisation error rate is that of NIST: missed speech, false alarms and speech with the wrong speaker, over the
speech of the reference. Speech of two speakers counts twice, and .25 s around every beginning and end of a turn is left
out. The rows go to `experiments/results/diarization.csv`, the table to the Markdown file beside it.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from experiments.tryout_sentences import sentence
from pase_msa.data.columns import Array
from pase_msa.files import write_text
from pase_msa.media.config import ExtractConfig, RecordingOptions
from pase_msa.media.example_clip import speak, write_clip
from pase_msa.media.recordings import divide

RESULTS = Path(__file__).parent / "results" / "diarization.csv"
COLLAR = 0.25  # seconds around the edges of turns that do not count
_FRAME = 0.01  # seconds
_RATE = 22_050  # Hz, eSpeak NG's
LEAK = 0.03  # of a speaker that the other channel of a call picks up, -30 dB

Turn = tuple[float, float, str]  # start and end in seconds, speaker


@dataclass(frozen=True)
class Voice:
    """A synthetic voice.

    Attributes:
        name: of eSpeak NG.
        pitch: from 0 to 100.
        speed: words per minute.
    """

    name: str
    pitch: int = 50
    speed: int = 175


#: kind of mixture -> its voices
MATERIAL: dict[str, tuple[Voice, ...]] = {
    "one voice": (Voice("en-us"),),
    "two that are alike": (Voice("en-us+m1"), Voice("en-us+m3")),
    "two that differ": (Voice("en-us+m3", 25, 150), Voice("en+f4", 85, 190)),
    "three that differ": (Voice("en-us+m3", 20, 150), Voice("en+f4", 90, 190), Voice("en-us+croak", 50, 170)),
}
CALL = "two that differ, a channel each"


@dataclass(frozen=True)
class Error:
    """Seconds of a recording that are attributed wrongly.

    Attributes:
        missed: speech that was not found.
        false: speech of nobody, or of more speakers than there are.
        confused: speech of another speaker.
        speech: of the reference; what two say at once counts twice.
    """

    missed: float
    false: float
    confused: float
    speech: float

    @property
    def rate(self) -> float:
        """The diarisation error rate."""
        return (self.missed + self.false + self.confused) / self.speech


def error_of(reference: Sequence[Turn], found: Sequence[Turn], collar: float = COLLAR) -> Error:
    """The diarisation error, with the assignment of names that makes it smallest.

    Args:
        reference: the turns as they are.
        found: as they were found; the speakers may have any names.
        collar: seconds before and after every edge of the reference that do not count.
    """
    end = max(turn[1] for turn in [*reference, *found])
    count = round(end / _FRAME) + 1
    kept = np.ones(count, bool)
    for start, stop, _ in reference:
        for edge in (start, stop):
            kept[max(0, round((edge - collar) / _FRAME)) : round((edge + collar) / _FRAME)] = False
    truth, guess = (_activity(turns, count)[:, kept] for turns in (reference, found))
    together = truth.astype(int) @ guess.T.astype(int)
    rows, columns = linear_sum_assignment(-together)
    right = np.zeros(truth.shape[1], int)
    for row, column in zip(rows, columns, strict=True):
        right += truth[row] & guess[column]
    real, said = truth.sum(0), guess.sum(0)
    missed, false = np.maximum(real - said, 0), np.maximum(said - real, 0)
    confused = np.minimum(real, said) - right
    return Error(*(float(part.sum()) * _FRAME for part in (missed, false, confused, real)))


def _activity(turns: Iterable[Turn], count: int) -> Array:
    """Who speaks in each frame, bool [speakers, frames]."""
    turns = list(turns)
    names = list(dict.fromkeys(name for _, _, name in turns))
    active = np.zeros((len(names), count), bool)
    for start, stop, name in turns:
        active[names.index(name), round(start / _FRAME) : round(stop / _FRAME)] = True
    return active


def dialogues(file: Path, count: int, seconds: float, seed: int = 0) -> list[list[Turn]]:
    """Turns of some dialogues, from their beginning on; drawn ones where there is no file."""
    generator = random.Random(seed)
    if not file.is_file():
        return [_drawn(generator, seconds) for _ in range(count)]
    found: dict[str, list[Turn]] = {}
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["dialog"], []).append((float(row["start"]), float(row["end"]), row["speaker"]))
    chosen = generator.sample(sorted(found), count)
    return [_beginning(sorted(found[name]), seconds) for name in chosen]


def _beginning(turns: Sequence[Turn], seconds: float) -> list[Turn]:
    first = turns[0][0] - 0.5
    return [(start - first, end - first, name) for start, end, name in turns if end - first <= seconds]


def _drawn(generator: random.Random, seconds: float) -> list[Turn]:
    """Turns of two speakers: log-normal lengths, and pauses or small overlaps between them."""
    turns: list[Turn] = []
    time = 0.5
    while True:
        length = min(15.0, max(0.5, generator.lognormvariate(1.2, 0.7)))
        if time + length > seconds:
            return turns
        turns.append((time, time + length, f"speaker {len(turns) % 2}"))
        time += length + generator.uniform(-0.3, 1.2)


def mixture(turns: Sequence[Turn], voices: Sequence[Voice], seed: int) -> tuple[Array, list[Turn]]:
    """Sound of each voice, int16 [voices, n] at 22,050 Hz, and who speaks when.

    Args:
        turns: of two speakers. With more voices they take turns; with one, the second speaker is silent.
        voices: of the mixture.
        seed: of the sentences.
    """
    generator = random.Random(seed)
    names = sorted({name for _, _, name in turns})
    sound = np.zeros((len(voices), round((turns[-1][1] + 1) * _RATE)), np.int32)
    spoken: list[Turn] = []
    for number, (start, end, name) in enumerate(turns):
        who = names.index(name) if len(voices) < 3 else number % len(voices)
        if who >= len(voices):
            continue
        part = _talk(generator, voices[who], end - start)
        begin = round(start * _RATE)
        part = part[: sound.shape[1] - begin]
        sound[who, begin : begin + len(part)] += part
        spoken.append((start, start + len(part) / _RATE, f"voice {who}"))
    return np.clip(sound, -32768, 32767).astype(np.int16), spoken


def _talk(generator: random.Random, voice: Voice, seconds: float) -> Array:
    """A voice that speaks for so long."""
    parts: list[Array] = []
    while sum(map(len, parts)) < seconds * _RATE:
        text = sentence(generator)[0]
        whole, _ = speak(text, voice.name, pitch=voice.pitch, speed=voice.speed)
        loud = np.flatnonzero(np.abs(whole) > 200)  # without the silence around it
        parts.append(whole[loud[0] : loud[-1]])
    part = np.concatenate(parts)[: round(seconds * _RATE)].astype(np.float64)
    fade = min(len(part), _RATE // 50)
    part[len(part) - fade :] *= np.linspace(1, 0, fade)
    return part.astype(np.int32)


def measure(path: Path, turns: Sequence[Turn], speakers: str) -> dict[str, Any]:
    """The error on a recording, and how many speakers were found."""
    found = divide(path, RecordingOptions(speakers), ExtractConfig(["text"]))
    error = error_of(turns, [(part.start, part.end, part.speaker or "") for part in found])
    there = len({name for _, _, name in turns})
    return {**asdict(error), "speakers": there, "found": len({part.speaker for part in found})}


def mixtures(turns: Sequence[Sequence[Turn]], folder: Path) -> Iterator[tuple[str, Path, list[Turn], tuple[str, ...]]]:
    """Mixtures, as (kind, file, turns, options of speakers)."""
    for number, dialogue in enumerate(turns):
        for kind, voices in MATERIAL.items():
            sound, spoken = mixture(dialogue, voices, number)
            mixed = np.clip(sound.astype(np.int32).sum(0), -32768, 32767).astype(np.int16)
            path = write_clip(folder / "mixture.wav", sound=mixed, rate=_RATE)
            yield kind, path, spoken, (str(len(voices)), "auto")
            if kind == "two that differ":
                leaked = sound + LEAK * sound[::-1]
                path = write_clip(folder / "call.wav", sound=leaked.astype(np.int16), rate=_RATE)
                yield CALL, path, spoken, ("channels",)


def real(folder: Path) -> Iterator[tuple[str, Path, list[Turn], tuple[str, ...]]]:
    """Recordings of a folder with their turns in RTTM."""
    for file in sorted(folder.glob("*.rttm")):
        fields = [line.split() for line in file.read_text().splitlines() if line.startswith("SPEAKER")]
        turns = [(float(line[3]), float(line[3]) + float(line[4]), line[7]) for line in fields]
        yield "real voices", file.with_suffix(".wav"), turns, (str(len({name for _, _, name in turns})), "auto")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line per kind of mixture and option: error rates of all its recordings together, in percent."""
    lines = [
        "| mixture | speakers | recordings | minutes of speech | error | missed | false | confused | right number |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, how in dict.fromkeys((row["mixture"], row["option"]) for row in rows):
        own = [row for row in rows if (row["mixture"], row["option"]) == (kind, how)]
        speech = sum(float(row["speech"]) for row in own)
        parts = [100 * sum(float(row[name]) for row in own) / speech for name in ("missed", "false", "confused")]
        right = sum(int(row["found"]) == int(row["speakers"]) for row in own)
        rates = " | ".join(f"{value:.1f}" for value in (sum(parts), *parts))
        lines.append(f"| {kind} | {how} | {len(own)} | {speech / 60:.1f} | {rates} | {right} of {len(own)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=Path, default=Path("../shared/data/iemocap/extra.csv"))
    parser.add_argument("--dialogues", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        items = list(real(options.real)) if options.real else []
        turns = dialogues(options.turns, options.dialogues, options.seconds)
        for source in (iter(items), mixtures(turns, Path(folder))):
            for kind, path, spoken, asked in source:
                for speakers in asked:
                    how = speakers if speakers in ("auto", "channels") else "given"
                    rows.append({"mixture": kind, "option": how, **measure(path, spoken, speakers)})
    with RESULTS.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: round(v, 2) if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    write_text(RESULTS.with_suffix(".md"), table(rows))
    print(table(rows), end="")


if __name__ == "__main__":
    main()
