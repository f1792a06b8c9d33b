"""The paired bootstrap against cases worked by hand, SciPy's bootstrap and a permutation test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import make_run, record_of, write_labels, write_numbers
from scipy import stats

from src.experiment import InputError
from src.runs.compare.bootstrap import bootstrap, paired
from src.runs.compare.runs import Run


@pytest.fixture
def two(tmp_path: Path) -> tuple[Run, Run]:
    return make_run(tmp_path / "A", record_of()), make_run(tmp_path / "B", record_of())


def test_accuracy_worked_by_hand() -> None:
    """A is right on one of three more than B: a resample misses it, for a difference of 0, with (2/3)^3 = 8/27."""
    found = bootstrap(np.array([[1, 0], [1, 1], [0, 0]]), split="val", metric="acc", resamples=100_000)
    assert (found.first, found.second, found.difference) == pytest.approx((2 / 3, 1 / 3, 1 / 3))
    assert found.p == pytest.approx(2 * 8 / 27, abs=0.01)
    assert (found.low, found.high) == (0.0, pytest.approx(1.0))  # all three are it with 1/27 = 3.7 %, above 2.5 %
    assert found.examples == 3


def test_rmse_worked_by_hand() -> None:
    """Two examples, errors 3 and 0 of A, 0 and 0 of B: a resample has the first twice, once or never: 1/4, 1/2, 1/4."""
    found = bootstrap(np.array([[9.0, 0.0], [0.0, 0.0]]), split="val", metric="rmse", resamples=100_000)
    assert found.difference == pytest.approx(np.sqrt(4.5))
    assert (found.low, found.high) == (0.0, 3.0)
    assert found.p == pytest.approx(2 * 0.25, abs=0.01)


def test_accuracy_interval_is_scipys() -> None:
    rng = np.random.default_rng(1)
    values = (rng.random((400, 2)) < (0.85, 0.8)).astype(float)
    found = bootstrap(values, split="val", metric="acc")
    theirs = stats.bootstrap(
        (values[:, 0] - values[:, 1],), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_rmse_interval_is_scipys() -> None:
    rng = np.random.default_rng(1)
    squares = rng.normal(0, (2.0, 2.3), (200, 2)) ** 2
    found = bootstrap(squares, split="test", metric="rmse")

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.sqrt(a.mean(axis)) - np.sqrt(b.mean(axis))

    theirs = stats.bootstrap(
        (squares[:, 0], squares[:, 1]),
        difference,
        n_resamples=10_000,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_p_is_near_the_permutation_tests() -> None:
    rng = np.random.default_rng(3)
    values = (rng.random((500, 2)) < (0.84, 0.80)).astype(float)
    found = bootstrap(values, split="val", metric="acc")
    signs = np.random.default_rng(4).choice((-1, 1), (20_000, 500))
    gaps = values[:, 0] - values[:, 1]
    permuted = (np.abs(signs @ gaps) >= abs(gaps.sum())).mean()
    assert found.p == pytest.approx(permuted, abs=0.04)
    assert 0.001 < found.p < 0.9


def test_a_clear_difference_is_clear_and_none_is_none() -> None:
    clear = bootstrap(np.tile([1.0, 0.0], (50, 1)), split="val", metric="acc")
    assert clear.p == pytest.approx(2 / 10_001)
    assert (clear.low, clear.high) == (1.0, 1.0)
    same = bootstrap(np.tile([[1.0, 1.0], [0.0, 0.0]], (25, 1)), split="val", metric="acc")
    assert (same.difference, same.p) == (0.0, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_it_is_antisymmetric_and_repeatable(rows: list[tuple[bool, bool]]) -> None:
    values = np.array(rows, dtype=float)
    found = bootstrap(values, split="val", metric="acc")
    assert found == bootstrap(values, split="val", metric="acc")
    assert found.low <= found.difference + 1e-9
    assert found.difference <= found.high + 1e-9
    assert 0 < found.p <= 1
    turned = bootstrap(values[:, ::-1], split="val", metric="acc")
    assert turned.difference == -found.difference
    step = 2 / len(rows)  # differences are multiples of half of it, and an end may fall to either side of one
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=max(0.12, step))


# ------------------------------------------------------------------------------------------------- saved predictions
def test_labels_are_matched_by_id(two: tuple[Run, Run]) -> None:
    write_labels(two[0].path, "aabb", "aaba")
    path = two[1].path / "predictions_val.csv"
    path.write_text("id,target,label,prob_a,prob_b\n3,b,b,0,1\n2,b,a,1,0\n1,a,b,0,1\n0,a,b,0,1\n")
    found = paired(*two)
    assert (found.split, found.metric, found.examples) == ("val", "acc", 4)
    assert (found.first, found.second) == (0.75, 0.25)


def test_numbers_have_their_rmse(two: tuple[Run, Run]) -> None:
    target = np.array([1.0, 2.0, 3.0])
    write_numbers(two[0].path, target, target + np.array([0.0, 0.0, 3.0]))
    write_numbers(two[1].path, (target * (1 + 1e-7)).astype(np.float32), target + 1)  # of a run of before
    found = paired(*two)
    assert (found.metric, found.first) == ("rmse", pytest.approx(np.sqrt(3)))
    assert found.second == pytest.approx(1.0, abs=1e-5)


def test_other_targets_far_from_zero_are_other_targets(two: tuple[Run, Run]) -> None:
    target = 1.7e9 + np.array([0.25, 1.5, 2.75])
    write_numbers(two[0].path, target, target + 1)
    write_numbers(two[1].path, target + 10, target)
    with pytest.raises(InputError, match="the targets are not the same"):
        paired(*two)


def test_test_goes_before_val_where_both_have_read_it(two: tuple[Run, Run]) -> None:
    for run in two:
        write_labels(run.path, "ab", "ab")
    write_labels(two[0].path, "ab", "ab", "test")
    assert paired(*two).split == "val"
    write_labels(two[1].path, "ab", "aa", "test")
    assert (paired(*two).split, paired(*two).difference) == ("test", 0.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no split of which both have saved predictions"),
        ("id,target,label\n0,a,a\n1,a,a\n9,b,b\n", "not the same examples (2 of 3 and 3)"),
        ("id,target,label\n0,a,a\n1,b,a\n2,b,b\n", "the targets are not the same"),
        ("id,target,label\n0,a,a\n0,a,a\n2,b,b\n", "an id is in two rows"),
        ("id,target,prediction\n0,1,1\n1,1,1\n2,2,2\n", "not predictions of the same kind"),
        ("id,target,label\n0,a\n1,a,a\n2,b,b\n", "cannot be read as predictions"),
        ("nothing\n0\n", "cannot be read as predictions"),
    ],
)
def test_what_cannot_be_paired_says_why(two: tuple[Run, Run], text: str | None, says: str) -> None:
    write_labels(two[0].path, "aab", "aab")
    if text is not None:
        (two[1].path / "predictions_val.csv").write_text(text)
    with pytest.raises(InputError, match=says.replace("(", r"\(").replace(")", r"\)")):
        paired(*two)
