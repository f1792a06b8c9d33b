"""Lists of examples to leave out: CSV `id,split,why`, written by `scripts/check_data.py --fix` or by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.configs.errors import InputError
from src.resources.files import atomic_write

SPLITS = ("train", "val", "test")


class Entry(NamedTuple):
    """One example to leave out."""

    id: str
    """As in `predictions_<split>.csv`: a picture's path below the data folder, a row's `id`, or the row."""
    split: str
    """Where it stood without cross-validation: rows of two files may have the same number."""
    why: str


def read(path: Path) -> list[Entry]:
    """Return the entries of a list.

    Raises:
        InputError: no such file, or one that is no list; the line is named.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # a line break within a quoted id stays as it is
    except FileNotFoundError:
        raise InputError(
            f"--quarantine {path}: no such file. Write one with `python scripts/check_data.py EXPERIMENT --fix`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--quarantine {path}: cannot be read ({error}).") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(rows, [])
        if tuple(header) != Entry._fields:
            raise InputError(
                f"--quarantine {path}: no list of examples. Its first line must be {','.join(Entry._fields)}."
            )
        return [_entry(row, f"--quarantine {path}, line {rows.line_num}") for row in rows if row]
    except csv.Error as error:
        raise InputError(f"--quarantine {path}, line {rows.line_num}: broken quoting ({error}).") from None


def _entry(row: Sequence[str], where: str) -> Entry:
    if len(row) != len(Entry._fields):
        raise InputError(f"{where}: {len(row)} fields, but {','.join(Entry._fields)} are expected.")
    if row[1] not in SPLITS:
        raise InputError(f"{where}: the split is {row[1]!r}, but should be one of {', '.join(SPLITS)}.")
    return Entry(*row)


def staying(
    listed: Sequence[Entry], names: Mapping[str, Sequence[str]], where: str, source: str
) -> dict[str, np.ndarray]:
    """Return for each split which of its examples stay, bool [examples].

    Args:
        listed: those that do not.
        names: split -> ids.
        where, source: name the list and the data in errors.

    Raises:
        InputError: the list names what is not there, or it leaves nothing of a split.
    """
    there = {split: set(ids) for split, ids in names.items()}
    unknown = [f"{entry.id} of {entry.split}" for entry in listed if entry.id not in there.get(entry.split, ())]
    if unknown:
        raise InputError(
            f"{where}: {len(unknown)} of its {len(listed)} examples are not in the data ({source}): "
            f"{', '.join(unknown[:3])}. It is of other data, or they are gone: then remove these lines."
        )
    unwanted = {(entry.split, entry.id) for entry in listed}
    stays = {split: np.array([(split, name) not in unwanted for name in ids], bool) for split, ids in names.items()}
    for split, found in stays.items():
        if not found.any():
            raise InputError(f"{where}: nothing is left of {split}.")
    return stays


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write a list, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Entry._fields)
    writer.writerows(entries)
    try:
        atomic_write(path, file.getvalue())
    except OSError as error:
        raise InputError(f"--list {path}: cannot be written ({error.strerror}). Name another file.") from error
