"""How long an LSTM takes to read conversations: packed sequences against one direction at a time, forward and backward.

    python -m benchmarks.conversations

Both are in `pase_msa.models.conversation`, give the same states, and take turns on one thread. The LSTM is that of
GCNet: two layers, both directions, 100 states each, 300 numbers an utterance.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from pase_msa.models.conversation import by_direction, packed

BATCHES = {"1 of 40": [40], "3 of 28 to 30": [30, 29, 28], "16 of 9 to 13": [9 + i % 5 for i in range(16)]}
_ROUNDS = 15
Way = Callable[[nn.LSTM, Tensor, Tensor], Tensor]


def seconds(way: Way, layer: nn.LSTM, padded: Tensor, counts: Tensor) -> float:
    """Of one pass forward and backward."""
    began = time.perf_counter()
    way(layer, padded, counts).square().sum().backward()
    return time.perf_counter() - began


def main() -> None:
    """Entry point."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = nn.LSTM(300, 100, 2, batch_first=True, bidirectional=True)
    print("| conversations of utterances | packed, ms | one direction at a time, ms | |\n| --- | --- | --- | --- |")
    for name, lengths in BATCHES.items():
        counts, padded = torch.tensor(lengths), torch.randn(len(lengths), max(lengths), 300)
        times: dict[Way, list[float]] = {packed: [], by_direction: []}
        for way in times:
            seconds(way, layer, padded, counts)
        for _ in range(_ROUNDS):
            for way, taken in times.items():
                taken.append(seconds(way, layer, padded, counts))
        slow, fast = (1000 * median(times[way]) for way in (packed, by_direction))
        print(f"| {name} | {slow:.1f} | {fast:.1f} | {slow / fast:.1f} |")


if __name__ == "__main__":
    main()
