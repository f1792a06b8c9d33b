"""Tables that name images: CSV, TSV or Parquet with a column of paths, relative to the table's own folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from src.configs.errors import InputError
from src.datamodules.images.listing import Listing
from src.datamodules.tables.table_files import SUFFIXES, read, require_column
from src.datamodules.tables.values import some, words


@dataclass(frozen=True, eq=False)
class PathTable:
    """Rows of a table, and the image file of each."""

    frame: pd.DataFrame
    files: Listing
    """Their names are the cells as written."""


def is_table(given: object) -> bool:
    """Return whether an input is a table by its name."""
    return isinstance(given, Path) and given.suffix.lower() in SUFFIXES and not given.is_dir()


def read_path_table(path: Path, column: str, as_written: Sequence[str] = ()) -> PathTable:
    """Read a table of images.

    Args:
        path: of the table.
        column: has the paths.
        as_written: further columns whose cells are read as they are written: 001 is no 1.

    Raises:
        InputError: it cannot be read, has no such column, an empty cell there, or a file outside its folder.
    """
    frame = read(path, (column, *as_written))
    require_column(frame, column, "--path-column", f" in {path}")
    names = words(frame[column])
    if empty := [row for row, name in enumerate(names) if not name]:
        raise InputError(
            f"{path}: {len(empty)} cells of column {column} are empty (rows {some(empty)}, counted from 0). Fill or "
            "remove them."
        )
    if outside := [row for row, name in enumerate(names) if _leaves(name, path.parent)]:
        raise InputError(
            f"{path}: {len(outside)} paths of column {column} leave the table's folder: "
            f"{', '.join(repr(names[row]) for row in outside[:3])} (rows {some(outside)}, counted from 0). Put the "
            "table into a folder above the images, or link their folder into its own."
        )
    return PathTable(frame, Listing(path.parent, names))


def _leaves(name: str, folder: Path) -> bool:
    """Return whether a path leads out of a folder as it is written; where links lead is the user's choice."""
    if ".." not in name and not name.startswith("/") and ":" not in name:  # of a million names nearly all
        return False
    return not any(
        Path(os.path.normpath(above / name)).is_relative_to(os.path.normpath(above))
        for above in (folder.absolute(), folder.resolve())
    )
