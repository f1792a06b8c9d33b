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
    folders = [os.path.abspath(path.parent), os.path.realpath(path.parent)]  # noqa: PTH100  # links stay links
    if outside := [row for row, name in enumerate(names) if not _is_inside(name, folders)]:
        raise InputError(
            f"{path}: {len(outside)} paths of column {column} leave the table's folder: "
            f"{', '.join(repr(names[row]) for row in outside[:3])} (rows {some(outside)}, counted from 0). Put the "
            "table into a folder above the images, or link their folder into its own."
        )
    return PathTable(frame, Listing(path.parent, names))


def _is_inside(name: str, folders: Sequence[str]) -> bool:
    if ".." not in name and not Path(name).is_absolute():
        return True
    return any(
        os.path.normpath(os.path.join(folder, name)).startswith(os.path.join(folder, ""))  # noqa: PTH118
        for folder in folders
    )
