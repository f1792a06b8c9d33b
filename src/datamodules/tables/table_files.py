"""Tables from files and from memory: CSV, JSON lines and Parquet, as columns of Arrow."""

from __future__ import annotations

import io
import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from src.configs.errors import InputError
from src.configs.table import Csv
from src.datamodules.headers import require_suffix
from src.datamodules.json_lines import LINES, json_rows
from src.datamodules.preparation import PredictionInput
from src.datamodules.row_files import DELIMITERS, Layout, clean, csv_rows, find_layout, open_bytes
from src.datamodules.tables.cells import text_of

STDIN = Path("-")
AT_ONCE = 10_000
"""Rows of text that become Arrow's at a time."""
DELIMITER = b"delimiter"
"""Key of the schema's metadata: what stood between the fields of a CSV file."""


def read(
    path: Path, how: Csv | None = None, notes: list[str] | None = None, *, ignored: Sequence[str] = ()
) -> pa.Table:
    """Read a table. The cells of CSV and JSON lines are text as written, '' where there is none; Parquet has types.

    Args:
        path: CSV, TSV, JSON lines or Parquet; - for a CSV on standard input.
        how: how a CSV is written.
        notes: what the reader should know of the file is added here.
        ignored: columns that may hold lists and records, which are read as missing.

    Raises:
        InputError: no such file, no table's suffix, or what cannot be read; names the file, and the line where known.
    """
    how, notes, suffix = how or Csv(), [] if notes is None else notes, path.suffix.lower()
    if path == STDIN:
        return read_csv(io.BytesIO(sys.stdin.buffer.read()), path, how, notes)
    require_suffix(path)
    with open_bytes(path) as file:
        if suffix in LINES:
            return _read_json(file, path, notes, ignored)
        if suffix in DELIMITERS:
            return read_csv(file, path, how, notes)
        return _read_parquet(file, path, notes, ignored)


def read_csv(file: IO[bytes], path: Path, how: Csv, notes: list[str]) -> pa.Table:
    """Read an open CSV file; errors call it `path`. See `read`."""
    layout = find_layout(file, path, how, notes)
    quoted = how.quoting == "double" and _has_quotes(file)
    if quoted:
        for _ in csv_rows(file, path, how, notes, layout):  # Arrow does not refuse stray quotes
            pass
    strings = dict.fromkeys(layout.names, pa.string())
    file.seek(0)
    try:
        table = arrow_csv.read_csv(
            file,
            arrow_csv.ReadOptions(skip_rows=layout.lines, column_names=layout.names, encoding=layout.encoding),
            arrow_csv.ParseOptions(
                delimiter=layout.delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
            ),
            arrow_csv.ConvertOptions(column_types=strings, strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, UnicodeError):  # a row that Arrow refuses: it may be a good one, else its line is named
        table = _columns(file, path, how, [] if quoted else notes, layout)
    return table.replace_schema_metadata({DELIMITER: layout.delimiter.encode()})


def _has_quotes(file: IO[bytes]) -> bool:
    file.seek(0)
    return any(b'"' in part for part in iter(lambda: file.read(1 << 20), b""))


def _columns(file: IO[bytes], path: Path, how: Csv, notes: list[str], layout: Layout) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in layout.names])
    rows = (row for _, row in csv_rows(file, path, how, notes, layout))
    parts = [pa.table([*map(pa.array, zip(*part, strict=True))], schema) for part in _batched(rows)]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _batched(rows: Iterator[Any]) -> Iterator[list[Any]]:
    return iter(lambda: [*itertools.islice(rows, AT_ONCE)], [])


def _read_json(file: IO[bytes], path: Path, notes: list[str], ignored: Sequence[str]) -> pa.Table:
    return from_rows(json_rows(file, path), str(path), notes, ignored)


def from_rows(rows: Iterable[Mapping[str, Any]], where: str, notes: list[str], ignored: Sequence[str] = ()) -> pa.Table:
    """Return rows that `json_lines` has parsed as a table of text; see `read`.

    Raises:
        InputError: there is none, or a value is a list or a record.
    """
    parts: list[pa.Table] = []
    there: Counter[str] = Counter()
    line = 0
    for part in _batched(iter(rows)):
        for row in part:
            line += 1
            for name in [name for name, value in row.items() if isinstance(value, list | dict)]:
                row[name] = _nested(where, name, ignored)
        names = dict.fromkeys(name for row in part for name in row)
        there.update(name for row in part for name in row)
        columns = {name: ["" if (value := row.get(name)) is None else value for row in part] for name in names}
        parts.append(pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}))
    if not parts:
        raise InputError(f"{where}: the file is empty.")
    if sparse := [f"{name} ({line - count})" for name, count in there.items() if count < line]:
        shown = ", ".join(sparse[:5]) + (", ..." if len(sparse) > 5 else "")
        notes.append(f"{where}: some of the {line} rows lack a key, which counts as missing: {shown}")
    table = pa.concat_tables(parts, promote_options="default")
    return _named(table, where)


def _nested(where: object, name: str, ignored: Sequence[str]) -> None:
    if name not in ignored:
        raise InputError(
            f"{where}: column {name} has lists or records for values. Write a column for each, or leave it out: "
            f"--columns.ignored {shlex.quote(name)}."
        )


def _read_parquet(file: IO[bytes], path: Path, notes: list[str], ignored: Sequence[str]) -> pa.Table:
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {str(error).strip()}") from error
    indices = [name for name in table.column_names if name.startswith("__index_level_")]
    if indices:
        notes.append(f"{path}: pandas' index without a name is left out")
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if pa.types.is_nested(kind):
            _nested(path, clean(name), ignored)
    return _named(table.drop_columns(indices), path)


def _named(table: pa.Table, where: object) -> pa.Table:
    """Return a table of plain types whose columns have names of their own, without blanks around them."""
    names = [clean(name) or f"Unnamed: {i}" for i, name in enumerate(table.column_names)]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{where}: two columns are called {repeated[0]}. Rename one.")
    return pa.table([_plain(column) for column in table.columns], names)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as strings, numbers, truth values or times; any other type as strings."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp, pa.types.is_date)
    if pa.types.is_string(kind) or any(is_kind(kind) for is_kind in plain):
        return column
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_nested(kind):
        return _text([None] * len(column))
    if pa.types.is_null(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    return _text([None if value is None else str(value) for value in column.to_pylist()])


def _text(cells: Sequence[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.string())])


def from_frame(frame: pd.DataFrame, where: str = "the table") -> pa.Table:
    """Return a table in memory, as `read` returns one of a file. Its index is not read.

    Raises:
        InputError: two columns have one name, or one holds lists or records.
    """
    columns: list[pa.ChunkedArray] = []
    for position, name in enumerate(frame.columns):
        values = frame.iloc[:, position]
        try:
            column = pa.chunked_array([pa.array(values, from_pandas=True)])
        except (pa.ArrowException, TypeError):  # values of several types
            column = _text([None if absent else str(v) for v, absent in zip(values, values.isna(), strict=True)])
        if pa.types.is_nested(column.type):
            _nested(where, str(name), ())
        columns.append(column)
    return _named(pa.table(columns, [str(name) for name in frame.columns]), where)


def stack(tables: Mapping[str, pa.Table], where: str, notes: list[str]) -> pa.Table:
    """Return the tables of all splits as one, with the columns of train; further ones are noted.

    Raises:
        InputError: a split lacks a column of train.
    """
    names = tables["train"].column_names
    known = {*names}
    for split, table in tables.items():
        there = {*(found := table.column_names)}
        if lacking := [name for name in names if name not in there]:
            raise InputError(f"{where}: {split} has no column {lacking[0]}, which train has.")
        if further := [name for name in found if name not in known]:
            notes.append(f"columns of {split} that train has not are not used: {', '.join(further)}")
    if len(tables) == 1:
        return tables["train"]
    return pa.table([_stacked([table[name] for table in tables.values()]) for name in names], names)


def _stacked(parts: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return the cells of several files as one column: of their common type, else as text."""
    kinds = {part.type for part in parts}
    if len(kinds) > 1:
        numeric = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)
        parts = [part.cast(pa.float64()) if numeric else text_of(part) for part in parts]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)


def given_table(given: PredictionInput, how: Csv, notes: list[str]) -> tuple[pa.Table, str]:
    """Return the table of a prediction's input, and how errors call it.

    Args:
        given: a file, or a table in memory.
        how: how a CSV is written.
        notes: as for `read`.

    Raises:
        InputError: it is neither, or two columns have one name.
    """
    if isinstance(given, str | Path):
        return read(Path(given), how, notes), str(given)
    if not isinstance(given, pd.DataFrame):
        raise InputError(f"a {type(given).__name__}: the run predicts rows of tables. Give files or a DataFrame.")
    return from_frame(given), "the table"
