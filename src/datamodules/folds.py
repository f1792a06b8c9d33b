"""Folds of a cross-validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from src.datamodules.sources import Divisible, LoadedSplits
from src.datamodules.splits import SPLIT_SEED, assign_folds

VAL_PARTS = 7
"""Of what a fold leaves for training, one part in so many is for validation."""


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation."""

    number: int
    """From 1."""
    count: int


def splits_of_fold(found: LoadedSplits[Any], fold: Fold, data: Divisible) -> LoadedSplits[Any]:
    """Return the splits of a fold: its share of the examples is test; validation is taken from the rest.

    Splits that the data came with keep their part: a given validation split chooses in every fold, and a given test
    split is not looked at.
    """
    pool = found.samples["train"] if found.whole is None else found.whole
    test = _assign(pool, fold.count, found.source, data)[fold.number - 1]
    rest = np.setdiff1d(np.arange(len(pool)), test)
    how = f"fold {fold.number} of {fold.count}"
    if found.whole is None and "val" in found.samples:
        samples = {"train": data.subset(pool, rest), "val": found.samples["val"], "test": data.subset(pool, test)}
        return replace(found, split=f"{how} of train; val as before", samples=samples)
    remaining = data.subset(pool, rest)
    groups = data.groups(remaining)
    count = VAL_PARTS if groups is None else max(2, min(VAL_PARTS, len(set(groups))))
    val = _assign(remaining, count, found.source, data)[0]
    train = np.setdiff1d(np.arange(len(remaining)), val)
    samples = {
        "train": data.subset(remaining, train),
        "val": data.subset(remaining, val),
        "test": data.subset(pool, test),
    }
    return replace(found, split=f"{how}, seed {SPLIT_SEED}; val 1/{count} of the rest", samples=samples)


def _assign(samples: Any, count: int, where: str, data: Divisible) -> list[list[int]]:
    return assign_folds(
        len(samples),
        count,
        labels=data.labels(samples),
        groups=data.groups(samples),
        where=where,
        shuffle=not data.neighbours_alike,
    )
