"""Extraction of raw media: seconds by stage for one clip, two processes against one, and peak memory.

    python -m benchmarks.extract [--clips 24]

Clips are ten seconds of synthetic speech over a moving portrait, 640 x 360 at 25 frames per second. Every process runs
on one thread.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor

from pase_msa.media.config import ExtractConfig
from pase_msa.media.example_clip import portrait, speak, write_clip
from pase_msa.media.pipeline import Extractor
from pase_msa.media.table import extract_table

TEXT = (
    "I watched this film with my family last weekend, and I have to say that it surprised me. "
    "The story is slow at first, but the actors are wonderful and the ending is really great. Go and see it."
)
RATE = 25  # frames per second


def example(path: Path) -> Path:
    """Write a clip of about ten seconds of speech."""
    sound, rate = speak(TEXT)
    count = round(len(sound) / rate * RATE)
    frames = (portrait(640, 360, i / count) for i in range(count))
    return write_clip(path, sound=sound, rate=rate, frames=frames, frame_rate=RATE)


def one_clip(path: Path) -> None:
    """Seconds by stage, first and later clip."""
    began = time.perf_counter()
    extractor = Extractor()
    print(f"networks loaded in {time.perf_counter() - began:.1f} s")
    for which in ("first clip", "second clip", "third clip"):
        began = time.perf_counter()
        clip = extractor.extract_clip(path)
        stages = ", ".join(f"{name} {value:.2f}" for name, value in clip.seconds.items())
        print(f"{which}: {time.perf_counter() - began:.2f} s for {clip.duration:.1f} s of media ({stages})")
    clip = extractor.extract_clip(path, TEXT)
    print(f"with its text given: words {clip.seconds['words']:.2f} s ({clip.timing})")
    print(f"peak memory of this process: {peak(resource.RUSAGE_SELF):.2f} GiB")


def long_clip(folder: Path) -> None:
    """Ten minutes in utterances, in a process of its own."""
    code = (
        "import sys, resource; from pase_msa.media.pipeline import Extractor; "
        "n = sum(1 for _ in Extractor().extract_utterances(sys.argv[1])); "
        "print(f'{n} utterances, peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB')"
    )
    sound, rate = speak(TEXT)
    several = np.concatenate([sound] * (600 * rate // len(sound)))
    count = len(several) // rate * RATE
    frames = (portrait(640, 360, (i % 250) / 250) for i in range(count))
    path = write_clip(folder / "long.mp4", sound=several, rate=rate, frames=frames, frame_rate=RATE)
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    print(f"{count / RATE:.0f} s of video: {done.stdout.strip()}, {time.perf_counter() - began:.0f} s")


def many(path: Path, folder: Path, count: int) -> None:
    """Two processes against one, each after its networks were loaded."""
    spent = {}
    for jobs in (1, 2):
        for part, size in (("warm", 2 * jobs), ("timed", count)):
            clips = folder / f"{part}{jobs}"
            clips.mkdir()
            for i in range(size):
                (clips / f"{i:04d}.mp4").symlink_to(path)
            began = time.perf_counter()
            extract_table(clips, folder / f"{part}{jobs}_out", ExtractConfig(), jobs=jobs)
            spent[part, jobs] = time.perf_counter() - began
        print(f"{jobs} process(es): {spent['warm', jobs]:.1f} s to load and read {2 * jobs} clips, then", end=" ")
        print(f"{count} clips in {spent['timed', jobs]:.1f} s, {count / spent['timed', jobs]:.2f} clips/s")
    print(f"two processes against one: {spent['timed', 1] / spent['timed', 2]:.2f} x")
    get_reusable_executor().shutdown(wait=True)
    print(f"peak memory of a worker: {peak(resource.RUSAGE_CHILDREN):.2f} GiB")


def peak(who: int) -> float:
    """Peak memory of a process or of its children, in GiB."""
    return resource.getrusage(who).ru_maxrss / 2**20


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--long", action="store_true", help="ten minutes of video, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = example(folder / "example.mp4")
        one_clip(path)
        many(path, folder, options.clips)
        if options.long:
            long_clip(folder)


if __name__ == "__main__":
    main()
