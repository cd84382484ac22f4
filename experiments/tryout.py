"""A model to try `pase predict`, `pase demo` and `pase serve` with, trained in minutes on the data at hand.

    python -m experiments.tryout --out runs/tryout [--mosi ../shared/data/mosi]

Text is CMU-MOSI's transcripts where the folder exists (real), else made-up sentences. The voice is eSpeak NG's either
way, and its pitch, pace and loudness are drawn from the label with noise. So audio is synthetic, and no figure of this
model holds for real voices. Vision is absent. The model card, `model/README.md` in the run folder, has the figures.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from pathlib import Path
from typing import Any

from experiments.tryout_sentences import sentence
from pase_msa.cards.card import write_card
from pase_msa.errors import PaSEError
from pase_msa.evaluation.card import run_card
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.media.config import ExtractConfig
from pase_msa.media.example_clip import speak, write_clip, write_example
from pase_msa.media.table import extract_table
from pase_msa.report.run_page import report_run
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import train
from pase_msa.training.run_folder import RunFolder

SPOKEN = {"train": 240, "valid": 60, "test": 60}  # utterances with a voice; all others have text alone
MADE_UP = {"train": 600, "valid": 120, "test": 120}
NOISE = 1.5  # standard deviation of the noise that is added to the label before it becomes prosody
VOICES = ("en-us", "en-us+f2", "en-us+m3", "en-us+f4", "en-us+m1")

#: file name, words, and the sentiment of the voice, in [-3, 3]
EXAMPLES = (
    ("delighted", "I really love this movie. The story is wonderful and the actors are great.", 2.5),
    ("disappointed", "It was so boring. The plot makes no sense and I wanted my money back.", -2.5),
    ("good_words_flat_voice", "The music was beautiful and the ending was really good.", -2.5),
    ("a_mixed_review", "", 0.0),  # of several utterances, see MIXED
)
MIXED = (
    ("I went to see this film with my brother on the first weekend.", 0.0),
    ("The beginning is slow, and for half an hour nothing happens. That was boring.", -2.0),
    ("But then the two sisters meet again, and from there on it is really wonderful.", 2.0),
    ("The actors are great, and the music is beautiful.", 2.5),
    ("What I did not like is the ending. It is stupid, and it ruins a lot.", -2.5),
    ("I would still say, go and see it. It is a good film.", 1.5),
    ("You can see it in most of the theaters in town until the end of the month.", 0.0),
)


def prosody(sentiment: float, generator: random.Random) -> dict[str, int]:
    """Prosody of a sentiment: the better, the higher, livelier, faster and louder."""
    noisy = max(-3.0, min(3.0, sentiment + generator.gauss(0, NOISE)))
    return {
        "pitch": round(45 + 9 * noisy + generator.gauss(0, 4)),
        "span": round(50 + 13 * noisy),
        "speed": round(165 + 12 * noisy + generator.gauss(0, 8)),
        "volume": round(90 + 10 * noisy),
    }


def transcripts(mosi: Path) -> list[dict[str, Any]]:
    """Rows of id, video, split, sentiment and text: CMU-MOSI's, or made up where the file does not exist."""
    if (mosi / "utterances.csv").is_file():
        with (mosi / "utterances.csv").open(newline="") as stream:
            rows: list[dict[str, Any]] = [row for row in csv.DictReader(stream) if row["text"].strip()]
        return [{key: row[key] for key in ("id", "video", "split", "sentiment", "text")} for row in rows]
    generator = random.Random(0)
    rows, seen = [], set()
    for split, count in MADE_UP.items():
        while count:
            text, score = sentence(generator)
            if text not in seen:  # no sentence in two splits
                seen.add(text)
                name = f"{split}{count}"
                rows.append({"id": name, "video": name, "split": split, "sentiment": score, "text": text})
                count -= 1
    return rows


def say(rows: list[dict[str, Any]], folder: Path) -> int:
    """Synthesise the speech of some rows (column `path`); returns how many. Files that exist are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen: list[dict[str, Any]] = []
    for split, count in SPOKEN.items():
        those = [row for row in rows if row["split"] == split]
        chosen += random.Random(split).sample(those, min(count, len(those)))
    for row in chosen:
        generator = random.Random(row["id"])
        voice = VOICES[random.Random(row["video"]).randrange(len(VOICES))]
        how = prosody(float(row["sentiment"]), generator)
        path = folder / f"{row['id']}.wav"
        if not path.is_file():
            sound, rate = speak(row["text"].lower(), voice, **how)
            write_clip(folder / f"{row['id']}.partial.wav", sound=sound, rate=rate).replace(path)
        row["path"] = str(path.resolve())
    return len(chosen)


def examples(folder: Path) -> None:
    """Write the example clips of the page."""
    import numpy as np

    from pase_msa.media.example_clip import portrait

    folder.mkdir(parents=True, exist_ok=True)
    calm = random.Random(0)
    calm.gauss = lambda mu=0.0, sigma=1.0: mu  # type: ignore[method-assign]
    for name, text, sentiment in EXAMPLES:
        path = folder / f"{name}.mp4"
        if path.is_file():
            continue
        if text:
            write_example(path, text, size=(480, 360), **prosody(sentiment, calm))
            continue
        parts, rate = [], 22_050
        for words, mood in MIXED:
            sound, rate = speak(words, **prosody(mood, calm))
            parts += [sound, np.zeros(round(0.9 * rate), np.int16)]
        whole = np.concatenate(parts)
        count = round(len(whole) / rate * 10)
        frames = (portrait(480, 360, (i % 100) / 100) for i in range(count))
        write_clip(path, sound=whole, rate=rate, frames=frames, frame_rate=10)


def about(rows: list[dict[str, Any]], real: bool, spoken: int) -> str:
    """What the card says of the data."""
    counts = {split: sum(row["split"] == split for row in rows) for split in SPOKEN}
    words = "the transcripts of CMU-MOSI (real; Zadeh et al., 2016)" if real else "made-up sentences (synthetic)"
    audio = (
        f"speech that eSpeak NG made of {spoken} of these texts, its pitch, pace and loudness drawn from the label "
        "with noise (synthetic)"
        if spoken
        else "absent, because no speech synthesis is installed"
    )
    licence = "CMU-MOSI is distributed for research, and so is what is trained on it." if real else ""
    return f"""A model to try, on features that `pase extract` makes, so that clips can be predicted. It shows the way
from a clip to a prediction and is not to be relied on.

- **Text: {words}.** {len(rows)} utterances ({counts["train"]} train, {counts["valid"]} valid, {counts["test"]} test),
  read word by word by MiniLM.
- **Audio: {audio}.** What the model has learned about voices is what was put in, so it does not hold for people.
- **Vision: absent.** The model was trained without faces.
- **Labels:** sentiment from -3 to 3{", as annotated in CMU-MOSI" if real else ", by the rule that made the sentences"}.
- English only. Transcripts of new clips come from a small recogniser, which makes mistakes.

Made by `python -m experiments.tryout`. {licence}
"""


def main() -> None:
    """Make the model; steps that an earlier run has finished are not repeated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tryout"))
    parser.add_argument("--mosi", type=Path, default=Path("../shared/data/mosi"))
    parser.add_argument("--jobs", type=int, default=None)
    options = parser.parse_args()
    run, work = options.out, options.out.with_name(options.out.name + "_data")
    folder = RunFolder(run)
    if folder.about.is_file():
        print(f"{run} is there already; remove it to make it anew")
        return
    rows = transcripts(options.mosi)
    real = (options.mosi / "utterances.csv").is_file()
    print("text: CMU-MOSI's transcripts (real)" if real else f"text: made up, since {options.mosi} is not there")
    try:
        spoken = say(rows, work / "speech")
        print(f"audio: {spoken} utterances spoken by eSpeak NG, prosody drawn from the label (synthetic)")
    except PaSEError as error:
        spoken = 0
        print(f"audio: absent ({error})")
    work.mkdir(parents=True, exist_ok=True)
    manifest = work / "clips.csv"
    with manifest.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "path", "video", "split", "sentiment", "text"], restval="")
        writer.writeheader()
        writer.writerows(rows)
    config = ExtractConfig(["text", "audio"] if spoken else ["text"])
    extract_table(manifest, work / "features", config, jobs=options.jobs, progress=True)
    training = TrainingConfig(epochs=40, patience=6)
    if not (run / "results.json").is_file():
        train(
            RunConfig(data=str(work / "features"), out=str(run), label="sentiment", training=training), progress=False
        )
    evaluation = evaluate(str(run))
    report_run(run)
    if spoken:
        examples(run / "examples")
    folder.about.write_text(about(rows, real, spoken))  # late, since it marks the run as complete
    write_card(folder.model, run_card(run))
    print(json.dumps(evaluation["metrics"]))
    print(f"next: pase demo {run}")


if __name__ == "__main__":
    main()
