"""The columns of table files, by their headers alone: quickly read, and without pandas or torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from src.configs.errors import InputError, did_you_mean
from src.configs.table import Columns, Csv
from src.datamodules.json_lines import LINES, json_rows
from src.datamodules.row_files import DELIMITERS, clean, find_layout, nfc, open_bytes

SUFFIXES = (*DELIMITERS, ".parquet", *LINES)
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
LOOKED_AT = 1000
"""Lines of a JSON file whose keys are its columns."""
SHOWN = 20
"""Columns that an error lists."""


def is_table(given: object) -> bool:
    """Return whether an input is a table by its name."""
    return isinstance(given, Path) and given.suffix.lower() in SUFFIXES and not given.is_dir()


def require_suffix(path: Path, where: str = "") -> None:
    """Raise an InputError where a file's name is none of a table."""
    if path.suffix.lower() in SPREADSHEETS:
        raise InputError(f"{where}{path}: not a table but a spreadsheet. Save the sheet as CSV (in Excel: CSV UTF-8).")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{where}{path}: not a table. Expected one of {', '.join(SUFFIXES)}.")


def column_names(path: Path, how: Csv) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        InputError: the file cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        from pyarrow import ArrowException, parquet

        with open_bytes(path) as file:
            try:
                return list(map(clean, parquet.read_schema(file).names))
            except (ArrowException, OSError, ValueError) as error:
                raise InputError(f"{path}: cannot be read as Parquet ({error}).") from None
    with open_bytes(path) as file:
        if path.suffix.lower() in LINES:
            rows = itertools.islice(json_rows(file, path), LOOKED_AT)
            return list(dict.fromkeys(name for row in rows for name in row))
        return [*find_layout(file, path, how, []).names]


def typed(name: str) -> str:
    """Return the name of a column as `column_names` has it, from the command line or a program.

    Under an ASCII locale Python escapes each byte of an argument that is no ASCII.
    """
    return nfc(name.encode(errors="surrogateescape").decode(errors="surrogateescape"))


def typed_columns(columns: Columns) -> Columns:
    """Return columns that a user names, each as `typed` has it."""
    several = {kind: tuple(map(typed, getattr(columns, kind))) for kind in ("number", "category", "date", "ignored")}
    return Columns(**several, group=typed(columns.group))


def require_column(there: Sequence[str], name: str, flag: str, where: str = "") -> None:
    """Raise an InputError that names the flag where a table lacks a column."""
    if typed(name) not in there:
        hint = did_you_mean(name, [*there])
        shown = ", ".join(there[:SHOWN]) + (f", and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
        raise InputError(f"{flag} {name}: no such column{where}.{hint} There: {shown}.")
