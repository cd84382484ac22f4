"""What each modality is worth in finished runs: Shapley values of the test accuracy over what is given, and verdicts.

    python -m experiments.worth runs/reproduce/iemocap --model pase

reads every `evaluation.json` of one model below a folder, such as the five folds of a table. The accuracy of the empty
set is that of the most frequent class of the test split. Nothing is trained and no split is read again.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pase_msa.paper.equity import contributions


def worth(evaluation: dict[str, Any]) -> dict[str, float]:
    """Points of accuracy that each modality adds, averaged over the orders in which they could come."""
    support = [entry["support"] for entry in evaluation["metrics"]["per_class"].values()]
    table = {frozenset(name.split("+")): 100 * scores["accuracy"] for name, scores in evaluation["subsets"].items()}
    return contributions(table, 100 * max(support) / sum(support), list(evaluation["task"]["modalities"]))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="pase")
    options = parser.parse_args()
    found = [json.loads(path.read_text()) for path in sorted(options.folder.rglob("evaluation.json"))]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for evaluation in found:
        if evaluation["model"] == options.model and len(evaluation["task"]["modalities"]) > 1:
            balancing = (evaluation.get("modality_report") or {}).get("mode", "none")
            groups.setdefault((balancing, *evaluation["task"]["modalities"]), []).append(evaluation)
    if not groups:
        parser.error(f"{options.folder} holds no finished run of {options.model!r} with two modalities or more.")
    for (balancing, *names), evaluations in groups.items():
        print(f"\n{options.model}, {balancing}, {len(evaluations)} runs: {', '.join(names)}\n")
        values = [worth(evaluation) for evaluation in evaluations]
        print("| modality | points of accuracy | verdicts |\n| --- | --- | --- |")
        for name in names:
            points = [value[name] for value in values]
            spread = f" ± {stdev(points):.1f}" if len(points) > 1 else ""
            reports = [(evaluation.get("modality_report") or {}).get("modalities", {}) for evaluation in evaluations]
            verdicts = Counter(report[name]["verdict"] for report in reports if name in report)
            print(f"| {name} | {mean(points):+.1f}{spread} | {', '.join(f'{v} {n}' for v, n in verdicts.items())} |")


if __name__ == "__main__":
    main()
