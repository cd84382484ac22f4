"""Rows of a feature table as batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pase_msa.batch import Batch
from pase_msa.data.columns import SequenceColumn
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError


class UtteranceDataset(Dataset[Batch]):
    """Rows of a table as a data set of PyTorch: a list of positions as index gives one `Batch`.

    Args:
        columns: of the whole table, by modality.
        rows: number in the table of each position, [N].
        videos: video number of every row of the table.
        labels: score or class number of every row of the table, NaN where unknown; None for a prediction.
        speakers: number of who speaks in every row of the table, -1 where unknown; None where the table names nobody.

    Attributes:
        whole_videos: whether a batch never holds a part of a video, for models that read conversations
            (`Model.conversations`). The utterances of a video are then in the order of the table.
    """

    whole_videos: bool = False

    def __init__(
        self,
        columns: Mapping[str, SequenceColumn],
        rows: NDArray[np.int64],
        videos: NDArray[np.int64],
        labels: NDArray[np.float64] | None,
        speakers: NDArray[np.int64] | None = None,
    ) -> None:
        self.columns = dict(columns)
        self.rows = rows
        self.videos = videos
        self.labels = labels
        self.speakers = speakers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        rows = self.rows[np.asarray(positions, dtype=np.int64)]
        features, lengths, present = {}, {}, {}
        for name, column in self.columns.items():
            padded, steps, flags = column.padded(rows)
            features[name] = torch.from_numpy(padded)
            lengths[name], present[name] = torch.from_numpy(steps), torch.from_numpy(flags)
        labels = None if self.labels is None else torch.from_numpy(self.labels[rows]).float()
        videos = torch.from_numpy(self.videos[rows])
        speakers = None if self.speakers is None else torch.from_numpy(self.speakers[rows])
        return Batch(features, lengths, present, labels, torch.from_numpy(rows), videos, speakers)

    def targets(self) -> Float[Tensor, " n"]:
        """Scores or class numbers of the positions, [N], in the dataset's order."""
        if self.labels is None:
            raise PaSEError("This dataset was made without labels; make it with labels=True.")
        return torch.from_numpy(self.labels[self.rows]).float()

    def subsample(self, limit: int, seed: int) -> UtteranceDataset:
        """At most `limit` utterances: all of them, or those of randomly chosen whole videos (one video at least)."""
        if len(self) <= limit:
            return self
        member = np.unique(self.videos[self.rows], return_inverse=True)[1]
        order = np.random.default_rng(seed).permutation(int(member.max()) + 1)
        chosen = order[np.cumsum(np.bincount(member)[order]) <= limit]
        return self.over(self.rows[np.isin(member, chosen if len(chosen) else order[:1])])

    def over(
        self, rows: NDArray[np.int64] | None = None, columns: Mapping[str, SequenceColumn] | None = None
    ) -> UtteranceDataset:
        """The same data over other rows of the table, or with other columns."""
        part = copy.copy(self)
        part.rows = self.rows if rows is None else rows
        part.columns = self.columns if columns is None else dict(columns)
        return part

    def sizes(self) -> NDArray[np.int64]:
        """Steps of each position's longest modality, [N]; a batch is padded to its largest."""
        longest: NDArray[np.int64] = np.max([column.lengths[self.rows] for column in self.columns.values()], axis=0)
        return longest


def make_dataset(
    table: FeatureTable,
    columns: Mapping[str, SequenceColumn],
    rows: NDArray[np.int64],
    labels: NDArray[np.float64] | None,
) -> UtteranceDataset:
    """A data set over some rows; with labels, rows of unknown label and rows without any modality are left out.

    Args:
        table: the data.
        columns: of the table, as `load_columns` gives them.
        rows: those to use, in order.
        labels: of every row of the table, as `encode_labels` gives them; None for a prediction.
    """
    if labels is not None:
        rows = rows[np.isfinite(labels[rows])]
        rows = rows[np.any([column.present[rows] for column in columns.values()], axis=0)]
    videos = np.unique(np.array(table.videos, dtype=str), return_inverse=True)[1].astype(np.int64)
    speakers = None if table.speakers is None else name_numbers(table.speakers)
    return UtteranceDataset(columns, rows, videos, labels, speakers)


def name_numbers(names: Sequence[str | None]) -> NDArray[np.int64]:
    """A number per name, from 0; -1 where there is none."""
    known, numbers = np.unique(np.array([name or "" for name in names], dtype=str), return_inverse=True)
    return np.where(known[numbers] == "", -1, numbers).astype(np.int64)


def evaluation_loader(dataset: UtteranceDataset, batch_size: int, workers: int = 0) -> DataLoader[Batch]:
    """Batches in the data set's order, without shuffling; larger than `batch_size` where a video must stay whole."""
    if dataset.whole_videos:
        ends = _uncut_ends(dataset.videos[dataset.rows], batch_size)
    else:
        ends = [*range(batch_size, len(dataset), batch_size), len(dataset)]
    batches = [list(range(start, end)) for start, end in zip([0, *ends], ends, strict=False) if end > start]
    # a generator of its own: a prediction must not move the program's random state
    own = torch.Generator()
    return DataLoader(dataset, sampler=batches, batch_size=None, num_workers=workers, generator=own)


def _uncut_ends(videos: NDArray[np.int64], batch_size: int) -> list[int]:
    """Where batches end that cut no video, in the order given; a video is in one batch even if it is scattered."""
    last = {video: position for position, video in enumerate(videos.tolist())}
    ends, start, reach = [], 0, 0
    for position, video in enumerate(videos.tolist()):
        if position > reach and position - start >= batch_size:
            ends.append(position)
            start = position
        reach = max(reach, last[video])
    return [*ends, len(videos)]
