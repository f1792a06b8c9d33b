"""What kind each column of a table is: a number, a date, a category, or nothing for a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.configs.errors import InputError, did_you_mean
from src.configs.table import Columns
from src.datamodules.tables.values import as_dates, as_numbers, some

MOSTLY = 0.95
"""Share of a column's values that have to be numbers, or dates, for it to be such a column."""
MOST_NAMES = 0.5
"""Share of distinct values above which a column of words is a name, which tells nothing of other rows."""


def infer(frame: pd.DataFrame, given: Columns, notes: list[str], *, leave_out: Sequence[str] = ()) -> dict[str, str]:
    """Return the kind of each column that the model is to see; what is left out or odd is added to `notes`.

    Args:
        frame: the training rows.
        given: kinds that the user has named.
        leave_out: further columns that are not for the model: the target, ids.

    Raises:
        InputError: a named column is not there, or has a value that is not of its kind; infinite numbers; no column is
            left.
    """
    named = {name: kind for kind in ("number", "category", "date") for name in getattr(given, kind)}
    for name in (*named, *given.ignored, *filter(None, [given.group])):
        if name not in frame.columns:
            hint = did_you_mean(name, list(frame.columns))
            raise InputError(f"--columns: no column {name}.{hint} There: {', '.join(frame.columns)}.")
    kinds: dict[str, str] = {}
    left_out: list[str] = []
    for name in frame.columns:
        if name in (*given.ignored, *leave_out, given.group):
            continue
        column = frame[name]
        if column.isna().all() or column.nunique(dropna=False) == 1:
            left_out.append(f"{name} (always {'missing' if column.isna().all() else column.iloc[0]})")
            continue
        kind = named.get(name) or guess(column)
        if kind == "name":
            left_out.append(f"{name} ({column.nunique()} different words)")
            continue
        if kind != "category":
            check(column, kind, notes, strict=name in named)
        kinds[name] = kind
    if left_out:
        notes.append(f"columns left out: {', '.join(left_out)}")
    if not kinds:
        raise InputError("no column is left that the model could see: give the table more, or --columns.")
    return kinds


def guess(column: pd.Series) -> str:
    """Return 'number', 'date', 'category', or 'name' for words of which most are different."""
    if pd.api.types.is_bool_dtype(column):
        return "category"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(column):
        return "date"
    there = column[column.notna()].astype(str)
    if len(as_numbers(there)[1]) <= (1 - MOSTLY) * len(there):
        return "number"
    if len(as_dates(there)[1]) <= (1 - MOSTLY) * len(there):
        return "date"
    return "name" if there.nunique() > max(20, MOST_NAMES * len(column)) else "category"


def check(column: pd.Series, kind: str, notes: list[str], *, strict: bool) -> None:
    """Refuse infinite numbers and, in a column that the user named, what is not of its kind; else note it."""
    if kind == "number":
        if pd.api.types.is_numeric_dtype(column) and len(rows := np.flatnonzero(np.isinf(column.to_numpy(float)))):
            raise InputError(
                f"column {column.name}: {len(rows)} infinite values (rows {some(column.index[rows])}, counted from 0). "
                f"Empty them, or --columns.ignored {column.name}."
            )
        bad = as_numbers(column)[1]
    else:
        bad = as_dates(column)[1]
    if not bad:
        return
    shown = ", ".join(repr(column.iloc[row]) for row in bad[:3])
    if strict:
        raise InputError(
            f"column {column.name}: {len(bad)} values are no {kind}: {shown} (rows {some(column.index[bad])}, counted "
            f"from 0). Correct or empty them, or --columns.category {column.name}."
        )
    notes.append(f"column {column.name}: {len(bad)} values are no {kind} and count as missing: {shown}")
