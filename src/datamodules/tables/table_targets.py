"""The column of a table that is to be predicted: checked, and turned into class numbers or scaled numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.configs.errors import InputError
from src.configs.labels import is_number
from src.configs.spec import Target
from src.datamodules.tables.values import absent, as_numbers, some

UNLABELLED_LIMIT = 0.05
"""Greatest share of rows without target before the run stops."""


def without_target(column: pd.Series, path: Path | None, notes: list[str]) -> np.ndarray:
    """Return which rows have no target, bool [rows]; how many is added to `notes`.

    Raises:
        InputError: there are no rows, or too many have none.
    """
    if column.empty:
        raise InputError(f"--target {column.name}: 0 of 0 rows have one; {path} has a header alone.")
    without = absent(column)
    if without.mean() > UNLABELLED_LIMIT or without.all():
        raise InputError(
            f"--target {column.name}: {without.sum()} of {len(column)} rows have none (rows "
            f"{some(column.index[without])}, counted from 0). Fill or remove them."
        )
    if without.any():
        notes.append(f"{without.sum()} of {len(column)} rows have no {column.name} and are left out")
    return without


def number_targets(column: pd.Series, scaling: str) -> np.ndarray:
    """Return targets; refuse what is no number, never changes, or has no logarithm where one is wanted."""
    values, bad = as_numbers(column)
    if bad:
        shown = ", ".join(repr(column.iloc[row]) for row in bad[:3])
        raise InputError(
            f"--target {column.name}: {len(bad)} values are no finite numbers: {shown} (rows "
            f"{some(column.index[bad])}, counted from 0). Correct or empty them; for classes take "
            "TableClassification."
        )
    if np.nanmax(values) == np.nanmin(values):
        raise InputError(f"--target {column.name}: always {np.nanmin(values):g}; there is nothing to predict.")
    low = np.flatnonzero(values <= 0)
    if scaling == "log" and len(low):
        raise InputError(
            f"--prep.target log: {len(low)} values of {column.name} are not positive (rows "
            f"{some(column.index[low])}, counted from 0). Take --prep.target standard."
        )
    return values


def classes_of(train: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the classes of the training rows in order.

    Raises:
        InputError: there is one alone.
    """
    there = set(train)
    numbers = all(map(is_number, there))
    classes = tuple(sorted(there, key=(lambda name: (float(name), name)) if numbers else str))
    if len(classes) < 2:
        raise InputError(f"--target {name}: always {next(iter(there))}; there is nothing to predict.")
    return classes


def scale_of(train: np.ndarray, name: str, scaling: str) -> Target:
    """Return the target's scale, from the training rows."""
    log = scaling == "log"
    values = np.log(train) if log else train
    mean, std = (0.0, 1.0) if scaling == "none" else (float(values.mean()), float(values.std()) or 1.0)
    return Target(kind="regression", name=name, log=log, mean=mean, std=std)
