"""Examples divided by class, blocks of neighbouring rows held out, and few labels drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.datamodules.splits import assign_folds, blocks, divide, divide_rows, few
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


# ------------------------------------------------------------------------------------------------ several labels a row
SHARES = {"val": 0.15, "test": 0.15}


def labels_of(seed: int, rows: int, rates: list[float]) -> np.ndarray:
    """Return 0s and 1s [rows, labels], each label as frequent as it should be."""
    return (np.random.default_rng(seed).random((rows, len(rates))) < rates).astype(np.int64)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99), st.integers(100, 300), st.lists(st.floats(0.05, 0.6), min_size=1, max_size=5))
def test_each_label_has_its_share_of_every_split_and_fold(seed: int, rows: int, rates: list[float]) -> None:
    labels = labels_of(seed, rows, rates)
    parts = divide_rows(rows, SHARES, "here", labels=labels)
    assert sorted(np.concatenate([*parts.values()]).tolist()) == list(range(rows))
    for split, share in {"train": 0.7, **SHARES}.items():
        assert abs(len(parts[split]) - share * rows) <= 0.05 * rows
        assert (np.abs(labels[parts[split]].sum(0) - share * labels.sum(0)) <= 0.1 * labels.sum(0) + 3).all()
    folds = assign_folds(rows, 5, labels=labels, groups=None, where="here")
    assert sorted(row for fold in folds for row in fold) == list(range(rows))
    for fold in folds:
        assert (np.abs(labels[fold].sum(0) - labels.sum(0) / 5) <= 0.1 * labels.sum(0) + 3).all()
    assert parts == divide_rows(rows, SHARES, "elsewhere", labels=labels), "whoever divides"


def test_shares_are_far_closer_than_by_chance() -> None:
    off: dict[str, list[float]] = {"labels": [], "chance": []}
    for seed in range(20):
        labels = labels_of(seed, 150, [0.05, 0.2, 0.5])
        for name, given_labels in (("labels", labels), ("chance", None)):
            folds = assign_folds(150, 5, labels=given_labels, groups=None, where="here")
            off[name].append(max(np.abs(labels[fold].sum(0) - labels.sum(0) / 5).max() for fold in folds))
    assert np.mean(off["labels"]) < 1.5
    assert np.mean(off["chance"]) > 4


def test_a_rare_label_is_shared_out_where_chance_would_not() -> None:
    labels = np.zeros((400, 2), np.int64)
    labels[::20, 0] = 1  # 20 rows
    labels[::3, 1] = 1
    found = [int(labels[fold, 0].sum()) for fold in assign_folds(400, 10, labels=labels, groups=None, where="here")]
    assert found == [2] * 10


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99), st.integers(3, 12))
def test_groups_stay_together_whatever_the_labels(seed: int, count: int) -> None:
    labels = labels_of(seed, 120, [0.3, 0.1])
    groups = [str(number) for number in np.random.default_rng(seed).integers(0, count, 120)]
    if len(set(groups)) < 3:
        return
    parts = divide_rows(120, SHARES, "here", labels=labels, groups=groups)
    of = {split: {groups[row] for row in part} for split, part in parts.items()}
    assert sorted(np.concatenate([*parts.values()]).tolist()) == list(range(120))
    assert not of["train"] & of["val"] | of["train"] & of["test"] | of["val"] & of["test"]


def test_what_only_one_row_has_is_for_training() -> None:
    labels = np.zeros((60, 12), np.int64)
    labels[:, 0] = np.arange(60) % 2
    labels[np.arange(1, 12) * 5, np.arange(1, 12)] = 1
    parts = divide_rows(60, SHARES, "here", labels=labels)
    assert labels[parts["train"]].any(0).all()
    assert min(map(len, parts.values())) > 0
    with pytest.raises(InputError, match="too many labels that one example has: none is left for val"):
        divide_rows(60, SHARES, "here", labels=np.eye(60, dtype=np.int64))


def test_rows_without_any_label_are_divided_all_the_same() -> None:
    parts = divide_rows(40, SHARES, "here", labels=np.zeros((40, 0), np.int64))
    assert {split: len(part) for split, part in parts.items()} == {"train": 28, "val": 6, "test": 6}
