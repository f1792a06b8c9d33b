"""What the rows of validation and test have that the training rows have not, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from src.datamodules.ids import id_column
from src.datamodules.tables.columns import Decoded, Encoder
from src.datamodules.tables.kinds import Column
from src.datamodules.tables.spelling import PLAIN
from src.datamodules.tables.values import comparable

PRIME = np.uint64(0x100000001B3)
"""Of the FNV hash of 64 bits."""


def notes(
    rows: Mapping[str, np.ndarray],
    table: pa.Table,
    bad: Mapping[str, Sequence[int]],
    encoder: Encoder,
    categories: np.ndarray,
    names: Sequence[str],
) -> list[str]:
    """Return notes on values that cannot be read and on categories that training had not.

    Args:
        rows: split -> positions of its rows.
        table: all rows as written.
        bad: column -> rows whose value is not of its kind.
        encoder: fitted to the training rows.
        categories: what it made of all rows.
        names: of all rows.
    """
    found: list[str] = []
    for split in [split for split in rows if split != "train"]:
        wrong = [(row, name) for name, at in bad.items() for row in np.intersect1d(at, rows[split]).tolist()]
        if wrong:
            of_rows = [f"row {names[row]}, column {name}: {table[name][row].as_py()!r}" for row, name in wrong[:3]]
            count = len({row for row, _ in wrong})
            found.append(f"{count} rows of {split} have values that count as missing: {'; '.join(of_rows)}")
        if unseen := encoder.unseen(categories[rows[split]]):
            shown = ", ".join(f"{name} ({count} of {len(rows[split])} rows)" for name, count in unseen.items())
            found.append(f"{split} has categories that training had not: {shown}")
    return found


def row_hashes(table: pa.Table, decoded: Decoded, columns: Sequence[Column]) -> np.ndarray:
    """Return a hash of each row but for its id, uint64 [rows]; of the same rows in another file it is the same.

    Args:
        table: all rows as written.
        decoded: what `decode` made of them.
        columns: what it took the columns for.
    """
    plain = [one.name for one in columns if one.kind == "number" and one.spelling == PLAIN]
    numbers = {*plain} - decoded.bad.keys()
    hashes = np.zeros(len(table), np.uint64)
    for name in sorted({*table.column_names} - {id_column(table.column_names)}):
        # A column at a time: all at once would take as much memory as the table.
        cells = decoded.frame[name].to_numpy() if name in numbers else comparable(table[name])
        hashes *= PRIME
        hashes ^= pd.util.hash_array(cells)
    return hashes


def repeated(rows: Mapping[str, np.ndarray], hashes: np.ndarray) -> list[str]:
    """Return notes on rows that are in train too: two with the same words may well be two cases, so they stay.

    Args:
        rows: split -> positions of its rows.
        hashes: of all rows.
    """
    counts = {split: np.isin(hashes[found], hashes[rows["train"]]).sum() for split, found in rows.items()}
    there = {split: count for split, count in counts.items() if count and split != "train"}
    return [f"{count} of {len(rows[split])} rows of {split} are in train too" for split, count in there.items()]
