"""Training on a sharded table that fits no disk: the training split is read row group by row group as it is needed.

`open_part` copies what has to be at hand: the validation split, and a sample of the training split that scalers,
prior, diagnosis and the report read. `UtteranceStream` gives batches of the whole training split in an order that
follows from seed and epoch: the shards in a random order, through a shuffle buffer of Hugging Face `datasets`.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow.parquet as pq
import torch
from datasets.distributed import split_dataset_by_node
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

from pase_msa.batch import Batch
from pase_msa.data.columns import SequenceColumn
from pase_msa.data.guard import reading
from pase_msa.data.inputs import InputSpec, encode_values
from pase_msa.data.shards import Shards, find_shards, row_groups
from pase_msa.data.table import ARROW, FeatureTable
from pase_msa.data.transcripts import token_column
from pase_msa.errors import PaSEError
from pase_msa.files import cache_folder
from pase_msa.task import Task


@dataclass(frozen=True)
class Streamed:
    """What a part of a table knows about the whole.

    Attributes:
        shards: of the whole table.
        fingerprint: of the whole table.
        counts: utterances of the whole table by split.
        labelled: training utterances of the whole table with a known value, by label.
        videos: of the whole table.
    """

    shards: Shards
    fingerprint: str
    counts: dict[str, int]
    labelled: dict[str, int]
    videos: int


def open_part(path: str | Path, splits: Collection[str], sample: int = 0) -> FeatureTable:
    """The rows of some splits and a sample of the training split, from a sharded table, memory-mapped.

    The sample is made of whole row groups in a random order that is always the same, and of the rows that hold the
    smallest and the largest value, or the first utterance of a class, of each label. They are copied into the cache
    once for each content.

    Args:
        path: folder or address of shards.
        splits: whose rows are all taken.
        sample: training utterances, about.

    Returns:
        A table with the attribute `streamed`.

    Errors:
        PaSEError: there is no sharded table, it is damaged, or a video is in two splits.
    """
    shards = find_shards(path)
    if shards.fingerprint is None:
        raise PaSEError(f"The shards in {path} are of an earlier version and cannot be streamed; write them again.")
    with reading(path, "a sharded feature table", "write its shards again"):
        index = _Index(shards)
        streamed = Streamed(shards, shards.fingerprint, dict(index.counts), dict(index.labelled), len(index.split_of))
        name = f"{shards.mark}-{'-'.join(sorted(splits))}-{sample}"
        target = cache_folder("tables") / hashlib.sha256(name.encode()).hexdigest()[:32]
        if (target / ARROW).is_file():
            table = FeatureTable.load(target)
        else:
            chosen = index.choose(splits, sample)
            parts = (batch.take(chosen[place]) for place, batch in row_groups(shards, places=set(chosen)))
            table = FeatureTable.write(parts, shards.schema, target, shards.meta)
    table.streamed = streamed
    return table


class _Index:
    """Splits and labels of all rows, by row group; features are not read.

    Attributes:
        counts: rows by split.
        labelled: training rows with a known value, by label.
        split_of: split of each video.
    """

    def __init__(self, shards: Shards) -> None:
        self.counts: Counter[str] = Counter()
        self.labelled: Counter[str] = Counter()
        self.split_of: dict[str, str] = {}
        self.splits: dict[tuple[int, int], NDArray[Any]] = {}
        self._extremes: dict[Any, tuple[float, tuple[int, int], int]] = {}
        labels = [f"labels.{name}" for name in shards.schema.labels]
        for place, batch in row_groups(shards, columns=["video", "split", *labels]):
            splits = [split or "" for split in batch.column("split").to_pylist()]
            self.splits[place] = np.array(splits, dtype=str)
            self.counts.update(splits)
            for video, split in dict.fromkeys(zip(batch.column("video").to_pylist(), splits, strict=True)):
                if split and self.split_of.setdefault(video, split) != split:
                    raise PaSEError(
                        f"Video {video!r} is in both the {self.split_of[video]} and the {split} split, so results "
                        "would be too good; put all its utterances in one split."
                    )
            for name in shards.schema.labels:
                self._note(name, place, batch.column(f"labels.{name}").to_pylist(), splits)

    def _note(self, label: str, place: tuple[int, int], values: Sequence[Any], splits: Sequence[str]) -> None:
        """Keep where the extremes and the classes of the training split are."""
        for row, (value, split) in enumerate(zip(values, splits, strict=True)):
            if split != "train" or not _is_known(value):
                continue
            self.labelled[label] += 1
            if isinstance(value, str):
                self._extremes.setdefault((label, value), (0.0, place, row))
                continue
            for sign in (-1, 1):
                best = self._extremes.get((label, sign))
                if best is None or sign * value > best[0]:
                    self._extremes[label, sign] = (sign * value, place, row)

    def choose(self, splits: Collection[str], sample: int) -> dict[tuple[int, int], NDArray[np.int64]]:
        """Rows to take from each row group, ascending."""
        taken = {place: np.isin(values, list(splits)) for place, values in self.splits.items()}
        missing, places = sample, list(self.splits)
        for number in np.random.default_rng(0).permutation(len(places)):
            training = self.splits[places[number]] == "train"
            if missing <= 0:
                break
            taken[places[number]] |= training
            missing -= int(training.sum())
        for _, place, row in self._extremes.values() if sample else ():
            taken[place][row] = True
        return {place: np.flatnonzero(flags) for place, flags in taken.items() if flags.any()}


class UtteranceStream(IterableDataset[Batch]):
    """Batches of the training split of a sharded table, in an order that follows from seed and epoch.

    Every process gives the same number of batches. Where utterances do not divide evenly some are read twice.

    Args:
        streamed: the table.
        task: whose label is read; utterances without one, or without any modality, are left out.
        inputs: of the model, in the task's order. Transcripts become token ids; states of a frozen language model would
            have to be computed on the way.
        batch_size: utterances per batch.
        buffer: utterances among which the next one is drawn.
        seed: of the order.
    """

    def __init__(
        self,
        streamed: Streamed,
        task: Task,
        inputs: Mapping[str, InputSpec],
        *,
        batch_size: int,
        buffer: int,
        seed: int,
    ) -> None:
        if frozen := [name for name, spec in inputs.items() if spec.text is not None and spec.dim]:
            raise PaSEError(
                f"{frozen[0]} is transcripts, whose states a frozen language model would compute again in each epoch; "
                "write features of the text into the table, leave it out of --modalities, or say --text.frozen false."
            )
        self.streamed, self.task, self.inputs = streamed, task, dict(inputs)
        self.batch_size, self.buffer, self.seed = batch_size, buffer, seed
        self.epoch, self.rank, self.world_size = 0, 0, 1
        self.labelled = streamed.labelled.get(task.label, 0)

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.labelled / self.world_size) / self.batch_size)

    def loader(self, epoch: int, *, rank: int = 0, world_size: int = 1, workers: int = 0) -> DataLoader[Batch]:
        """The batches of an epoch for one of several processes.

        One worker loads them at most. Its order is another than without it, and follows from seed and epoch as well.
        """
        self.epoch, self.rank, self.world_size = epoch, rank, world_size
        return DataLoader(self, batch_size=None, num_workers=min(workers, 1))

    def __iter__(self) -> Iterator[Batch]:
        names = [shard["file"] for shard in self.streamed.shards.files]
        columns = ["video", "split", f"labels.{self.task.label}"]
        columns += ["text" if spec.text is not None else f"features.{name}" for name, spec in self.inputs.items()]
        columns += ["speaker"] if self.streamed.shards.schema.speakers else []
        rows = datasets.IterableDataset.from_generator(
            _examples,
            gen_kwargs={"files": names, "address": self.streamed.shards.address, "columns": tuple(columns)},
        )
        # a seed's epochs must not coincide with the next seed's
        rows = rows.shuffle(seed=self.seed * 1_000_003 + self.epoch, buffer_size=self.buffer)
        rows = split_dataset_by_node(rows, self.rank, self.world_size)
        share = math.ceil(self.labelled / self.world_size)
        # a process whose shards have fewer rows than its share begins again
        endless = itertools.chain.from_iterable(self._usable(rows) for _ in itertools.count())
        mine = itertools.islice(endless, share)
        while examples := list(itertools.islice(mine, self.batch_size)):
            yield self._batch(examples)

    def _usable(self, rows: datasets.IterableDataset) -> Iterator[dict[str, Any]]:
        """One pass over the examples with a label and a modality."""
        found = False
        label = f"labels.{self.task.label}"
        keys = ["text" if spec.text is not None else f"features.{name}" for name, spec in self.inputs.items()]
        for example in rows:
            if _is_known(example[label]) and any(example[key] is not None and len(example[key]) for key in keys):
                found = True
                yield example
        if not found:
            raise PaSEError(
                f"No streamed training utterance has both a label {self.task.label!r} and a modality; check the data, "
                "or write as many shards as there are processes, or more."
            )

    def _batch(self, examples: Sequence[Mapping[str, Any]]) -> Batch:
        """Examples as a batch, like those of `UtteranceDataset`."""
        features, lengths, present = {}, {}, {}
        for name, spec in self.inputs.items():
            if spec.text is not None:
                column = token_column([example["text"] for example in examples], spec.text)
            else:
                arrays = [example[f"features.{name}"] for example in examples]
                column = SequenceColumn.from_arrays(
                    [None if array is None else np.reshape(array, (-1, spec.dim)) for array in arrays], spec.dim
                )
            padded, steps, flags = column.padded(np.arange(len(examples)))
            features[name] = torch.from_numpy(padded)
            lengths[name], present[name] = torch.from_numpy(steps), torch.from_numpy(flags)
        values = [example[f"labels.{self.task.label}"] for example in examples]
        numbers = encode_values(values, self.task, [str(example["id"]) for example in examples])
        videos = torch.tensor([_number(str(example["video"])) for example in examples])
        speakers = None
        if self.streamed.shards.schema.speakers:
            names = [example["speaker"] for example in examples]
            speakers = torch.tensor([-1 if not name else _number(str(name)) for name in names])
        return Batch(features, lengths, present, torch.from_numpy(numbers).float(), None, videos, speakers)


def _number(name: str) -> int:
    """The number of a video or a speaker, the same in every batch and process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")


def _examples(files: list[str], address: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Training rows of some files. Features are copied, so that no row keeps its row group alive in the buffer."""
    system, folder = fsspec.core.url_to_fs(address)
    for name in files:
        with system.open(f"{folder}/{name}", "rb") as stream:
            file = pq.ParquetFile(stream)
            for number in range(file.num_row_groups):
                group = file.read_row_group(number, columns=["id", *columns]).combine_chunks()
                plain = {key: group.column(key).to_pylist() for key in group.column_names if not _is_feature(key)}
                lists = {key: group.column(key).chunk(0) for key in group.column_names if _is_feature(key)}
                flat = {key: (np.asarray(c.values), c.offsets.to_numpy(), c.is_valid()) for key, c in lists.items()}
                for row in range(len(group)):
                    if plain["split"][row] != "train":
                        continue
                    example = {key: values[row] for key, values in plain.items()}
                    for key, (values, offsets, valid) in flat.items():
                        there = valid[row].as_py()
                        example[key] = values[offsets[row] : offsets[row + 1]].copy() if there else None
                    yield example


def _is_known(label: Any) -> bool:
    """Whether a label is a class or a finite score, as in `FeatureTable.labels`."""
    return label is not None and (isinstance(label, str) or math.isfinite(label))


def _is_feature(column: str) -> bool:
    return column.startswith("features.")
