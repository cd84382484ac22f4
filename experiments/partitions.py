"""Random partitions of a data folder by video: train, valid and test are drawn again, everything else stays.

    python -m experiments.partitions --data ../shared/data/mosi --count 10 --out build/partitions

The standard test splits of the small data sets have been evaluated many times. Claims are therefore measured on
partitions that the seed below fixes. Each one is a folder like the original, with its own `utterances.csv`; the arrays
are links. Every split keeps its number of videos, and no video is in two splits.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np

SEED = 20260611
DEVELOPMENT = 0  # seed of other partitions, on which choices may be made


def partition(data: Path, out: Path, number: int, seed: int = SEED) -> Path:
    """Write partition `number` (0, 1, ...) of a data folder; an existing one is left as it is."""
    target = out / f"{data.name}-{number:02d}"
    if (target / "utterances.csv").is_file():
        return target
    with (data / "utterances.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    split_of = {row["video"]: row["split"] for row in rows}
    videos = sorted(split_of)
    splits = sorted(split_of.values())  # as many videos per split as before
    order = np.random.default_rng([seed, number]).permutation(len(videos))
    drawn = {videos[place]: split for place, split in zip(order.tolist(), splits, strict=True)}
    target.mkdir(parents=True, exist_ok=True)
    for array in sorted(data.glob("*.npy")):
        link = target / array.name
        if not link.exists():
            link.symlink_to(os.path.relpath(array.resolve(), target.resolve()))
    partial = target / ".utterances.csv.partial"
    with partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "split": drawn[row["video"]]} for row in rows)
    os.replace(partial, target / "utterances.csv")
    return target


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with utterances.csv and arrays")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("build/partitions"))
    options = parser.parse_args()
    for number in range(options.count):
        print(partition(options.data, options.out, number))


if __name__ == "__main__":
    main()
