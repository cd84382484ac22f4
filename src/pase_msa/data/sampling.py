"""The order of samples: a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, Dataset, DistributedSampler, Sampler


class EpochBatchSampler(BatchSampler):
    """Shuffled batches of positions, for each process its part; the order follows from (seed, epoch).

    With `sizes`, a batch holds sequences of similar length, since a language model spends most of its time on padding
    otherwise: the shuffled order is sorted within blocks of 16 batches, and the batches are shuffled again.

    Args:
        dataset: what is sampled.
        batch_size: positions per batch.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes.
        sizes: length of each position, [N]; None keeps the shuffled order.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        sizes: NDArray[np.int64] | None = None,
    ) -> None:
        # a seed's epochs must not coincide with the next seed's
        order: DistributedSampler[int] = DistributedSampler(
            dataset, world_size, rank, shuffle=True, seed=seed * 1_000_003
        )
        super().__init__(order, batch_size, drop_last=False)
        self.order = order
        self.sizes = sizes

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        if self.sizes is None:
            yield from super().__iter__()
            return
        positions = np.array(list(self.order))
        block = 16 * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(positions), block):
            part = positions[start : start + block]
            part = part[np.argsort(self.sizes[part], kind="stable")]
            batches += [part[i : i + self.batch_size].tolist() for i in range(0, len(part), self.batch_size)]
        generator = torch.Generator().manual_seed(self.order.seed + self.order.epoch)
        for i in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[i]


class VideoBatchSampler(Sampler[list[int]]):
    """Shuffled batches of whole videos, for models that read conversations; the order follows from (seed, epoch).

    Videos are shuffled and filled into batches until one holds `batch_size` utterances or more. Within a video the
    utterances stay in their order. Every process has the same number of batches, for which some are drawn twice.

    Args:
        videos: video of each position, [N].
        batch_size: utterances after which a batch is full.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self, videos: NDArray[np.int64], batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        order = np.argsort(videos, kind="stable")
        self.members = np.split(order, np.flatnonzero(np.diff(videos[order])) + 1)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches()
        batches += batches[: -len(batches) % self.world_size]
        yield from batches[self.rank :: self.world_size]

    def __len__(self) -> int:
        return -(-len(self._batches()) // self.world_size)

    def _batches(self) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batches: list[list[int]] = [[]]
        for video in torch.randperm(len(self.members), generator=generator).tolist():
            if len(batches[-1]) >= self.batch_size:
                batches.append([])
            batches[-1] += self.members[video].tolist()
        return batches
