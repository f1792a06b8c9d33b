"""Tables that name images: CSV, JSON lines or Parquet with a column of paths, relative to the table's own folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from src.configs.errors import InputError
from src.configs.table import Csv
from src.configs.words import word
from src.datamodules.headers import require_column
from src.datamodules.images.listing import Listing
from src.datamodules.tables.table_files import read
from src.datamodules.tables.values import some
from src.resources.files import as_on_disk


@dataclass(frozen=True, eq=False)
class PathTable:
    """Rows of a table, and the image file of each."""

    table: pa.Table
    files: Listing
    """Their names are the cells as written."""


def read_path_table(path: Path, column: str, how: Csv, notes: list[str]) -> PathTable:
    """Read a table of images.

    Args:
        path: of the table.
        column: has the paths.
        how: how a CSV is written.
        notes: what the reader should know of the file is added here.

    Raises:
        InputError: it cannot be read, has no such column, an empty cell there, or a file outside its folder.
    """
    table = read(path, how, notes)
    require_column(table.column_names, column, "--path-column", f" in {path}")
    names = [as_on_disk(word(cell)) for cell in table[column].to_pylist()]
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
    return PathTable(table, Listing(path.parent, names))


def _leaves(name: str, folder: Path) -> bool:
    """Return whether a path leads out of a folder as it is written; where links lead is the user's choice."""
    if ".." not in name and not name.startswith("/") and ":" not in name:  # of a million names nearly all
        return False
    return not any(
        Path(os.path.normpath(above / name)).is_relative_to(os.path.normpath(above))
        for above in (folder.absolute(), folder.resolve())
    )
