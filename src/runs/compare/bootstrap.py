"""The paired bootstrap: how sure is the difference of two runs on the same examples?"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from src.configs.errors import InputError
from src.runs.compare.runs import Run

RESAMPLES = 10_000
CHUNK = 2_000_000
"""Numbers held at once: memory does not grow with the split."""
FEW_PAIRS = 4
"""Distinct pairs of right and wrong."""


@dataclass(frozen=True)
class Paired:
    """The difference of two runs' accuracy or RMSE on the same examples."""

    split: str
    metric: str
    """'acc' or 'rmse'."""
    examples: int
    first: float
    second: float
    difference: float
    """first - second."""
    low: float
    """Lower end of the 95 % interval of the difference: a percentile of the resamples."""
    high: float
    p: float
    """Two-sided, of no difference: twice the share of resamples on the rarer side of 0 (Efron & Tibshirani 1993, ch.
    16), counted with the data themselves, so never 0."""


def paired(first: Run, second: Run) -> Paired:
    """Return the paired bootstrap of two runs on test where both have read it, else on val.

    Raises:
        InputError: they have no predictions of a split in common, or not of the same examples and targets.
    """
    for split in ("test", "folds", "val"):
        files = [run.path / f"predictions_{split}.csv" for run in (first, second)]
        if all(file.is_file() for file in files):
            break
    else:
        raise InputError(f"{first.path}, {second.path}: no split of which both have saved predictions.")
    numbers, errors = _paired_errors(files[0], files[1])
    return bootstrap(errors, split=split, metric="rmse" if numbers else "acc")


def bootstrap(values: np.ndarray, *, split: str, metric: str, resamples: int = RESAMPLES, seed: int = 0) -> Paired:
    """Return the paired bootstrap of values [examples, 2]: 0 or 1 for right for 'acc', squared errors for 'rmse'.

    SciPy draws the examples one by one. Where there are at most `FEW_PAIRS` of values, as for accuracy, we draw how
    often a resample has each pair (a multinomial), which is the same distribution.
    """
    score = np.sqrt if metric == "rmse" else np.asarray
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    rng, examples = np.random.default_rng(seed), len(values)

    def difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return score(first.mean(axis)) - score(second.mean(axis))

    if len(distinct) <= FEW_PAIRS:  # 0.01 s for 10 000 examples, where SciPy's bootstrap takes 1.5 s
        means = score(rng.multinomial(examples, counts / examples, size=resamples) @ distinct / examples)
        found = means[:, 0] - means[:, 1]
    else:
        found = stats.bootstrap(
            (values[:, 0], values[:, 1]),
            difference,
            n_resamples=resamples,
            batch=max(1, CHUNK // examples),
            paired=True,
            method="percentile",
            rng=rng,
        ).bootstrap_distribution
    one, two = (float(value) for value in score(values.mean(0)))
    low, high = (float(end) for end in np.quantile(found, (0.025, 0.975)))
    rarer = min((found <= 0).sum(), (found >= 0).sum())
    p = min(1.0, 2 * (int(rarer) + 1) / (resamples + 1))
    return Paired(split, metric, examples, one, two, one - two, low, high, p)


def _paired_errors(first: Path, second: Path) -> tuple[bool, np.ndarray]:
    """Return whether the targets are numbers, and each example's right-or-wrong or squared error [examples, 2]."""
    one, two = _read(first), _read(second)
    if one.keys() != two.keys():
        common = len(one.keys() & two.keys())
        raise InputError(f"{first} and {second}: not the same examples ({common} of {len(one)} and {len(two)}).")
    numbers = ["prediction" in next(iter(rows.values()), {}) for rows in (one, two)]
    if not one or numbers[0] != numbers[1]:
        raise InputError(f"{first} and {second}: not predictions of the same kind.")
    if not numbers[0]:
        if any(row["target"] != two[name]["target"] for name, row in one.items()):
            raise InputError(f"{first} and {second}: the targets are not the same.")
        right = [(row["label"] == row["target"], two[name]["label"] == row["target"]) for name, row in one.items()]
        return False, np.array(right, dtype=np.float64)
    pairs = [(row, two[name]) for name, row in one.items()]
    target, predicted = (
        np.array([[float(row[column]) for row in pair] for pair in pairs]) for column in ("target", "prediction")
    )
    if not _same_numbers(*target.T):
        raise InputError(f"{first} and {second}: the targets are not the same.")
    return True, (predicted - target) ** 2


def _same_numbers(one: np.ndarray, two: np.ndarray) -> bool:
    """Return whether two runs had the same targets; in float32, as runs of before kept them, the last digit differs."""
    rounded = any(np.array_equal(values, values.astype(np.float32)) for values in (one, two))
    return np.allclose(one, two, rtol=3e-7 if rounded else 0, atol=0)


def _read(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the rows by id."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        found = {row["id"]: row for row in rows}
        if any(None in row.values() or not {"target"} <= row.keys() for row in rows):
            raise KeyError("target")
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as predictions ({error}).") from error
    if len(found) < len(rows):
        raise InputError(f"{path}: an id is in two rows.")
    return found
