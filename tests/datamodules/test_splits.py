"""Examples divided by class, blocks of neighbouring rows held out, and few labels drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.datamodules.splits import blocks, divide, few
from src.experiment import InputError

ROOMS = st.integers(0, 30)


@settings(deadline=None)
@given(st.lists(st.integers(3, 40), min_size=1, max_size=4), st.floats(0.05, 0.3), st.floats(0.05, 0.3))
def test_divide_is_disjoint_complete_stratified_and_seeded(counts: list[int], val: float, test: float) -> None:
    labels = [f"class{name}" for name, count in enumerate(counts) for _ in range(count)]
    parts = divide(labels, {"val": val, "test": test}, "here")
    assert sorted(np.concatenate([*parts.values()]).tolist()) == list(range(len(labels)))
    for name, count in enumerate(counts):
        found = {split: sum(labels[row] == f"class{name}" for row in part) for split, part in parts.items()}
        assert min(found.values()) >= 1
        assert abs(found["val"] - val * count) <= 1
        assert abs(found["test"] - test * count) <= 1
    again = divide(labels, {"val": val, "test": test}, "elsewhere")
    assert all(np.array_equal(again[split], part) for split, part in parts.items())


def test_divide_does_not_simply_cut_the_list() -> None:
    val = divide(["a"] * 100, {"val": 0.2}, "here")["val"]
    assert np.ptp(val) > 50


def test_what_was_divided_once_is_divided_so_for_ever() -> None:
    """Runs of today must have the examples of those of last year."""
    parts = divide(["dog", "cat", "cat"] * 7, {"val": 0.15, "test": 0.15}, "here")
    assert {split: part.tolist() for split, part in parts.items() if split != "train"} == {
        "val": [4, 5, 3],
        "test": [1, 8, 9],
    }


@settings(deadline=None)
@given(st.integers(1, 10), st.integers(0, 10), ROOMS, ROOMS)
def test_blocks_are_balanced_and_of_neighbouring_rows(test: int, val: int, more_first: int, more_second: int) -> None:
    first, second = test + val + more_first, test + val + more_second
    parts = blocks(["neg"] * first + ["pos"] * second, val=2 * val, test=2 * test)
    assert parts["test"] == list(range(first - test, first + test)), "one block, the classes' border within"
    assert sorted(parts["test"] + parts["val"]) == list(range(first - test - val, first + test + val)), "val beside it"
    assert [sum(row < first for row in parts["val"]), len(parts["val"])] == [val, 2 * val]
    assert sorted([*parts["train"], *parts["val"], *parts["test"]]) == list(range(first + second)), "every row once"
    assert all(rows == sorted(rows) for rows in parts.values())


def test_a_row_of_training_has_few_neighbours_held_out() -> None:
    parts = blocks(["a"] * 100 + ["b"] * 100, val=20, test=40)
    assert parts["train"] == [*range(70), *range(130, 200)]
    assert parts["val"] == [*range(70, 80), *range(120, 130)]
    assert parts["test"] == list(range(80, 120))


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(0, 2**32), st.data())
def test_few_draws_as_many_of_each_class(labels: list[str], seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(Counter(labels).values())))
    chosen = few(labels, count, seed)
    assert Counter(labels[row] for row in chosen) == dict.fromkeys(set(labels), count)
    assert chosen == sorted(set(chosen)), "none twice, in order"
    assert chosen == few(labels, count, seed)


def test_the_seed_decides_which_are_drawn_and_any_may_be() -> None:
    labels = ["a"] * 30 + ["b"] * 30
    draws = [few(labels, 5, seed) for seed in range(60)]
    assert len(set(map(tuple, draws))) == 60
    assert {row for draw in draws for row in draw} == set(range(60))


@pytest.mark.parametrize("count", [0, 4, -1])
def test_more_than_there_are_or_none_are_refused(count: int) -> None:
    labels = ["a"] * 5 + ["b"] * 3
    name, there = ("b", 3) if count == 4 else ("a", 5)
    with pytest.raises(InputError, match=rf"^--labelled: {count} of class {name} wanted, {there} there\.$"):
        few(labels, count, 0)
    assert few(labels, 3, 0)[-3:] == [5, 6, 7], "all that there are may be asked for"
