"""What the sequence encoder learns from frames: a task of order alone, and the validation of data at hand.

    python -m experiments.frames order [--stride N] [--seeds 0 1 2]
    python -m experiments.frames validation --data FOLDER ... [--model concat] [--seeds 0 1 2]

Order: 300 frames of noise hold pairs of neighbouring frames that rise in one class, low then high, and fall in the
other. All that does not depend on order is alike in both classes; half of the answers are right by chance. With
`--stride 1` nothing is reduced. Validation: the metric of the best epoch, by seed. Nothing reads a test split.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

from pase_msa.data.arrays import read_samples, table_from_samples
from pase_msa.data.opening import open_data
from pase_msa.data.table import FeatureTable
from pase_msa.training.callbacks import History
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit, run_threads
from pase_msa.training.run import prepare

FRAMES, PAIRS = 300, 24


def order_task(training: int = 800, validation: int = 400, seed: int = 0) -> FeatureTable:
    """The task of order alone, as a table of one modality of three dimensions."""
    rng = np.random.default_rng(seed)
    sequences, classes = [], rng.integers(0, 2, training + validation)
    for rising in classes:
        frames = rng.normal(0, 0.5, (int(rng.integers(FRAMES // 2, FRAMES + 1)), 3)).astype(np.float32)
        first = rng.choice(len(frames) // 2, PAIRS, replace=False) * 2
        frames[first, 0], frames[first + 1, 0] = (-2, 2) if rising else (2, -2)
        sequences.append(frames)
    splits = ["train"] * training + ["valid"] * validation
    names = np.where(classes == 1, "rising", "falling").tolist()
    return table_from_samples(read_samples({"audio": sequences}), kind="class", labels=names, splits=splits)


def best_epoch(table: FeatureTable, config: RunConfig) -> dict[str, float]:
    """The validation metrics of the best epoch of a run."""
    history = History()
    prepared = prepare(config, table)
    with run_threads(config, prepared.model):
        fit(config, prepared, None, progress=False, extra=[history])
    key, sign = ("val/mae", 1) if prepared.task.kind == "regression" else ("val/f1_weighted", -1)
    return min(history.rows, key=lambda row: sign * row[key])


def report(name: str, rows: list[dict[str, float]]) -> None:
    """Mean and deviation of every validation metric over seeds."""
    shown = [key for key in ("val/mae", "val/corr", "val/f1_weighted", "val/wa", "val/nll") if key in rows[0]]
    parts = []
    for key in shown:
        values = [row[key] for row in rows]
        parts.append(f"{key.removeprefix('val/')} {statistics.mean(values):.4f} ± {statistics.pstdev(values):.4f}")
    print(f"{name}: {', '.join(parts)}", flush=True)


def main() -> None:
    """Print a line per data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("order", "validation"))
    parser.add_argument("--stride", type=int)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--model", default="concat")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    encoders = {"default": {"stride": options.stride}} if options.stride else {}
    training = TrainingConfig(epochs=options.epochs, patience=options.epochs, threads=1)
    tables = {"order": order_task()} if options.what == "order" else {d: open_data(d) for d in options.data}
    for name, table in tables.items():
        runs = [
            RunConfig(training=training, model={"name": options.model}, encoders=encoders, seed=seed)
            for seed in options.seeds
        ]
        report(name, [best_epoch(table, run) for run in runs])


if __name__ == "__main__":
    main()
