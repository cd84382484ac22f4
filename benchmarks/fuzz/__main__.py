"""A campaign of damaged inputs: every one must be read, or be refused in one sentence.

    python -m benchmarks.fuzz --cases 100000 --seed 1
    python -m benchmarks.fuzz --case 4711 --seed 1        # one case again, in this process, with its traceback

Formats: MMSA (aligned and unaligned), MulT, MAG-BERT, GCNet, MMGCN, computational sequences, MFN, the folder format,
converted tables, saved models, run folders. Damage: bytes changed, cut, inserted, exchanged; sizes that lie; keys
dropped, renamed, exchanged; values of other types and shapes; deep and self-referring nesting; hostile names; files
that are missing, folders, pipes, devices. A fault is any other exception than PaSEError, a signal, more than 10 s of
computing, 60 s of waiting or 4 GiB, a sentence with control characters or of more than 2,000 characters, or a refused
conversion that leaves something behind.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.fuzz import runner
from benchmarks.fuzz.corpus import WRITERS
from benchmarks.fuzz.damage import damage


def main() -> None:
    """Run the campaign, or one case."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--kinds", default="", help=f"divided by commas: {', '.join(WRITERS)}")
    parser.add_argument("--case", type=int, help="one case, in this process")
    options = parser.parse_args()
    kinds = [kind for kind in options.kinds.split(",") if kind] or list(WRITERS)
    if options.case is not None:
        again(options.case, options.seed, kinds)
        return
    report = runner.run(options.cases, options.seed, jobs=options.jobs, kinds=kinds, start=options.start)
    for (kind, outcome), count in sorted(report.outcomes.items()):
        print(f"{kind:16s} {outcome:8s} {count}")
    places: dict[str, list[tuple[int, str, str, str]]] = {}
    for fault in report.faults:
        places.setdefault(f"{fault[1]}: {fault[3].split(': ')[0]}", []).append(fault)
    for place, faults in sorted(places.items(), key=lambda item: -len(item[1])):
        number, _, how, what = faults[0]
        print(f"{len(faults):5d} x {place}; first: case {number}, {how}: {what}")
    print(f"{report.cases} cases in {report.seconds:.0f} s, seed {options.seed}: {len(report.faults)} faults")
    raise SystemExit(1 if report.faults else 0)


def again(number: int, seed: int, kinds: list[str]) -> None:
    """One case with its traceback; the input stays where it is printed."""
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = root / "corpus"
    runner.write_corpus(corpus, kinds)
    rng = np.random.default_rng([seed, number])
    kind = kinds[int(rng.integers(len(kinds)))]
    home = root / "input"
    shutil.copytree(corpus / kind.replace(" ", "_"), home, symlinks=True)
    path = home / (corpus / f"{kind.replace(' ', '_')}.entry").read_text()
    print(f"{kind}: {damage(path if path.is_dir() else home, kind, rng)} in {path}")
    runner.use(kind, path, root)
    print("read")


if __name__ == "__main__":
    main()
