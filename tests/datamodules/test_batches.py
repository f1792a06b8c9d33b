"""The order of examples: every example once, fair shares, and nothing but seed and epoch decides."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.datamodules import Batches

SIZES = st.integers(1, 60)
BATCH_SIZES = st.integers(1, 70)
WORLDS = st.integers(1, 5)
EPOCHS = st.integers(0, 1000)


def shards(size: int, batch_size: int, world: int, *, train: bool, epoch: int = 0, seed: int = 0) -> list[list[int]]:
    """Return the example indices that each device sees in an epoch."""
    seen = []
    for rank in range(world):
        batches = Batches(size, batch_size, train=train, seed=seed, rank=rank, world_size=world)
        batches.set_epoch(epoch)
        seen.append([key % size for key in chain.from_iterable(batches)])
    return seen


@settings(deadline=None)
@given(SIZES, BATCH_SIZES, WORLDS, EPOCHS)
def test_evaluation_sees_every_example_once_and_in_order(size: int, batch_size: int, world: int, epoch: int) -> None:
    size = max(size, world)
    seen = shards(size, batch_size, world, train=False, epoch=epoch)
    assert sorted(chain.from_iterable(seen)) == list(range(size))
    assert all(shard == sorted(shard) for shard in seen)
    assert max(map(len, seen)) - min(map(len, seen)) <= 1


@settings(deadline=None)
@given(SIZES, BATCH_SIZES, WORLDS, EPOCHS)
def test_training_shards_are_disjoint_and_equally_long(size: int, batch_size: int, world: int, epoch: int) -> None:
    seen = shards(max(size, world), batch_size, world, train=True, epoch=epoch)
    everything = list(chain.from_iterable(seen))
    assert len(everything) == len(set(everything)), "an example comes twice"
    assert len({len(shard) for shard in seen}) == 1
    share = max(size, world) // world
    assert len(seen[0]) == (share // batch_size * batch_size or share), "full batches, or all if there is not one"


@settings(deadline=None)
@given(SIZES, BATCH_SIZES, WORLDS, st.booleans())
def test_len_is_the_number_of_batches_the_same_for_all_devices(
    size: int, batch_size: int, world: int, train: bool
) -> None:
    size = max(size, world)
    counts = set()
    for rank in range(world):
        batches = Batches(size, batch_size, train=train, rank=rank, world_size=world)
        sizes = [len(batch) for batch in batches]
        counts.add(len(sizes))
        assert len(sizes) == len(batches)
        assert min(sizes) > 0
        if train:
            assert set(sizes) == {min(batch_size, size // world)}
        else:
            assert max(sizes) - min(sizes) <= 1
            assert max(sizes) <= batch_size + (size % world > 0), "one more where shards differ by one example"
    assert len(counts) == 1, "distributed processes wait for one another at each batch"


@settings(deadline=None)
@given(SIZES, BATCH_SIZES, EPOCHS, st.booleans())
def test_keys_carry_the_epoch(size: int, batch_size: int, epoch: int, train: bool) -> None:
    batches = Batches(size, batch_size, train=train)
    batches.set_epoch(epoch)
    assert {key // size for key in chain.from_iterable(batches)} == {epoch}


@settings(deadline=None)
@given(st.integers(20, 60), st.integers(1, 20), EPOCHS, st.integers(0, 2**32))
def test_each_epoch_and_each_seed_has_an_order_of_its_own(size: int, batch_size: int, epoch: int, seed: int) -> None:
    order = shards(size, batch_size, 1, train=True, epoch=epoch, seed=seed)
    assert order == shards(size, batch_size, 1, train=True, epoch=epoch, seed=seed)
    assert order != shards(size, batch_size, 1, train=True, epoch=epoch + 1, seed=seed)
    assert order != shards(size, batch_size, 1, train=True, epoch=epoch, seed=seed + 1)


def test_an_epoch_read_twice_is_the_same_and_none_goes_on_by_itself() -> None:
    batches = Batches(50, 8, train=True)
    assert list(batches) == list(batches)


def test_over_many_epochs_no_example_is_left_behind_by_the_full_batches() -> None:
    batches, seen = Batches(10, 4, train=True), set()
    for epoch in range(20):
        batches.set_epoch(epoch)
        seen |= {key % 10 for key in chain.from_iterable(batches)}
    assert seen == set(range(10))


@pytest.mark.parametrize(("rank", "world"), [(1, 1), (-1, 2), (5, 2)])
def test_a_rank_outside_the_world_is_refused(rank: int, world: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} of {world}"):
        Batches(8, 2, train=True, rank=rank, world_size=world)
