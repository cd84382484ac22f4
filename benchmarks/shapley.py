"""Shapley values given cached coalition utilities: `python -m benchmarks.shapley [--json]`."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable

import torch

from pase_msa.shapley import coalitions, shapley_from_coalitions, shapley_values


def measure(players: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of one game (one utility function), and of a thousand at once by the linear map."""
    names = [f"modality {i}" for i in range(players)]
    generator = random.Random(0)
    cached = {coalition: generator.random() for coalition in coalitions(names)}
    batch = torch.rand(2**players, 1000, generator=torch.Generator().manual_seed(0))

    def median(run: Callable[[], object]) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)

    return {
        "one game": median(lambda: shapley_values(cached.__getitem__, names)),
        "1000 games": median(lambda: shapley_from_coalitions(batch, players)),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--players", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = {players: measure(players, options.repeats) for players in options.players}
    if options.json:
        print(json.dumps(table))
        return
    for players, row in table.items():
        for name, value in row.items():
            print(f"{players:3} players, {name:12}{value:10.3f} ms")


if __name__ == "__main__":
    main()
