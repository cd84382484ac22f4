"""Seconds from the command to the first training step, as a user waits for it.

    python -m benchmarks.start --data FOLDER [--rounds 3] [--model pase] [--label NAME]

Each round is a process of its own that runs `pase train` and ends at its first step. States of the language model, and
everything else that a first run leaves in the cache, are there: a round before the first one is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

_CHILD = """
import os, sys
from pase_msa.cli.main import main
from pase_msa.cli.startup import quick_start

def stop(*_):
    os._exit(77)

with quick_start():  # as the command imports it; else torchmetrics brings packages that the command never loads
    from lightning import Callback
Callback.on_train_batch_start = stop
sys.exit(main(sys.argv[1:]))
"""
_REACHED = 77


def measure(words: list[str]) -> float:
    """Seconds of one command up to its first step."""
    settings = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _CHILD, "train", *words, "--out", f"{folder}/run"]
        began = time.perf_counter()
        code = subprocess.run(command, env=settings, stdout=subprocess.DEVNULL, check=False).returncode
        seconds = time.perf_counter() - began
    if code != _REACHED:
        raise SystemExit(f"The command ended with {code} before its first step; run it by itself: {words}")
    return seconds


def main() -> None:
    """Print the median and all rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="pase")
    parser.add_argument("--label")
    options = parser.parse_args()
    words = ["--model", options.model]
    for name in ("data", "label"):
        if value := getattr(options, name):
            words += [f"--{name}", value]
    measure(words)
    seconds = [measure(words) for _ in range(options.rounds)]
    rounds = ", ".join(f"{value:.1f}" for value in seconds)
    print(f"{statistics.median(seconds):.1f} s before the first step ({rounds})")


if __name__ == "__main__":
    main()
