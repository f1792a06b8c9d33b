"""The columns of a table that are to be predicted: checked and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.configs.errors import InputError
from src.configs.labels import LABEL_SEPARATOR
from src.configs.spec import TargetKind
from src.datamodules.tables.values import absent, as_numbers, some, words
from src.datamodules.targets import YES, Targets, other_reading, parse_targets

UNLABELLED_LIMIT = 0.05
"""Greatest share of rows without target before the run stops."""


def target_columns(kind: TargetKind, target: str | Sequence[str]) -> tuple[str, ...]:
    """Return the columns that `target` names, each once.

    Raises:
        InputError: none, or several for what stands in one.
    """
    names = (target,) if isinstance(target, str) else tuple(dict.fromkeys(target))
    if not names:
        raise InputError("--target: name a column, or several, one a label.")
    if len(names) > 1 and kind != "multi_label":
        raise InputError(f"--target {' '.join(names)}: several columns are several labels; this predicts {kind}.")
    return names


def without_target(
    kind: TargetKind, frame: pd.DataFrame, names: Sequence[str], path: Path | None, notes: list[str]
) -> np.ndarray:
    """Return which rows have no target, bool [rows]; how many is added to `notes`. No label is a target too.

    Raises:
        InputError: there are no rows, or too many have none.
    """
    column = frame[names[0]]
    if column.empty:
        raise InputError(f"--target {column.name}: 0 of 0 rows have one; {path} has a header alone.")
    if kind == "multi_label":
        return np.zeros(len(column), bool)
    without = absent(column)
    if without.mean() > UNLABELLED_LIMIT or without.all():
        raise InputError(
            f"--target {column.name}: {without.sum()} of {len(column)} rows have none (rows "
            f"{some(column.index[without])}, counted from 0). Fill or remove them."
        )
    if without.any():
        notes.append(f"{without.sum()} of {len(column)} rows have no {column.name} and are left out")
    return without


def read_targets(kind: TargetKind, frame: pd.DataFrame, names: Sequence[str], *, scale: str) -> Targets:
    """Return the targets of a table's rows; a row without a number has NaN.

    Args:
        kind: what is predicted.
        frame: its index names the rows in errors.
        names: columns of the target.
        scale: of a number; see `TablePrep.target`.

    Raises:
        InputError: a cell cannot be read.
    """
    if kind == "regression":
        return Targets(kind, names[0], number_targets(frame[names[0]], scale))
    cells = {name: words(frame[name]) for name in names}
    return parse_targets(kind, cells, f"--target {' '.join(names)}", rows=[str(row) for row in frame.index])


def number_targets(column: pd.Series, scale: str) -> np.ndarray:
    """Return targets, float64; refuse what is no number, or has no logarithm where one is wanted."""
    values, bad = as_numbers(column)
    if bad:
        shown = ", ".join(repr(column.iloc[row]) for row in bad[:3])
        raise InputError(
            f"--target {column.name}: {len(bad)} values are no finite numbers: {shown} (rows "
            f"{some(column.index[bad])}, counted from 0). Correct or empty them; for classes take an experiment that "
            "predicts a single_label."
        )
    low = np.flatnonzero(values <= 0)
    if scale == "log" and len(low):
        raise InputError(
            f"--prep.target log: {len(low)} values of {column.name} are not positive (rows "
            f"{some(column.index[low])}, counted from 0). Take --prep.target standard."
        )
    return values


def ambiguity(targets: Targets, rows: np.ndarray) -> list[str]:
    """Return a note where these rows could be read as another kind of target too; else none."""
    values = targets.values
    chosen = values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
    note = other_reading(replace(targets, values=chosen))
    return [f"{note} (--target-kind {targets.kind} confirms; another experiment reads it otherwise)"] if note else []


def expected_targets(frame: pd.DataFrame, name: str, labels: Sequence[str]) -> list[str]:
    """Return the targets that the rows of a prediction came with, as written; [] where they came with none.

    Args:
        frame: the rows.
        name: column of the target.
        labels: columns that it may stand in instead, one a label.
    """
    if name in frame.columns:
        return words(frame[name])
    if not labels or any(label not in frame.columns for label in labels):
        return []
    yes = {label: [cell.lower() in YES for cell in words(frame[label])] for label in labels}
    return [LABEL_SEPARATOR.join(label for label in labels if yes[label][row]) for row in range(len(frame))]
