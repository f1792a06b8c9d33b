"""The cells of a table's column: as words, as numbers, as dates."""

# pyright: reportAttributeAccessIssue=false
# pyarrow makes its functions when it is imported.
from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from src.configs.words import MISSING, truth
from src.datamodules.tables.cells import is_text, text_of
from src.datamodules.tables.spelling import PLAIN, Spelling

DATE_PARTS = ("days", "year", "month", "weekday", "day of year")
ISO = r"^\d{4}-\d\d-\d\d"
SIGNS = {"\u00a0": " ", "\u202f": " ", "\u2019": "'", "\u2212": "-"}
"""Blanks, apostrophe and minus as word processors write them."""


def missing(text: pa.ChunkedArray, spelling: Spelling) -> pa.ChunkedArray:
    """Return which cells are missing, in a column of numbers or dates.

    Args:
        text: cells, as `text_of` returns them.
    """
    if spelling.missing:
        return pc.is_in(text, pa.array([*spelling.missing, ""], pa.string()))
    return pc.is_in(pc.utf8_lower(text), pa.array(sorted(MISSING), pa.string()))


def as_numbers(column: pa.ChunkedArray, spelling: Spelling) -> tuple[np.ndarray, list[int]]:
    """Return float64 values, NaN for missing ones, and the rows whose value is no finite number."""
    if not is_text(column):
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            return np.full(len(column), np.nan), pc.indices_nonzero(pc.is_valid(column)).to_pylist()
        if column.type in (pa.float32(), pa.float16()):  # 0.1 is 0.1, as a CSV would have it, not 0.10000000149
            column = column.cast(pa.string())
        found = _to_numpy(column.cast(pa.float64()))
        blank = np.isnan(found)
    elif (quick := bare_numbers(text := text_of(column), spelling)) is not None:
        found = _to_numpy(quick)
        blank = np.isnan(found)
    else:
        there = pc.if_else(missing(text, spelling), None, text)
        blank = _to_numpy(pc.is_null(there)).astype(bool)
        found = _to_numpy(plain_numbers(there, spelling))
    bad = (np.isnan(found) & ~blank) | np.isinf(found)
    return np.where(np.isinf(found), np.nan, found) if bad.any() else found, np.flatnonzero(bad).tolist()


def bare_numbers(text: pa.ChunkedArray, spelling: Spelling) -> pa.ChunkedArray | None:
    """Return cells as float64, null for empty ones, if all are written as Python writes numbers; else None."""
    if not spelling.is_plain or spelling.missing:
        return None
    try:
        return pc.if_else(pc.equal(text, ""), None, text).cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def comparable(column: pa.ChunkedArray) -> Any:
    """Return cells as float64 or as categories, such that cells of one meaning are equal in all formats."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return as_numbers(column, PLAIN)[0]
    if is_text(column) and (numbers := bare_numbers(text_of(column), PLAIN)) is not None:
        return _to_numpy(numbers)
    return as_categories(column, truth)


def as_categories(column: pa.ChunkedArray, meaning: Callable[[str], str]) -> Any:
    """Return cells as categories, by what each distinct word means; '' for missing ones."""
    encoded = text_of(column).combine_chunks().dictionary_encode()
    meant = [meaning(word) for word in encoded.dictionary.to_pylist()]
    kept = sorted({*meant})
    place = {word: position for position, word in enumerate(kept)}
    codes = np.array([place[word] for word in meant], np.int64)[np.asarray(encoded.indices)]
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(kept))


def plain_numbers(text: pa.ChunkedArray, spelling: Spelling) -> pa.ChunkedArray:
    """Return cells as float64, null for what is no number as it is spelled."""
    if spelling.is_plain:
        try:
            return text.cast(pa.float64())
        except pa.ArrowInvalid:
            pass
    text = with_plain_signs(text)
    if spelling.percent:
        has_sign = pc.match_substring_regex(text, r"%$")
        text = pc.if_else(has_sign, pc.replace_substring_regex(text, r"\s*%$", ""), None)
    text = pc.if_else(pc.match_substring_regex(text, spelling.pattern), text, None)
    if spelling.thousands:
        text = pc.replace_substring(text, spelling.thousands, "")
    if spelling.decimal == ",":
        text = pc.replace_substring(text, ",", ".")
    return text.cast(pa.float64())


def with_plain_signs(text: pa.ChunkedArray) -> pa.ChunkedArray:
    if pc.all(pc.string_is_ascii(text)).as_py() in (True, None):
        return text
    for written, plain in SIGNS.items():
        text = pc.replace_substring(text, written, plain)
    return text


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)


def as_dates(column: pa.ChunkedArray, spelling: Spelling) -> tuple[list[np.ndarray], list[int]]:
    """Return `DATE_PARTS` as float64 columns, NaN for missing ones, and the rows whose value is no date."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        there = _to_numpy(pc.is_valid(column)).astype(bool)
        found = pd.to_datetime(pd.Series(column.cast(pa.timestamp("us"), safe=False).to_pandas()), utc=True)
    else:
        text = text_of(column)
        there = ~_to_numpy(missing(text, spelling)).astype(bool)
        found = parse_dates(text, spelling.date)
    bad = np.flatnonzero(found.isna().to_numpy() & there).tolist()
    found = found.dt.as_unit("s")
    days = (found - pd.Timestamp("1970-01-01", tz="UTC").as_unit("s")) / pd.Timedelta(days=1)
    parts = (days, found.dt.year, found.dt.month, found.dt.day_of_week, found.dt.day_of_year)
    return [part.to_numpy(float, na_value=np.nan) for part in parts], bad


def parse_dates(text: pa.ChunkedArray, date_format: str) -> pd.Series:
    """Return cells as times, NaT for what is none.

    Args:
        text: cells, as `text_of` returns them.
        date_format: as of `strptime`; '' for ISO 8601: year, month and day, and maybe a time.
    """
    values = pd.Series(text.to_pandas(), dtype=object)
    if not date_format:
        values = values.where(pc.match_substring_regex(text, ISO).to_pandas())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats without a year and the like, which are asked for on purpose
        found: Any = pd.to_datetime(values, errors="coerce", format=date_format or "ISO8601", utc=True)
    return found


def some(rows: Sequence[object] | np.ndarray) -> str:
    """Return the first few rows."""
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
