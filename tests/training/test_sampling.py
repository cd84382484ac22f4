"""The order of samples is a function of seed and epoch alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.data.sampling import EpochBatchSampler

steady = settings(derandomize=True, deadline=None, max_examples=40)


def order(n=50, batch=8, seed=1, epoch=0, **options):
    sampler = EpochBatchSampler(range(n), batch, seed, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def sizes_of(n):
    return np.random.default_rng(0).integers(1, 40, size=n)


each_grouping = pytest.mark.parametrize("sizes", [None, sizes_of(50)], ids=["shuffled", "by length"])


@each_grouping
def test_the_order_is_a_function_of_seed_and_epoch(sizes):
    torch.manual_seed(1)
    first = order(seed=3, epoch=4, sizes=sizes)
    torch.manual_seed(2)
    np.random.default_rng(5).random()
    assert order(seed=3, epoch=4, sizes=sizes) == first


@each_grouping
def test_the_global_random_state_is_preserved(sizes):
    before = torch.get_rng_state()
    order(sizes=sizes)
    assert torch.equal(torch.get_rng_state(), before)


@each_grouping
def test_seeds_differ(sizes):
    assert order(seed=1, sizes=sizes) != order(seed=2, sizes=sizes)


@each_grouping
def test_epochs_differ(sizes):
    assert order(epoch=0, sizes=sizes) != order(epoch=1, sizes=sizes)


def test_the_epochs_of_a_seed_differ_from_those_of_the_next_seed():
    first = {str(order(seed=1, epoch=epoch)) for epoch in range(8)}
    second = {str(order(seed=2, epoch=epoch)) for epoch in range(8)}
    assert not first & second


@steady
@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 5), st.booleans())
def test_an_epoch_has_every_position_once(n, batch, epoch, grouped):
    batches = order(n, batch, epoch=epoch, sizes=sizes_of(n) if grouped else None)
    assert sorted(position for part in batches for position in part) == list(range(n))
    assert len(batches) == -(-n // batch)
    assert all(0 < len(part) <= batch for part in batches)


def test_the_length_is_the_number_of_batches():
    assert len(EpochBatchSampler(range(50), 8, 1)) == 7


def test_grouping_puts_similar_lengths_together():
    sizes = sizes_of(400)

    def padding(batches):
        return sum(len(part) * sizes[part].max() - sizes[part].sum() for part in batches)

    assert padding(order(400, sizes=sizes)) < 0.5 * padding(order(400))


def test_processes_share_an_epoch():
    shares = [order(40, 4, epoch=2, rank=rank, world_size=2) for rank in range(2)]
    positions = [sorted(position for part in share for position in part) for share in shares]
    assert sorted(positions[0] + positions[1]) == list(range(40))
