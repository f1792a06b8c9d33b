"""What each column of a table is: a number, a date, a truth value, a category, or nothing for a model."""

# pyright: reportAttributeAccessIssue=false
# pyarrow makes its functions when it is imported.
from __future__ import annotations

import shlex
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from src.configs.errors import InputError, did_you_mean
from src.configs.table import Columns, Csv
from src.configs.words import FALSE, TRUE
from src.datamodules.headers import require_column, typed, typed_columns
from src.datamodules.ids import id_column
from src.datamodules.sources import split_files
from src.datamodules.tables.cells import is_text, text_of
from src.datamodules.tables.spelling import PLAIN, Kind, Spelling
from src.datamodules.tables.spelling_search import (
    MOSTLY,
    ambiguous_dates,
    date_spelling,
    decimal_sign,
    number_spelling,
)
from src.datamodules.tables.table_files import read
from src.datamodules.tables.values import as_dates, as_numbers, bare_numbers, missing, plain_numbers, some

MOST_NAMES = 0.5
"""Share of distinct values above which a column of words is a name, which tells nothing of other rows."""
CODE = r"^0\d+$"
"""A number with leading zeros: a code, such as a zip code."""
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that the model sees."""

    name: str
    kind: Kind
    spelling: Spelling = PLAIN


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table are; its text is a line for each."""

    columns: tuple[Column, ...]
    left_out: Mapping[str, str]
    """Column -> why the model does not see it."""

    def summary(self) -> str:
        """Return one line: '12 numbers, 5 categories, 1 date (day first); left out: name (300 different words)'."""
        plural = {"number": "numbers", "date": "dates", "category": "categories", "boolean": "booleans"}
        parts: list[str] = []
        for kind, several in plural.items():
            of_kind = [column for column in self.columns if column.kind == kind]
            spelled = Counter(text for column in of_kind if (text := str(column.spelling)))
            how = "; ".join(text if n == len(of_kind) else f"{text} in {n}" for text, n in spelled.items())
            if of_kind:
                parts.append(f"{len(of_kind)} {several if len(of_kind) > 1 else kind}{f' ({how})' if how else ''}")
        names = [name if why == "ignored" else f"{name} ({why})" for name, why in self.left_out.items()]
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return ", ".join(parts) + (f"; left out: {', '.join(names[:SHOWN])}{more}" if names else "")

    def to_json(self) -> dict[str, Any]:
        """Return the summary, and the text as lines."""
        return {"summary": self.summary(), "each": str(self).splitlines()}

    def __str__(self) -> str:
        rows = [(one.name, one.kind, str(one.spelling)) for one in self.columns]
        rows += [(name, "left out", why) for name, why in self.left_out.items()]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {how}".rstrip() for name, kind, how in rows)


def columns(
    path: str | Path, *, target: str | Sequence[str] = (), columns: Columns | None = None, csv: Csv | None = None
) -> TableColumns:
    """Return what a run would take the columns of a table for; what is odd is a warning.

    A run decides it from its training rows, a part of the table where the data are not divided into files.

    Args:
        path: a table, or a folder of train, val and test files. Of a folder, train is read.
        target: the column, or columns, to predict.
        columns: kinds that are not to be inferred.
        csv: how cells are written, where that is not to be found out.

    Raises:
        InputError: no such file or column, or a table that cannot be read.

    Examples:
        >>> print(leyden.columns("houses.csv", target="price"))
        area   number
        price  left out  the target
        sold   date      day first
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file or folder.")
    notes: list[str] = []
    csv, columns = csv or Csv(), typed_columns(columns or Columns())
    table = read(split_files(Path(path), notes)["train"], csv, notes, ignored=columns.ignored)
    targets = [target] if isinstance(target, str) else target
    for name in targets:
        require_column(table.column_names, name, "target")
    left_out = not_features(table.column_names, [*map(typed, targets)])
    found = infer(table, columns, csv, notes, leave_out=left_out, decimal=decimal_sign(table, csv))
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return found


def not_features(names: Sequence[str], targets: Sequence[str]) -> dict[str, str]:
    """Return the columns that the model never sees, and why: the targets and the ids."""
    name = id_column(names)
    return dict.fromkeys(targets, "the target") | ({name: "names the rows"} if name else {})


def infer(
    table: pa.Table,
    given: Columns,
    how: Csv,
    notes: list[str],
    *,
    leave_out: Mapping[str, str] | None = None,
    decimal: str = "",
    rows: Sequence[object] | None = None,
) -> TableColumns:
    """Return what each column is; what is odd is added to `notes`.

    Args:
        table: the training rows.
        given: kinds that the user has named.
        how: how cells are written, where the user has said so.
        leave_out: further columns that are not for the model, and why: the target, ids.
        decimal: sign that numbers such as 1,234 are read with; see `decimal_sign`.
        rows: names of the rows, for errors; by default their numbers.

    Raises:
        InputError: a named column is not there, or has a value that is not of its kind; infinite numbers; no column is
            left.
    """
    rows = range(len(table)) if rows is None else rows
    named: dict[str, Kind] = {}
    for kind in ("number", "category", "date"):
        named |= dict.fromkeys(getattr(given, kind), kind)
    require_columns(table.column_names, given)
    leave_out = {**(leave_out or {}), **dict.fromkeys(given.ignored, "ignored")}
    if given.group:
        leave_out[given.group] = "groups the rows"
    columns: list[Column] = []
    left_out = dict[str, str]()
    for name in table.column_names:
        if name in leave_out:
            left_out[name] = leave_out[name]
            continue
        cells = table[name]
        if always := _constant(cells):
            left_out[name] = always
            continue
        kind, spelling, bad = guess(cells, how, decimal, named.get(name))
        if kind == "name":
            left_out[name] = f"{pc.count_distinct(cells).as_py()} different words"
            continue
        column = Column(name=name, kind=kind, spelling=spelling)
        if kind == "number":
            _refuse_infinite(column, cells, rows)
        if bad:
            _report(column, cells, rows, notes, strict=name in named)
        if "/" in spelling.date and ambiguous_dates(cells, how):
            first = "day" if spelling.date.startswith("%d") else "month"
            notes.append(
                f"column {name}: whether day or month comes first cannot be told from its dates; read as {first} "
                "first (--csv.dates day-first or month-first)"
            )
        columns.append(column)
    if not columns:
        raise InputError("no column is left that the model could see: give the table more, or --columns.")
    return TableColumns(tuple(columns), left_out)


def require_columns(there: Sequence[str], given: Columns) -> None:
    """Raise an InputError where the user names a column that is not there."""
    for name in (*given.number, *given.category, *given.date, *given.ignored, *filter(None, [given.group])):
        if name not in there:
            hint = did_you_mean(name, [*there])
            raise InputError(f"--columns: no column {name}.{hint} There: {', '.join(there[:20])}.")


def _constant(cells: pa.ChunkedArray) -> str:
    """Return 'always 5' for a column with one value, missing ones being one too; '' for any other."""
    if is_text(cells):
        cells = text_of(cells)
    values = pc.unique(pc.if_else(pc.is_null(cells, nan_is_null=True), None, cells).slice(0, 1000))
    if len(values) > 1 or (len(cells) > 1000 and len(values := pc.unique(cells)) > 1):
        return ""
    value = values[0].as_py() if len(values) else None
    return "always missing" if value in (None, "") else f"always {value}"


def guess(
    cells: pa.ChunkedArray, how: Csv, decimal: str = "", wanted: Kind | None = None
) -> tuple[Kind, Spelling, bool]:
    """Return a column's kind, its spelling, and whether some values are not of the kind.

    Args:
        wanted: the kind, where the user has named it.
    """
    if not is_text(cells):
        if wanted == "category":
            return "category", PLAIN, False
        if pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type):
            return (wanted or "date"), PLAIN, wanted == "number"
        if pa.types.is_boolean(cells.type):
            return (wanted or "boolean"), PLAIN, wanted == "date"
        return (wanted or "number"), PLAIN, wanted == "date"
    spelling = replace(PLAIN, missing=how.missing)
    if wanted == "category":
        return "category", spelling, False
    text = text_of(cells)
    point = how.decimal != "," and decimal != "," and not how.missing
    if wanted in (None, "number") and point and bare_numbers(text, PLAIN) is not None and not _has_codes(text):
        return "number", PLAIN, False  # as most columns are: seen without a look at each distinct value
    counted = pc.value_counts(text)
    words, counts = counted.field("values"), counted.field("counts").to_numpy()
    text = pa.chunked_array([words])
    there = ~np.asarray(missing(text, spelling))
    total = counts[there].sum()
    text, counts = text.filter(pa.array(there)), counts[there]
    if wanted == "number" or (wanted is None and not _has_codes(text)):
        found, right = number_spelling(text, counts, spelling, how, decimal)
        if wanted or right >= MOSTLY * total > 0:
            return "number", found, right < total
    if wanted in (None, "date"):
        found, right = date_spelling(text, counts, spelling, how)
        if wanted or right >= MOSTLY * total > 0:
            return "date", found, right < total
    folded = {word.casefold() for word in text.to_pylist()} if len(text) <= len(TRUE | FALSE) else set[str]()
    if folded and (folded <= {"true", "false"} or (folded <= TRUE | FALSE and folded & TRUE and folded & FALSE)):
        return "boolean", spelling, False
    different = pc.sum(pc.not_equal(words, "")).as_py() or 0
    return ("name" if different > max(20, MOST_NAMES * len(cells)) else "category"), spelling, False


def _has_codes(text: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring_regex(text.filter(pc.starts_with(text, "0")), CODE)).as_py())


def _refuse_infinite(column: Column, cells: pa.ChunkedArray, rows: Sequence[object]) -> None:
    if is_text(cells):
        numbers = plain_numbers(pc.if_else(pc.match_substring_regex(cells, r"(?i)^[+-]?inf"), cells, None), PLAIN)
    else:
        numbers = cells.cast(pa.float64())
    infinite = np.flatnonzero(np.asarray(pc.fill_null(pc.is_inf(numbers), False))).tolist()
    if infinite:
        shown = some([rows[row] for row in infinite])
        raise InputError(
            f"column {column.name}: {len(infinite)} infinite values (rows {shown}, counted from 0). "
            f"Empty them, or --columns.ignored {shlex.quote(column.name)}."
        )


def _report(column: Column, cells: pa.ChunkedArray, rows: Sequence[object], notes: list[str], *, strict: bool) -> None:
    """Note the values that are not of a column's kind; refuse them in a column that the user named."""
    _, bad = (as_numbers if column.kind == "number" else as_dates)(cells, column.spelling)
    if not bad:
        return
    shown = ", ".join(repr(cells[row].as_py()) for row in bad[:3])
    if strict:
        where = some([rows[row] for row in bad])
        raise InputError(
            f"column {column.name}: {len(bad)} values are no {column.kind}: {shown} (rows {where}, counted from 0). "
            f"Correct or empty them, or --columns.category {shlex.quote(column.name)}."
        )
    notes.append(f"column {column.name}: {len(bad)} values are no {column.kind} and count as missing: {shown}")
