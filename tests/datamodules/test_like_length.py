"""Batches of like length: as fair and repeatable as `Batches`, with a fraction of the padding."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.datamodules import Batches, LikeLength
from src.datamodules.sampling.like_length import WINDOW
from src.experiment import InputError

LENGTHS = st.lists(st.integers(0, 300), min_size=4, max_size=150)
BATCH_SIZES = st.integers(1, 6)
BUDGETS = st.none() | st.integers(1, 2000)
WORLDS = st.integers(1, 4)
EPOCHS = st.integers(0, 1000)
ONE_TOO_MANY = list(range(WINDOW * 2 + 1))
"""At one example a batch and two devices: a full window and one example over."""

Order = list[list[int]]
"""Example indices of each batch."""


def order(lengths: list[int] | np.ndarray, batch_size: int = 4, *, epoch: int = 0, **arguments: Any) -> Order:
    """Return the example indices of each batch of an epoch, on one device."""
    batches = LikeLength(lengths, batch_size, **{"train": True} | arguments)
    batches.set_epoch(epoch)
    return [[key % len(lengths) for key in batch] for batch in batches]


def orders(lengths: list[int], batch_size: int, world: int, **arguments: Any) -> list[tuple[list[int], ...]]:
    """Return, for each batch, what every device has of it."""
    found = [order(lengths, batch_size, rank=rank, world_size=world, **arguments) for rank in range(world)]
    assert len({len(batches) for batches in found}) == 1, "distributed processes wait for one another at each batch"
    return list(zip(*found, strict=True))


@settings(deadline=None)
@example(ONE_TOO_MANY, 1, None, 2, 0)
@given(LENGTHS, BATCH_SIZES, BUDGETS, WORLDS, EPOCHS)
def test_evaluation_sees_every_example_once(
    lengths: list[int], batch_size: int, budget: int | None, world: int, epoch: int
) -> None:
    batches = orders(lengths, batch_size, world, max_tokens=budget, train=False, epoch=epoch)
    assert sorted(chain.from_iterable(chain.from_iterable(batches))) == list(range(len(lengths)))
    for batch in batches:
        shares = [len(share) for share in batch]
        assert 0 < min(shares) <= max(shares) <= min(shares) + 1


@settings(deadline=None)
@example(ONE_TOO_MANY, 1, None, 2, 0)
@given(LENGTHS, BATCH_SIZES, BUDGETS, WORLDS, EPOCHS)
def test_training_gives_every_device_an_equal_and_disjoint_share_of_every_batch(
    lengths: list[int], batch_size: int, budget: int | None, world: int, epoch: int
) -> None:
    batches = orders(lengths, batch_size, world, max_tokens=budget, train=True, epoch=epoch)
    for batch in batches:
        assert len({len(share) for share in batch}) == 1
        assert len(batch[0]) > 0
    seen = list(chain.from_iterable(chain.from_iterable(batches)))
    assert len(seen) == len(set(seen)), "an example comes twice"
    assert len(seen) > len(lengths) - world, "at most world_size - 1 are left out"


@settings(deadline=None)
@example(ONE_TOO_MANY, 1, None, 2, True)
@given(LENGTHS, BATCH_SIZES, BUDGETS, WORLDS, st.booleans())
def test_len_is_the_number_of_batches_and_their_sizes_are_those_of_every_epoch(
    lengths: list[int], batch_size: int, budget: int | None, world: int, train: bool
) -> None:
    for rank in range(world):
        arguments = {"train": train, "rank": rank, "world_size": world, "max_tokens": budget}
        first = order(lengths, batch_size, **arguments)
        assert len(LikeLength(lengths, batch_size, **arguments)) == len(first)
        later = order(lengths, batch_size, epoch=7, **arguments)
        assert sorted(map(len, later)) == sorted(map(len, first))


@settings(deadline=None)
@example(ONE_TOO_MANY, 1, 2)
@given(LENGTHS, BATCH_SIZES, WORLDS)
def test_batches_are_of_batch_size_but_the_last(lengths: list[int], batch_size: int, world: int) -> None:
    sizes = [sum(map(len, batch)) for batch in orders(lengths, batch_size, world, train=False)]
    full, over = divmod(len(lengths), batch_size * world)
    merged = 0 < over < world and full > 0
    expected = [batch_size * world] * (full - merged) + ([over + merged * batch_size * world] if over else [])
    assert sorted(sizes) == sorted(expected)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 2000), WORLDS, st.booleans(), EPOCHS)
def test_the_budget_of_tokens_is_never_exceeded(
    lengths: list[int], budget: int, world: int, train: bool, epoch: int
) -> None:
    for batch in orders(lengths, 1, world, max_tokens=budget, train=train, epoch=epoch):
        over = len(batch[0]) > len(batch[-1]) or (train and world > 1)  # it may have taken in a rest below world_size
        for share in batch:
            longest = max(lengths[i] for i in share)
            assert longest * (len(share) - over) <= budget or len(share) - over <= 1


def test_the_budget_is_made_use_of() -> None:
    lengths = [100] * WINDOW * 10 + [10] * WINDOW * 100
    batches = order(lengths, 7, max_tokens=1000)
    assert sorted((len(batch), lengths[batch[0]]) for batch in batches) == [(10, 100)] * WINDOW + [(100, 10)] * WINDOW
    assert order([5000, 5000], max_tokens=1000) in ([[0], [1]], [[1], [0]]), "a text longer than the budget goes alone"


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), min_size=20, max_size=150), BATCH_SIZES, EPOCHS, st.integers(0, 2**32))
def test_each_epoch_and_each_seed_has_an_order_of_its_own(
    lengths: list[int], batch_size: int, epoch: int, seed: int
) -> None:
    found = order(lengths, batch_size, epoch=epoch, seed=seed)
    assert found == order(lengths, batch_size, epoch=epoch, seed=seed), "the epoch alone: a run can be resumed"
    assert found != order(lengths, batch_size, epoch=epoch + 1, seed=seed)
    assert found != order(lengths, batch_size, epoch=epoch, seed=seed + 1)


def test_an_epoch_read_before_changes_nothing() -> None:
    batches = LikeLength(range(100), 4, train=True)
    assert list(batches) == list(batches)
    batches.set_epoch(3)
    assert [[key % 100 for key in batch] for batch in batches] == order(list(range(100)), epoch=3)


def test_evaluation_is_the_same_in_every_epoch_and_begins_with_the_longest() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 100).tolist()
    found = order(lengths, train=False)
    assert found == order(lengths, train=False, epoch=5, seed=5)
    assert [lengths[i] for i in chain.from_iterable(found)] == sorted(lengths, reverse=True)


def test_examples_meet_others_of_their_window_only_and_others_each_epoch() -> None:
    lengths = np.random.default_rng(0).permutation(WINDOW * 4 * 3)
    epochs = [order(lengths, epoch=epoch) for epoch in range(3)]
    for batches in epochs:
        for batch in batches:
            assert len({lengths[i] // (WINDOW * 4) for i in batch}) == 1
    met = [{frozenset(batch) for batch in batches} for batches in epochs]
    assert not met[0] & met[1] & met[2], "batches are made anew, not only put in another order"
    assert [lengths[batch[0]] // (WINDOW * 4) for batch in epochs[0]] != sorted(
        (lengths[batch[0]] // (WINDOW * 4) for batch in epochs[0]), reverse=True
    ), "windows are mixed"


def test_examples_of_one_length_meet_across_windows() -> None:
    size = WINDOW * 2 * 2
    epochs = [order([7] * size, 2, epoch=epoch) for epoch in range(3)]
    assert any((min(batch) < size // 2) != (max(batch) < size // 2) for batch in chain.from_iterable(epochs))


@pytest.mark.parametrize("train", [True, False])
def test_there_is_far_less_padding_than_in_batches_of_any_order(train: bool) -> None:
    lengths = np.random.default_rng(0).lognormal(5, 0.8, 4000).astype(int).clip(1, 512)

    def padding(batches: Batches) -> float:
        indices = [[key % len(lengths) for key in batch] for batch in batches]
        padded = sum(len(batch) * int(lengths[batch].max()) for batch in indices)
        return 1 - sum(int(lengths[batch].sum()) for batch in indices) / padded

    assert padding(Batches(len(lengths), 32, train=True)) > 0.5
    assert padding(LikeLength(lengths, 32, train=train)) < 0.15


@settings(deadline=None)
@given(LENGTHS, BATCH_SIZES, BUDGETS, EPOCHS, st.booleans())
def test_keys_carry_the_epoch(lengths: list[int], batch_size: int, budget: int | None, epoch: int, train: bool) -> None:
    batches = LikeLength(lengths, batch_size, max_tokens=budget, train=train)
    batches.set_epoch(epoch)
    assert {key // len(lengths) for key in chain.from_iterable(batches)} == {epoch}


def test_fewer_examples_than_processes_are_refused() -> None:
    with pytest.raises(InputError, match="--devices: a split of 3 examples cannot be shared by 4 processes"):
        LikeLength([1, 2, 3], 2, train=False, world_size=4)
