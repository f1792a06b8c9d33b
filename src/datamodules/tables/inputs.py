"""Rows of tables to predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.table import Csv
from src.datamodules.capabilities import PredictionInput
from src.datamodules.ids import id_column
from src.datamodules.tables.cells import words
from src.datamodules.tables.columns import Encoder, Rows, decode, unusable
from src.datamodules.tables.table_files import given_table
from src.datamodules.tables.table_targets import expected_targets


class Inputs(Dataset[dict[str, Any]]):
    """Rows to predict: those that cannot be used are 'error', {row: why}, and in no batch."""

    def __init__(self, numbers: np.ndarray, categories: np.ndarray, errors: Mapping[int, str]) -> None:
        self.numbers, self.categories = torch.from_numpy(numbers), torch.from_numpy(categories)
        self.errors = errors

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, keys: list[int]) -> dict[str, Any]:
        index = torch.tensor([key for key in keys if key not in self.errors], dtype=torch.long)
        return {
            "numbers": self.numbers[index],
            "categories": self.categories[index],
            "index": index,
            "error": {key: self.errors[key] for key in keys if key in self.errors},
        }


class Given(NamedTuple):
    """The inputs of a prediction."""

    rows: Inputs
    ids: list[str]
    id_name: str
    """Of the column of ids."""
    expected: list[str]
    """Targets that came with the rows, '' where there is none."""


def read_inputs(
    inputs: Sequence[PredictionInput], encoder: Encoder, how: Csv, spec: DataSpec, notes: list[str]
) -> Given:
    """Read files and tables as the training rows were read; what the user should know is added to `notes`.

    Raises:
        InputError: an input is no table, lacks a column, or there is no row.
    """
    tables, parts = list[pa.Table](), list[Rows]()
    errors: dict[int, str] = {}
    unseen: Counter[str] = Counter()
    for given in inputs:
        table, what = given_table(given, how, notes)
        if missing := [name for name in encoder.names if name not in table.column_names]:
            raise InputError(
                f"{what}: {len(missing)} of the {len(encoder.names)} columns that the run has seen are "
                f"missing: {', '.join(missing)}."
            )
        frame, bad = decode(table, encoder.columns)
        before = sum(map(len, tables))
        errors |= {before + row: why for row, why in unusable(table, encoder.columns, bad).items()}
        parts.append(encoder.encode(frame))
        unseen.update(encoder.unseen(parts[-1].categories))
        tables.append(table)
    if not sum(map(len, tables)):
        shown = ", ".join(str(one) if isinstance(one, str | Path) else "an empty table" for one in inputs)
        raise InputError(f"{shown or 'no input'}: nothing to predict. Name a table, or -.")
    if unseen:
        shown = ", ".join(f"{name} ({count} rows)" for name, count in unseen.items())
        notes.append(f"categories that training had not: {shown}")
    numbers, categories = (np.concatenate(part) for part in zip(*parts, strict=True))
    rows = Inputs(numbers, categories, errors)
    labels = spec.classes if spec.target.kind == "multi_label" else ()
    written = encoder.target if spec.target.kind == "regression" else None
    expected = [expected_targets(table, spec.target.name, labels, written) for table in tables]
    targets = [one for found, table in zip(expected, tables, strict=True) for one in found or [""] * len(table)]
    targets = targets if any(expected) else []
    if len(inputs) > 1 or not (name := id_column(tables[0].column_names)):
        return Given(rows, [str(i) for i in range(len(rows))], "id", targets)
    return Given(rows, words(tables[0][name]), name, targets)
