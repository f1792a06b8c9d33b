"""Rows of tables to predict: read, scaled and coded as those of the training, but without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from src.configs.errors import InputError
from src.configs.jsonable import from_json, to_json
from src.configs.spec import TargetKind
from src.configs.table import Csv
from src.datamodules.ids import id_column
from src.datamodules.preparation import FILE, Arrays, PredictionInput, read_json
from src.datamodules.tables.cells import words
from src.datamodules.tables.columns import Encoder, Rows, decode, unusable
from src.datamodules.tables.table_files import from_rows, given_table
from src.datamodules.tables.table_targets import expected_targets
from src.resources.files import write_json

FITTED = "columns.json"


@dataclass(frozen=True)
class TablePreparation:
    """What becomes of a row before the network sees it."""

    kind: ClassVar[str] = "table"

    encoder: Encoder
    """Fitted to the training rows."""
    csv: Csv
    """How cells are written, where that is not to be found out."""
    target: str = ""
    """Column of the target, which rows may have."""
    target_kind: TargetKind = "single_label"
    labels: tuple[str, ...] = ()
    """Columns of several labels that may stand in its place."""

    def read(self, inputs: Sequence[PredictionInput], notes: list[str]) -> PreparedRows:
        """Read files and tables as the training rows were read.

        Raises:
            InputError: an input is no table, lacks a column, or there is no row.
        """
        return self.prepare(self.tables(inputs, notes), notes)

    def tables(self, inputs: Sequence[PredictionInput], notes: list[str]) -> list[pa.Table]:
        """Return files and tables as they are, with all columns that the run has seen.

        Raises:
            InputError: see `read`.
        """
        rows = [one for one in inputs if isinstance(one, Mapping)]
        if rows and len(rows) < len(inputs):
            raise InputError("rows and tables in one call: predict them apart.")
        given = [(from_rows(rows, "the rows", notes), "the rows")] if rows else []
        found: list[pa.Table] = []
        for table, what in given or (given_table(one, self.csv, notes) for one in inputs):
            self.require_columns(table.column_names, what)
            found.append(table)
        if not sum(map(len, found)):
            shown = ", ".join(str(one) if isinstance(one, str | Path) else "an empty table" for one in inputs)
            raise InputError(f"{shown or 'no input'}: nothing to predict. Name a table, or -.")
        return found

    def prepare(self, tables: Sequence[pa.Table], notes: list[str]) -> PreparedRows:
        """Encode the rows of tables that `tables` returned."""
        parts: list[Rows] = []
        errors: dict[int, str] = {}
        unseen: Counter[str] = Counter()
        before = 0
        for table in tables:
            frame, bad = decode(table, self.encoder.columns)
            errors |= {before + row: why for row, why in unusable(table, self.encoder.columns, bad).items()}
            parts.append(self.encoder.encode(frame))
            unseen.update(self.encoder.unseen(parts[-1].categories))
            before += len(table)
        if unseen:
            shown = ", ".join(f"{name} ({count} rows)" for name, count in unseen.items())
            notes.append(f"categories that training had not: {shown}")
        numbers, categories = (np.concatenate(part) for part in zip(*parts, strict=True))
        ids, id_name = [str(row) for row in range(len(numbers))], "id"
        if len(tables) == 1 and (name := id_column(tables[0].column_names)):
            ids, id_name = words(tables[0][name]), name
        return PreparedRows(Rows(numbers, categories), errors, ids, id_name, self._expected(tables))

    def require_columns(self, there: Sequence[str], what: str) -> None:
        """Raise an InputError where a table or a row lacks columns."""
        if missing := [name for name in self.encoder.names if name not in there]:
            raise InputError(
                f"{what}: {len(missing)} of the {len(self.encoder.names)} columns that the run has seen are "
                f"missing: {', '.join(missing)}."
            )

    def _expected(self, tables: Sequence[pa.Table]) -> list[str]:
        written = self.encoder.target if self.target_kind == "regression" else None
        found = [expected_targets(table, self.target, self.labels, written) for table in tables]
        if not any(found):
            return []
        return [one for part, table in zip(found, tables, strict=True) for one in part or [""] * len(table)]

    def save(self, folder: Path) -> None:
        self.encoder.save(folder / FITTED)
        rest = {name: getattr(self, name) for name in ("target", "target_kind", "labels")}
        write_json(folder / FILE, {"kind": self.kind, "csv": to_json(vars(self.csv))} | to_json(rest))

    @classmethod
    def load(cls, folder: Path) -> TablePreparation:
        found = read_json(folder / FILE)
        csv, labels = from_json(Csv, found["csv"]), tuple(found["labels"])
        return cls(Encoder.load(folder / FITTED), csv, found["target"], found["target_kind"], labels)


@dataclass(frozen=True, eq=False)
class PreparedRows:
    """Rows to predict."""

    rows: Rows
    errors: Mapping[int, str]
    """Row -> why it cannot be used."""
    ids: Sequence[str]
    id_name: str
    expected: Sequence[str]
    lengths: None = None

    def __len__(self) -> int:
        return len(self.ids)

    def arrays(self, keys: Sequence[int]) -> Arrays:
        """Return 'numbers', float32 [rows, numbers], and 'categories', int64 [rows, categories]."""
        index = [key for key in keys if key not in self.errors]
        values = {"numbers": self.rows.numbers[index], "categories": self.rows.categories[index]}
        return Arrays(index, values, {key: self.errors[key] for key in keys if key in self.errors})
