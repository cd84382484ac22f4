"""Batches of whole videos, for models that read conversations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.data.sampling import VideoBatchSampler

videos = st.lists(st.integers(0, 6), min_size=1, max_size=40)


def dataset_of(numbers, rows=None):
    numbers = np.array(numbers)
    rows = np.arange(len(numbers)) if rows is None else np.array(rows)
    column = SequenceColumn.from_arrays([np.zeros((1, 2), np.float32)] * len(numbers), 2)
    dataset = UtteranceDataset({"audio": column}, rows, numbers, np.zeros(len(numbers)))
    dataset.whole_videos = True
    return dataset


def assert_uncut(batches):
    seen = [set(batch) for batch in batches]
    assert all(not seen[i] & seen[j] for i in range(len(seen)) for j in range(i))


@given(videos, st.integers(1, 10))
def test_evaluation_keeps_the_order_and_cuts_no_video(numbers, size):
    batches = list(evaluation_loader(dataset_of(numbers), size))
    assert torch.cat([batch.rows for batch in batches]).tolist() == list(range(len(numbers)))
    assert_uncut([batch.videos.tolist() for batch in batches])


def test_videos_that_stand_together_fill_batches_of_the_size_asked_for():
    batches = list(evaluation_loader(dataset_of(np.repeat(np.arange(10), 3)), 6))
    assert [len(batch) for batch in batches] == [6, 6, 6, 6, 6]


@given(videos, st.integers(1, 10), st.integers(0, 3))
def test_training_draws_every_utterance_once_in_whole_videos_and_in_order(numbers, size, epoch):
    sampler = VideoBatchSampler(np.array(numbers), size, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    assert sorted(i for batch in batches for i in batch) == list(range(len(numbers)))
    assert_uncut([[numbers[i] for i in batch] for batch in batches])
    for batch in batches:
        for video in {numbers[i] for i in batch}:
            own = [i for i in batch if numbers[i] == video]
            assert own == sorted(own)


def test_the_order_follows_from_seed_and_epoch():
    def order(seed, epoch):
        sampler = VideoBatchSampler(np.repeat(np.arange(20), 3), 6, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_have_equally_many_batches_and_all_videos_together(processes):
    numbers = np.repeat(np.arange(7), 4)
    parts = [list(VideoBatchSampler(numbers, 8, 0, rank=rank, world_size=processes)) for rank in range(processes)]
    assert len({len(part) for part in parts}) == 1
    assert {i for part in parts for batch in part for i in batch} == set(range(28))


def test_a_part_of_the_data_set_keeps_videos_whole_too():
    assert dataset_of(np.repeat(np.arange(7), 4)).subsample(8, seed=0).whole_videos
