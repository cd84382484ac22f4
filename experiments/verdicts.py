"""How often the diagnosis is right on random mixes of modalities of known kind, 2,000 utterances per draw.

    python -m experiments.verdicts --draws 100 --jobs 2

Each draw has k modalities: the first one is truthful, the others are of a kind drawn at random. The right verdict on a
truthful modality is "useful", and on one without information on new videos "uninformative", "memorised", "identity" or
"deceptive". "undecided" is counted apart. The table of kinds against verdicts goes to
`experiments/results/verdicts-K.md`, every verdict to the CSV file beside it.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec

KINDS: dict[str, dict[str, float]] = {
    "truthful": {"noise": 1.0},
    "weak": {"noise": 2.5},
    "noise": {"strength": 0.0},
    "deceptive 0.1": {"strength": 0.0, "noise": 0.5, "deception": 0.1},
    "deceptive 0.3": {"strength": 0.0, "noise": 0.5, "deception": 0.3},
    "deceptive 1.0": {"strength": 0.0, "noise": 0.5, "deception": 1.0},
    "identity": {"strength": 0.0, "identity": 3.0},
}
RIGHT = {"truthful": {"useful"}, "weak": {"useful"}}
SILENT = {"uninformative", "memorised", "identity", "deceptive"}
VERDICTS = ("useful", "uninformative", "memorised", "identity", "deceptive", "undecided")


def draw(count: int, number: int) -> tuple[list[tuple[str, str]], float]:
    """Kind and verdict of each modality of a draw, and the seconds that the diagnosis took."""
    import torch

    from pase_msa import diagnose

    torch.set_num_threads(1)
    random = np.random.default_rng([count, number])
    kinds = ["truthful", *random.choice(list(KINDS), size=count - 1).tolist()]
    modalities = {f"m{i}": ModalitySpec(dim=16, **KINDS[kind]) for i, kind in enumerate(kinds)}  # type: ignore[arg-type]
    # who speaks tells something about the label only where the labels of a video resemble each other
    clumping = 0.5 if "identity" in kinds else 0.0
    spec = SyntheticSpec(modalities, train=1400, valid=400, test=200, clumping=clumping, seed=100 * count + number)
    table = synthetic_table(spec)
    began = time.perf_counter()
    diagnosis = diagnose(table)
    seconds = time.perf_counter() - began
    return [(kind, diagnosis.modalities[f"m{i}"].verdict) for i, kind in enumerate(kinds)], seconds


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--modalities", type=int, nargs="*", default=[2, 3, 5, 8])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    summary = [
        "| modalities | draws all right or undecided | verdicts right | undecided | wrong | seconds, mean (worst) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows: list[dict[str, Any]] = []
    for count in options.modalities:
        drawn = Parallel(n_jobs=options.jobs)(delayed(draw)(count, number) for number in range(options.draws))
        seconds = [taken for _, taken in drawn]
        whole = Counter[str]()
        fine = 0
        for number, (verdicts, _) in enumerate(drawn):
            grades = [grade(kind, verdict) for kind, verdict in verdicts]
            whole.update(grades)
            fine += "wrong" not in grades
            rows += [{"modalities": count, "draw": number, "kind": k, "verdict": v} for k, v in verdicts]
        total = sum(whole.values())
        shares = " | ".join(f"{100 * whole[name] / total:.1f} %" for name in ("right", "undecided", "wrong"))
        summary.append(f"| {count} | {fine} of {len(drawn)} | {shares} | {np.mean(seconds):.1f} ({max(seconds):.1f}) |")
        print(summary[-1], flush=True)
    table = [f"| kind | {' | '.join(VERDICTS)} |", "| --- |" + " --- |" * len(VERDICTS)]
    for kind in KINDS:
        counts = Counter(row["verdict"] for row in rows if row["kind"] == kind)
        table.append(f"| {kind} | {' | '.join(str(counts[name]) for name in VERDICTS)} |")
    target = Path("experiments/results") / f"verdicts-{'-'.join(map(str, options.modalities))}"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["# Verdicts on modalities of known kind", "", *summary, "", *table, ""])
    target.with_suffix(".md").write_text(text)
    with target.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(text)


def grade(kind: str, verdict: str) -> str:
    """The grade of a verdict on a modality of known kind: "right", "undecided" or "wrong"."""
    if verdict == "undecided":
        return "undecided"
    return "right" if verdict in RIGHT.get(kind, SILENT) else "wrong"


if __name__ == "__main__":
    main()
