"""How the cells of a column are written as numbers or dates, found from training rows."""

# pyright: reportAttributeAccessIssue=false
# pyarrow makes its functions when it is imported.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from src.configs.table import Csv
from src.datamodules.tables.cells import is_text, text_of
from src.datamodules.tables.spelling import DATES, DAYS, MONTHS, NUMBERS, PLAIN, Spelling
from src.datamodules.tables.table_files import DELIMITER
from src.datamodules.tables.values import ISO, missing, parse_dates, with_plain_signs

MOSTLY = 0.95
"""Share of a column's values that have to be numbers, or dates, for it to be such a column."""
LOOKED_AT = 10_000
"""Rows by which the decimal sign of ambiguous columns is decided."""
DATE_LIKE = r"^(\d{1,4}[-/. ]+\w{1,9}\.?[-/. ,]+\d{2,4}|[A-Za-z]{3,9}\.? \d{1,2},? \d{4})\b"


def number_spelling(
    text: pa.ChunkedArray, counts: np.ndarray, spelling: Spelling, how: Csv, decimal: str
) -> tuple[Spelling, int]:
    """Return how most of some distinct cells are written as numbers, and how many cells that reads."""
    if how.decimal != ",":
        try:
            text.cast(pa.float64())
        except pa.ArrowInvalid:
            pass
        else:
            if how.decimal == "." or decimal != "," or not _any(pc.match_substring(text, ".")):
                return spelling, int(counts.sum())
    if not _any(pc.match_substring_regex(text, r"\d")):
        return spelling, 0
    fitting, right, percent = _fitting(text, counts, how)
    return replace(_chosen(fitting, decimal), percent=percent, missing=spelling.missing), right


def _any(found: pa.ChunkedArray) -> bool:
    return bool(pc.any(found).as_py())


def _fitting(text: pa.ChunkedArray, counts: np.ndarray, how: Csv) -> tuple[list[Spelling], int, bool]:
    """Return the ways to write numbers that read most of the cells, how many cells that is, and whether as percent."""
    text = with_plain_signs(text)
    has_sign = np.asarray(pc.ends_with(text, "%"))
    percent = bool(counts[has_sign].sum() >= MOSTLY * counts.sum() > 0)
    if percent:
        text, counts = pc.replace_substring_regex(text.filter(pa.array(has_sign)), r"\s*%$", ""), counts[has_sign]
    ways = [way for way in NUMBERS if how.decimal in ("auto", way.decimal)]
    reads = [int(counts[np.asarray(pc.match_substring_regex(text, way.pattern))].sum()) for way in ways]
    return [way for way, right in zip(ways, reads, strict=True) if right == max(reads)], max(reads), percent


def _chosen(fitting: Sequence[Spelling], decimal: str) -> Spelling:
    """Return the spelling of numbers that several ways read alike, such as 1,234."""
    signs = {way.decimal for way in fitting}
    if len(signs) > 1 and not {(".", ""), (",", "")} <= {(way.decimal, way.thousands) for way in fitting}:
        wanted = decimal if decimal in signs else "."
        return next(way for way in fitting if way.decimal == wanted)
    return fitting[0]


def decimal_sign(table: pa.Table, how: Csv) -> str:
    """Return the decimal sign by which to read columns that leave it open, such as one of 1,234 and 5,678 alone.

    It is the one of the other columns. Where these do not tell, either, it is a comma in a file whose fields are
    between semicolons.

    Args:
        table: rows to train on.
    """
    if how.decimal != "auto":
        return how.decimal
    signs = set[str]()
    columns = [cells for cells in table.slice(0, LOOKED_AT).columns if is_text(cells)]
    by_semicolons = (table.schema.metadata or {}).get(DELIMITER) == b";"
    if not by_semicolons and not any(_any(pc.match_substring(cells, ",")) for cells in columns):
        return "."
    for cells in columns:
        counted = pc.value_counts(text_of(cells))
        text = pa.chunked_array([counted.field("values")])
        there = pc.invert(missing(text, PLAIN))
        text, counts = text.filter(there), counted.field("counts").to_numpy()[np.asarray(there)]
        fitting, right, _ = _fitting(text, counts, how)
        if right >= MOSTLY * counts.sum() > 0:
            found = {way.decimal for way in fitting}
            signs |= found if len(found) == 1 else set()
    if len(signs) == 1:
        return signs.pop()
    return "," if not signs and by_semicolons else ""


def date_spelling(text: pa.ChunkedArray, counts: np.ndarray, spelling: Spelling, how: Csv) -> tuple[Spelling, int]:
    """Return how most of some distinct cells are written as dates, and how many cells that reads."""

    def right(date_format: str) -> int:
        return int(counts[parse_dates(text, date_format).notna().to_numpy()].sum())

    iso = np.asarray(pc.match_substring_regex(text, ISO)).astype(bool)
    if len(text) == 0 or counts[iso].sum() >= MOSTLY * counts.sum():
        return spelling, right("")
    like = np.asarray(pc.match_substring_regex(text, DATE_LIKE)).astype(bool)
    if not (iso | like).any():
        return spelling, 0
    if counts[like].sum() < MOSTLY * counts.sum():
        return spelling, right("")
    sample = text.filter(pa.array(like)).slice(0, 200)
    few = [form for form in DATES if parse_dates(sample, form).notna().mean() > 1 - MOSTLY]
    reads = {form: right(form) for form in few}
    best = [form for form, count in reads.items() if count == max(reads.values())]
    if not best:
        return spelling, right("")
    return replace(spelling, date=_by_order(best, how)), reads[best[0]]


def _by_order(best: Sequence[str], how: Csv) -> str:
    """Return the format of dates that may be read with the day or with the month first."""
    month_first = [form for form in best if form.startswith(MONTHS)]
    day_first = [form for form in best if form.startswith(DAYS)]
    if how.dates != "auto" and month_first and day_first:
        return (day_first if how.dates == "day-first" else month_first)[0]
    return (month_first or best)[0]


def ambiguous_dates(cells: pa.ChunkedArray, how: Csv) -> bool:
    """Return whether every date of a column may be read with the day or with the month first."""
    parts = pc.extract_regex(pc.unique(text_of(cells)), r"^(?P<first>\d{1,2})/(?P<second>\d{1,2})/")
    both = [one for one in parts.to_pylist() if one]
    return how.dates == "auto" and all(int(one["first"]) <= 12 and int(one["second"]) <= 12 for one in both)
