"""Seconds and peak memory of a conversion: `python -m benchmarks.convert [--utterances 22856] [--protocol 4]`.

Makes a pickle of the layout of MMSA with the sizes of CMU-MOSEI (50 steps of 768 / 74 / 35 features, 4 GB at 22,856
utterances), converts it in a process of its own, and prints the seconds and the peak of the memory of that process.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SIZES = {"text": 768, "audio": 74, "vision": 35}
STEPS = 50
_PARTS = {"train": 0.714, "valid": 0.082, "test": 0.204}
_BLOCK = 256  # distinct utterances; the file repeats them, since what they hold costs a conversion nothing


def split(name: str, count: int) -> dict[str, Any]:
    """One split of random features, padded with zeros at the end."""
    random, block = np.random.default_rng(0), min(_BLOCK, count)
    lengths = random.integers(5, STEPS + 1, block)
    valid = (np.arange(STEPS) < lengths[:, None]).astype(np.float32)
    repeats = -(-count // block)
    part: dict[str, Any] = {
        modality: np.tile(
            random.standard_normal((block, STEPS, size), dtype=np.float32) * valid[:, :, None], (repeats, 1, 1)
        )[:count]
        for modality, size in SIZES.items()
    }
    part["text_bert"] = np.tile(np.stack([valid, valid, 0 * valid], axis=1), (repeats, 1, 1))[:count]
    part["regression_labels"] = random.uniform(-3, 3, count).astype(np.float32)
    part["raw_text"] = [f"utterance {i}" for i in range(count)]
    part["id"] = [f"{name}{i // 6}$_${i % 6}" for i in range(count)]
    return part


def write_pickle(file: Path, utterances: int, protocol: int) -> None:
    """The whole file."""
    content = {name: split(name, max(int(share * utterances), 2)) for name, share in _PARTS.items()}
    with file.open("wb") as stream:
        pickle.dump(content, stream, protocol)


def measure(utterances: int, protocol: int) -> dict[str, float]:
    """Size of the file in GB, seconds of the conversion, and peak memory of its process in GB."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "features.pkl"
        # in a child, whose memory does not count
        code = f"from benchmarks.convert import *; write_pickle(Path({str(file)!r}), {utterances}, {protocol})"
        subprocess.run([sys.executable, "-c", code], check=True)
        command = [sys.executable, "-m", "pase_msa", "convert", str(file), f"{folder}/table"]
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise RuntimeError(f"the conversion ended with status {status}")
        seconds = time.perf_counter() - start
        return {"gigabytes": file.stat().st_size / 1e9, "seconds": seconds, "peak_gigabytes": usage.ru_maxrss / 1e6}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--utterances", type=int, default=22856)
    parser.add_argument("--protocol", type=int, default=4, choices=range(2, 6))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.utterances, options.protocol)
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{result['gigabytes']:.2f} GB converted in {result['seconds']:.1f} s, peak {result['peak_gigabytes']:.2f} GB"
    )


if __name__ == "__main__":
    main()
