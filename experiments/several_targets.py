"""Several labels in one run against each label alone, on the validation split: `python -m experiments.several_targets`.

The test split is not read. Runs that are there already are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from pathlib import Path

from pase_msa.data.opening import open_table
from pase_msa.data.table import FeatureTable
from pase_msa.files import read_json
from pase_msa.targets.names import target_folders
from pase_msa.targets.run import train_targets
from pase_msa.training.config import RunConfig
from pase_msa.training.run import train

LABELS = ("valence", "arousal", "dominance", "emotion4")


def finished(config: RunConfig, table: FeatureTable) -> Path:
    """The folder of a run, which is trained unless it is finished."""
    folder = Path(str(config.out))
    if not (folder / "results.json").is_file():
        run = train_targets if "," in str(config.label) else train
        run(config, progress=False, table=table)
    return folder


def row(label: str, seed: int, how: str, folder: Path, whole: Path) -> dict[str, str | int | float]:
    """What a target reached, and what its run cost.

    Args:
        label: the target.
        seed: of the run.
        how: "together" or "alone".
        folder: of the target.
        whole: of the run, which costs the seconds; the same where the target was trained alone.
    """
    own, cost = read_json(folder / "results.json"), read_json(whole / "results.json")
    metrics = own["validation"]
    names = ("mae", "corr") if "mae" in metrics else ("wa", "ua")
    used = {name: part["prediction_weight"] for name, part in own["modality_report"]["modalities"].items()}
    return {
        "target": label,
        "seed": seed,
        "run": how,
        **{f"metric{i + 1}": f"{name} {metrics[name]:.4f}" for i, name in enumerate(names)},
        **{f"used_{name}": round(value, 3) for name, value in used.items()},
        "best_epoch": own["best_epoch"],
        "epochs": cost["epochs"],
        "parameters": cost["parameters"],
        "seconds_per_epoch": round(cost["seconds"] / cost["epochs"], 2),
    }


def main() -> None:
    """Train, and write one row per target, seed and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="table of IEMOCAP")
    parser.add_argument("--out", default="runs/several-targets", help="folder for the runs and rows.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    table, out = open_table(arguments.data), Path(arguments.out)
    rows = []
    for seed in arguments.seeds:
        base = RunConfig(data=arguments.data, seed=seed, modalities=["text", "audio"])
        joint = dataclasses.replace(base, label=",".join(LABELS), out=str(out / f"together-{seed}"))
        together = finished(joint, table)
        for label in LABELS:
            alone = finished(dataclasses.replace(base, label=label, out=str(out / f"{label}-{seed}")), table)
            folders = target_folders(together) or {}
            rows += [row(label, seed, "together", folders[label], together), row(label, seed, "alone", alone, alone)]
        with (out / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
