"""Files of tables: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import io
import itertools
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from src.configs.errors import InputError, did_you_mean
from src.datamodules.capabilities import PredictionInput

SUFFIXES = (".csv", ".tsv", ".parquet")
STDIN = Path("-")
NESTED = (list, dict, tuple, np.ndarray)


def read(path: Path, categories: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table.

    Args:
        path: CSV, TSV or Parquet, or - for standard input.
        categories: columns whose values are read as they are written: 001 is no 1.

    Raises:
        InputError: no such file, no table's suffix, or what cannot be read; names the file, and the line where known.
    """
    suffix = path.suffix.lower()
    if path != STDIN and suffix not in SUFFIXES:
        raise InputError(f"{path}: not a table. Expected one of {', '.join(SUFFIXES)}.")
    try:
        if suffix == ".parquet":
            with open(path, "rb") as file:  # pyarrow takes no path that is not UTF-8
                frame = pd.read_parquet(file)
            objects = [name for name in frame.columns if frame[name].dtype == object]
            nested = [name for name in objects if frame[name].map(lambda v: isinstance(v, NESTED)).any()]
            if nested:
                raise InputError(f"{path}: column {nested[0]} has lists or records for values.")
        elif path == STDIN:
            frame = _read_csv(io.StringIO(sys.stdin.read()), path, categories)
        else:
            with open(path, encoding="utf-8-sig") as file:
                frame = _read_csv(file, path, categories)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.") from error
    except Exception as error:  # pandas and pyarrow raise a dozen kinds for damaged files
        raise InputError(f"{path}: cannot be read as a table: {str(error).strip()}") from error
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def _read_csv(file: TextIO, path: Path, categories: Sequence[str]) -> pd.DataFrame:
    sep = "\t" if path.suffix.lower() == ".tsv" else delimiter(file.readline())
    file.seek(0)
    header, first, *_ = [*itertools.islice(csv.reader(file, delimiter=sep), 2), [], []]
    if repeated := [name for name, count in Counter(map(str.strip, header)).items() if count > 1]:
        raise InputError(f"{path}: two columns are called {repeated[0]}.")
    if any(first[len(header) :]):
        raise InputError(f"{path}: the first row has {len(first)} fields, but the header {len(header)}.")
    file.seek(0)
    return pd.read_csv(file, sep=sep, index_col=False, dtype=dict.fromkeys(categories, str))


def delimiter(header: str) -> str:
    """Return what stands between the fields of a CSV's header most often: a comma, a semicolon or a tab."""
    header = re.sub('"[^"]*"', "", header)
    return max(",;\t", key=header.count)


def require_column(frame: pd.DataFrame, name: str, flag: str, where: str = "") -> None:
    """Raise an InputError that names the flag where a table lacks a column."""
    if name not in frame.columns:
        hint = did_you_mean(name, list(frame.columns))
        raise InputError(f"{flag} {name}: no such column{where}.{hint} There: {', '.join(frame.columns)}.")


def given_table(given: PredictionInput, categories: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """Return the table of a prediction's input, and how errors call it.

    Args:
        given: a file, or a table in memory.
        categories: as for `read`.

    Raises:
        InputError: it is neither, or two columns have one name.
    """
    if isinstance(given, str | Path):
        return read(Path(given), categories), str(given)
    if not isinstance(given, pd.DataFrame):
        raise InputError(f"a {type(given).__name__}: the run predicts rows of tables. Give files or a DataFrame.")
    frame = given.set_axis([str(name).strip() for name in given.columns], axis=1)
    if not frame.columns.is_unique:
        raise InputError(f"the table: two columns are called {frame.columns[frame.columns.duplicated()][0]}.")
    return frame, "the table"
