"""Loaders of the training and the validation split. No training code can reach the test split, which is not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
from torch.utils.data import DataLoader

from pase_msa.batch import Batch
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.data.sampling import EpochBatchSampler, VideoBatchSampler
from pase_msa.training.processes import share

if TYPE_CHECKING:
    from pase_msa.data.streaming import UtteranceStream


_SORTED = 256  # utterances of a validation batch of texts


class SentimentData(lightning.LightningDataModule):
    """Loaders over a training and a validation dataset.

    Args:
        train: training utterances.
        valid: validation utterances.
        batch_size: utterances per batch.
        seed: of the order, which is a function of this and the epoch.
        group_by_length: whether a batch holds utterances of similar length.
        workers: processes that load batches; 0 loads them in this one.
        stream: gives the training batches in place of `train`, which is a sample then.
    """

    def __init__(
        self,
        train: UtteranceDataset,
        valid: UtteranceDataset,
        *,
        batch_size: int,
        seed: int,
        group_by_length: bool = False,
        workers: int = 0,
        stream: UtteranceStream | None = None,
    ) -> None:
        super().__init__()
        self.train, self.valid = train, valid
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self.group_by_length = group_by_length
        self.stream = stream
        self.epoch = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """The training utterances in an order that is a function of (seed, epoch)."""
        if self.stream is not None:
            epoch = max(self.epoch, self.trainer.current_epoch) if self.trainer else 0
            rank, world_size = self._place()
            return self.stream.loader(epoch, rank=rank, world_size=world_size, workers=self.workers)
        sampler = self._sampler()
        # workers load batches before Lightning tells the sampler which epoch a resumed run is in
        sampler.set_epoch(self.epoch)
        return DataLoader(
            self.train,
            sampler=sampler,
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=False,
        )

    def _sampler(self) -> EpochBatchSampler | VideoBatchSampler:
        train, (rank, world_size) = self.train, self._place()
        if train.whole_videos:
            videos = train.videos[train.rows]
            return VideoBatchSampler(videos, self.batch_size, self.seed, rank=rank, world_size=world_size)
        sizes = train.sizes() if self.group_by_length else None
        return EpochBatchSampler(train, self.batch_size, self.seed, rank=rank, world_size=world_size, sizes=sizes)

    def _place(self) -> tuple[int, int]:
        """Number of this process, and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def state_dict(self) -> dict[str, Any]:
        """The state of the checkpoint: the epoch that comes next."""
        assert self.trainer is not None
        # at the checkpoint, Lightning has not counted the epoch that ends as complete yet
        return {"epoch": self.trainer.current_epoch + 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of a checkpoint; Lightning calls this before it makes the loaders."""
        self.epoch = int(state_dict["epoch"])

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation utterances in the order of the table; of several processes, each has its share."""
        valid, trainer = self.valid, self.trainer
        if trainer is not None and trainer.world_size > 1:
            valid = valid.over(valid.rows[share(len(valid), trainer.global_rank, trainer.world_size)])
        # a language model sorts a large batch by length, see `LanguageModelEncoder.states`
        batch_size = max(self.batch_size, _SORTED) if self.group_by_length else self.batch_size
        return evaluation_loader(valid, batch_size, self.workers)
