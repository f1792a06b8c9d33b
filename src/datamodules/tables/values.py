"""The values of a table's column: as words, as numbers, as parts of dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

DATE_PARTS = ("days", "year", "month", "weekday", "day of year")


def words(column: pd.Series) -> list[str]:
    """Return values as words, '' for missing ones; a whole number reads the same however the table holds it."""
    return ["" if absent else _word(value) for value, absent in zip(column.tolist(), column.isna(), strict=True)]


def _word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def as_numbers(column: pd.Series) -> tuple[np.ndarray, list[int]]:
    """Return float64 values, NaN for missing ones, and the rows whose value is no finite number."""
    found = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    blank = absent(column)
    bad = (np.isnan(found) & ~blank) | np.isinf(found)
    return np.where(np.isinf(found), np.nan, found), np.flatnonzero(bad).tolist()


def absent(column: pd.Series) -> np.ndarray:
    """Return which values are missing or blank."""
    missing = column.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(column):  # of a million numbers, strings would take longer than all else together
        return missing
    return missing | (column.astype(str).str.strip() == "").to_numpy()


def as_dates(column: pd.Series) -> tuple[list[np.ndarray], list[int]]:
    """Return `DATE_PARTS` as float64 columns, NaN for missing ones, and the rows whose value is no date.

    A date begins with year, month and day (ISO 8601): 01/02/2020 is another day in another country.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        found = pd.to_datetime(column, utc=True)
    else:
        iso = column.astype(str).str.match(r"\s*\d{4}-\d\d-\d\d")
        found = pd.to_datetime(column.astype(str).where(iso), errors="coerce", format="ISO8601", utc=True)
    bad = np.flatnonzero((found.isna() & column.notna()).to_numpy()).tolist()
    found = found.dt.as_unit("s")
    days = (found - pd.Timestamp("1970-01-01", tz="UTC").as_unit("s")) / pd.Timedelta(days=1)
    parts = (days, found.dt.year, found.dt.month, found.dt.day_of_week, found.dt.day_of_year)
    return [part.to_numpy(float, na_value=np.nan) for part in parts], bad


def some(rows: Sequence[int] | np.ndarray | pd.Index) -> str:
    """Return the first few row numbers."""
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
