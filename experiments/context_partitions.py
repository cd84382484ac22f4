"""What context adds on random partitions by video: text, concatenation and PaSE, each with context and without.

    python -m experiments.context_partitions --data ../shared/data/mosi --seeds 3
    python -m experiments.context_partitions --data ../shared/data/mosi --seeds 1 --text models/all-mpnet-base-v2

The partitions are those of `experiments.partitions`. Context is `video`: what is said in the same video before and
after an utterance, never its labels. Differences are paired by partition. Epochs and weights are chosen on validation;
the test split is read once per run. Finished runs are kept under `runs/context-partitions`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.noharm import comparison, on_folders, run_all, table, write
from experiments.partitions import partition

WITHOUT: dict[str, dict[str, Any]] = {
    "text": {"model": {"name": "concat"}, "modalities": ["text"]},
    "concat": {"model": {"name": "concat"}},
    "PaSE": {},
}
CONTEXT: dict[str, dict[str, Any]] = {
    "text + context": {"model": {"name": "concat"}, "modalities": ["text", "context"], "context": "video"},
    "concat + context": {"model": {"name": "concat"}, "context": "video"},
    "PaSE + context": {"context": "video"},
}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=10, help="partitions")
    parser.add_argument("--text", default="minilm", help="language model, or its folder; frozen")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    folders = [str(partition(options.data, Path("build/partitions"), number)) for number in range(options.count)]
    methods = {name: {**method, "text": {"model": options.text}} for name, method in (WITHOUT | CONTEXT).items()}
    jobs = on_folders(folders, methods, options.seeds)
    name = f"{options.data.name}-{Path(options.text).name}"
    rows = run_all(jobs, Path("runs/context-partitions") / name, options.jobs)
    write(
        f"context-partitions-{name}",
        f"{options.data.name}, {options.count} random partitions by video, seeds 1 to {options.seeds} each, frozen "
        f"{Path(options.text).name}: test, mean ± deviation over partitions",
        rows,
        table(rows),
        "Paired by partition: mean [95 % interval], exact sign-flip test.",
        comparison(rows, ["PaSE + context"], ["PaSE", "text", "text + context", "concat + context"]),
        comparison(rows, ["concat + context"], ["concat"]),
        comparison(rows, ["text + context"], ["text"]),
    )


if __name__ == "__main__":
    main()
