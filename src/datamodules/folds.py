"""Folds of a cross-validation, and folds that take turns as the validation split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from src.configs.errors import InputError
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
    held_out: Literal["test", "val"] = "test"
    """The split that the fold's share becomes. With 'val' the test split stays as it is."""


def splits_of_fold(found: LoadedSplits[Any], fold: Fold, data: Divisible) -> LoadedSplits[Any]:
    """Return the splits of a fold: its share of the examples is test; validation is taken from the rest.

    Splits that the data came with keep their part: a given validation split chooses in every fold, and a given test
    split is not looked at.

    Raises:
        InputError: too few examples, or validation by folds of data whose validation split was given.
    """
    if fold.held_out == "val":
        return _other_validation(found, fold, data)
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


def _other_validation(found: LoadedSplits[Any], fold: Fold, data: Divisible) -> LoadedSplits[Any]:
    """Return the splits with the fold's share of train and val, taken together, for validation."""
    if found.whole is None:
        raise InputError(f"{found.source}: its validation split was given, so that no fold takes its place.")
    names = {name for split in ("train", "val") for name in data.names_of(found.samples[split], found)}
    place = [position for position, name in enumerate(data.names_of(found.whole, found)) if name in names]
    pool = data.subset(found.whole, np.array(place))
    val = _assign(pool, fold.count, found.source, data)[fold.number - 1]
    train = np.setdiff1d(np.arange(len(pool)), val)
    samples = {**found.samples, "train": data.subset(pool, train), "val": data.subset(pool, val)}
    return replace(found, split=f"{found.split}; fold {fold.number} of {fold.count} validates", samples=samples)


def _assign(samples: Any, count: int, where: str, data: Divisible) -> list[list[int]]:
    return assign_folds(
        len(samples),
        count,
        labels=data.labels(samples),
        groups=data.groups(samples),
        where=where,
        shuffle=not data.neighbours_alike,
    )
