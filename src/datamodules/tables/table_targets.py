"""The columns of a table that are to be predicted: checked and read."""

# pyright: reportAttributeAccessIssue=false
# pyarrow makes its functions when it is imported.
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from src.configs.errors import InputError
from src.configs.labels import LABEL_SEPARATOR
from src.configs.spec import TargetKind
from src.configs.table import Csv
from src.configs.words import word
from src.datamodules.headers import typed
from src.datamodules.tables.cells import text_of, words
from src.datamodules.tables.kinds import guess
from src.datamodules.tables.spelling import PLAIN, Spelling
from src.datamodules.tables.values import as_numbers, missing, some
from src.datamodules.targets import YES, Targets, other_reading, parse_targets

Rows = Sequence[str] | Sequence[int] | np.ndarray
"""Names of rows, for errors."""
UNLABELLED_LIMIT = 0.05
"""Greatest share of rows without target before the run stops."""


def target_columns(kind: TargetKind, target: str | Sequence[str]) -> tuple[str, ...]:
    """Return the columns that `target` names, each once.

    Raises:
        InputError: none, or several for what stands in one.
    """
    names = tuple(dict.fromkeys(map(typed, [target] if isinstance(target, str) else target)))
    if not names:
        raise InputError("--target: name a column, or several, one a label.")
    if len(names) > 1 and kind != "multi_label":
        raise InputError(f"--target {' '.join(names)}: several columns are several labels; this predicts {kind}.")
    return names


def target_spelling(kind: TargetKind, cells: pa.ChunkedArray, how: Csv, decimal: str = "") -> Spelling:
    """Return how a column to predict is written: numbers, or words."""
    return guess(cells, how, decimal, "number" if kind == "regression" else "category")[1]


def without_target(
    kind: TargetKind, cells: pa.ChunkedArray, name: str, spelling: Spelling, rows: Rows, notes: list[str]
) -> np.ndarray:
    """Return which rows have no target, bool [rows]; how many is added to `notes`. No label is a target too.

    Args:
        kind: what is predicted.
        cells: of the target's column.
        name: of the column.
        spelling: how its cells are written.
        rows: names of the rows, for errors.

    Raises:
        InputError: there are no rows, or too many have none.
    """
    if not len(cells):
        raise InputError(f"--target {name}: 0 of 0 rows have one; the table has a header alone.")
    if kind == "multi_label":
        return np.zeros(len(cells), bool)
    text = text_of(cells)
    absent = missing(text, spelling) if kind == "regression" else pc.is_in(text, pa.array(["", *spelling.missing]))
    without = np.asarray(absent)
    if without.mean() > UNLABELLED_LIMIT or without.all():
        raise InputError(
            f"--target {name}: {without.sum()} of {len(cells)} rows have none (rows "
            f"{some(np.array(rows)[without])}, counted from 0). Fill or remove them."
        )
    if without.any():
        notes.append(f"{without.sum()} of {len(cells)} rows have no {name} and are left out")
    return without


def read_targets(
    kind: TargetKind,
    table: pa.Table,
    names: Sequence[str],
    *,
    scale: str,
    spelling: Spelling = PLAIN,
    rows: Rows | None = None,
) -> Targets:
    """Return the targets of a table's rows; a row without a number has NaN.

    Args:
        kind: what is predicted.
        table: has the columns of the target.
        names: these columns.
        scale: of a number; see `TablePrep.target`.
        spelling: how numbers are written.
        rows: names of the rows, for errors; by default their numbers.

    Raises:
        InputError: a cell cannot be read.
    """
    rows = range(len(table)) if rows is None else rows
    if kind == "regression":
        return Targets(kind, names[0], number_targets(table[names[0]], names[0], spelling, scale, rows))
    cells = {name: words(table[name]) for name in names}
    return parse_targets(kind, cells, f"--target {' '.join(names)}", rows=[str(row) for row in rows])


def number_targets(cells: pa.ChunkedArray, name: str, spelling: Spelling, scale: str, rows: Rows) -> np.ndarray:
    """Return targets, float64; refuse what is no number, or has no logarithm where one is wanted."""
    values, bad = as_numbers(cells, spelling)
    if bad:
        shown = ", ".join(repr(cells[row].as_py()) for row in bad[:3])
        raise InputError(
            f"--target {name}: {len(bad)} values are no finite numbers: {shown} (rows "
            f"{some([rows[row] for row in bad])}, counted from 0). Correct or empty them; for classes take an "
            "experiment that predicts a single_label."
        )
    low = np.flatnonzero(values <= 0)
    if scale == "log" and len(low):
        raise InputError(
            f"--prep.target log: {len(low)} values of {name} are not positive (rows "
            f"{some([rows[row] for row in low.tolist()])}, counted from 0). Take --prep.target standard."
        )
    return values


def ambiguity(targets: Targets, rows: np.ndarray) -> list[str]:
    """Return a note where these rows could be read as another kind of target too; else none."""
    values = targets.values
    chosen = values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
    note = other_reading(replace(targets, values=chosen))
    return [f"{note} (--target-kind {targets.kind} confirms; another experiment reads it otherwise)"] if note else []


def expected_targets(table: pa.Table, name: str, labels: Sequence[str], spelling: Spelling | None = None) -> list[str]:
    """Return the targets that the rows of a prediction came with, as written; [] where they came with none.

    Args:
        table: the rows.
        name: column of the target.
        labels: columns that it may stand in instead, one a label.
        spelling: how numbers to predict are written; they are returned as Python writes them.
    """
    if name in table.column_names and spelling is not None:
        numbers, bad = as_numbers(table[name], spelling)
        found = [word(number) for number in numbers.tolist()]
        for row in bad:
            found[row] = str(table[name][row].as_py())
        return found
    if name in table.column_names:
        return words(table[name])
    if not labels or any(label not in table.column_names for label in labels):
        return []
    yes = {label: [cell.lower() in YES for cell in words(table[label])] for label in labels}
    return [LABEL_SEPARATOR.join(label for label in labels if yes[label][row]) for row in range(len(table))]


def plain_numbers(cells: Sequence[str], how: Csv, *, like: Sequence[str]) -> list[str]:
    """Return cells with numbers as Python writes them. A cell that is no number stays as it is.

    Args:
        cells: to be read.
        how: how they are written, where the user has said so.
        like: cells by which the decimal sign is found.
    """
    column, others = (pa.chunked_array([pa.array(part, pa.string())]) for part in (cells, like))
    numbers, _ = as_numbers(column, target_spelling("regression", others, how))
    return [cell if math.isnan(number) else repr(number) for cell, number in zip(cells, numbers.tolist(), strict=True)]
