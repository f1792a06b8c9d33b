"""Columns that number the rows, such as pandas' index. Where rows are sorted by class, they give the class away."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

import numpy as np
import pandas as pd

FIRST = 1000
"""Rows that are looked at before all."""
FEW_ROWS = 50
"""Rows below which whole numbers may well be different by chance."""


def numbering(frame: pd.DataFrame, rows: np.ndarray, seen: Iterable[str]) -> list[str]:
    """Return the columns, among those that the model sees, that number some rows of a table."""
    return [name for name in seen if len(rows) >= FEW_ROWS and _number_rows(frame[name], rows)]


def note(name: str) -> str:
    """Return what to say of a column that numbers the rows."""
    return f"column {name} numbers the rows and tells nothing of others: --columns.ignored {shlex.quote(name)}"


def _number_rows(column: pd.Series, rows: np.ndarray) -> bool:
    """Return whether a column has a whole number of its own for each row, in their order or without great gaps."""
    if not pd.api.types.is_numeric_dtype(column) or not _whole(column.iloc[rows[:FIRST]].to_numpy(float)):
        return False
    values = column.to_numpy(float)[rows]
    if not _whole(values):
        return False
    steps = np.diff(values)
    in_order = (steps > 0).all() or (steps < 0).all()
    return bool(in_order or (np.ptp(values) < 2 * len(values) and len(np.unique(values)) == len(values)))


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())  # NaN is no whole number either
