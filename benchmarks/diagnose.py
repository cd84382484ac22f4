"""Seconds that a diagnosis takes, by number of modalities: `python -m benchmarks.diagnose [--json]`.

    python -m benchmarks.diagnose --data FOLDER [--label NAME]      # `pase diagnose FOLDER`, the whole command

Synthetic data, 2,000 utterances (1,400 training, 400 validation, 200 test, which are not read), one thread. Modalities
have 32 pooled features each by default; with `--dim 24` or more they fill the reference model to its limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import torch
from threadpoolctl import threadpool_limits

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.heldout.diagnose import diagnose
from pase_msa.task import Kind


def measure(count: int, kind: Kind, dim: int) -> float:
    """Seconds, of a useful modality, a deceptive one, noise and weak ones."""
    modalities = {
        "strong": ModalitySpec(dim=dim),
        "deceptive": ModalitySpec(dim=dim, strength=0.0, deception=1.0),
        "noise": ModalitySpec(dim=dim, strength=0.0),
        **{f"weak {i}": ModalitySpec(dim=dim, noise=2.0) for i in range(max(count - 3, 0))},
    }
    chosen = dict(list(modalities.items())[:count])
    table = synthetic_table(SyntheticSpec(chosen, kind=kind, train=1400, valid=400, test=200))
    start = time.perf_counter()
    diagnose(table)
    return time.perf_counter() - start


def command(data: str, label: str | None) -> float:
    """Seconds of `pase diagnose`; the first of three fills the cache of text, if there is any."""
    words = [sys.executable, "-m", "pase_msa", "diagnose", data, *(["--label", label] if label else [])]
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--modalities", type=int, nargs="+", default=[2, 3, 5, 8])
    parser.add_argument("--kind", choices=["regression", "classification"], default="regression")
    parser.add_argument("--dim", type=int, default=16, help="size of a frame")
    parser.add_argument("--data", help="time the command on these data, start included")
    parser.add_argument("--label")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    if options.data:
        print(" ".join(f"{command(options.data, options.label):.1f} s" for _ in range(3)))
        return
    torch.set_num_threads(1)
    with threadpool_limits(1):
        seconds = {count: measure(count, options.kind, options.dim) for count in options.modalities}
    if options.json:
        print(json.dumps(seconds))
        return
    for count, value in seconds.items():
        print(f"{count:3} modalities {value:8.2f} s")


if __name__ == "__main__":
    main()
