"""Lists of examples to leave out: CSV `id,split,why`, written by `scripts/check_data.py --fix` or by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.configs.errors import InputError
from src.datamodules.sources import Divisible, LoadedSplits
from src.datamodules.split_names import SPLITS
from src.resources.files import atomic_write


class Entry(NamedTuple):
    """One example to leave out."""

    id: str
    """As in `predictions_<split>.csv`: an image's path below the data folder, a row's `id`, or the row."""
    split: str
    """Where it stood without cross-validation: rows of two files may have the same number."""
    why: str


def read(path: Path) -> list[Entry]:
    """Return the entries of a list.

    Raises:
        InputError: no such file, or one that is no list; the line is named.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"--quarantine {path}: cannot be read (it is no file).")
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


def leave_out(
    listed: Sequence[Entry], path: str, found: LoadedSplits[Any], data: Divisible
) -> tuple[LoadedSplits[Any], list[Any], str]:
    """Return what was found without the examples of a list, what it took out of each split, and a note of how many.

    Args:
        listed: those to leave out.
        path: of the list, for the note and errors.
        found: what a source served.
        data: names the examples.

    Raises:
        InputError: as `staying`.
    """
    names = {split: data.names_of(samples, found) for split, samples in found.samples.items()}
    stays = staying(listed, names, f"--quarantine {path}", found.source)
    samples = {split: data.subset(found.samples[split], np.flatnonzero(stays[split])) for split in names}
    left_out = [data.subset(found.samples[split], np.flatnonzero(~stays[split])) for split in names]
    counts = {split: len(out) for split, out in zip(names, left_out, strict=True) if len(out)}
    shown = ", ".join(f"{split} {count}" for split, count in counts.items())
    whole = found.whole
    if whole is not None:
        # Rows of a test file of its own may have the same names as those of `whole`, which train and val are from.
        of_whole = SPLITS if len(whole) == sum(map(len, found.samples.values())) else ("train", "val")
        kept = {names[split][i] for split in of_whole if split in names for i in stays[split].nonzero()[0].tolist()}
        whole = data.subset(whole, [i for i, name in enumerate(data.names_of(whole, found)) if name in kept])
    note = f"examples left out by {path}: {shown or 'none, it is empty'}"
    return replace(found, samples=samples, whole=whole), left_out, note


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
