"""Any table with a column to predict: CSV, JSON lines or Parquet, in memory, batches sliced and not collated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from src.configs.errors import InputError
from src.configs.spec import DataSpec, TargetKind
from src.configs.table import Columns, Csv, TablePrep
from src.datamodules.base import DataModule
from src.datamodules.headers import SUFFIXES, require_column, typed_columns
from src.datamodules.ids import id_column
from src.datamodules.preparation import PredictionInput
from src.datamodules.sampling.batches import Batches
from src.datamodules.sources import LoadedSplits, own_data, split_files
from src.datamodules.splits import SPLIT_SEED, TEST_SHARE, VAL_SHARE, divide, divide_rows
from src.datamodules.tables import held_out, table_targets
from src.datamodules.tables.cells import words
from src.datamodules.tables.columns import Encoder, bin_edges, by_kind, decode, fit
from src.datamodules.tables.fallback import fallback_table
from src.datamodules.tables.kinds import infer, not_features
from src.datamodules.tables.numbering import note, numbering
from src.datamodules.tables.preparation import FITTED, TablePreparation
from src.datamodules.tables.spelling_search import decimal_sign
from src.datamodules.tables.table_files import from_frame, read, stack
from src.datamodules.tables.table_targets import target_spelling
from src.datamodules.targets import DIVIDED, missing_classes, require_kind
from src.datamodules.tensors import Slices
from src.resources.files import printable

EVALUATED = 1024
"""Rows a batch, at the least, where nothing is trained."""


class Table(DataModule):
    """Rows of a table and the column, or columns, to predict.

    Args:
        data_dir: a file, or a folder of train, val and test files; None takes `data/<table_name>` with any of the
            suffixes if that is there, else the next source.
        source: 'auto', 'file' or 'sklearn'.
        target: the column to predict. Several labels are in one column, as billing;bug, or have a column each.
        predicts: one class of a row, any number of labels, or a number.
        target_kind: how the user wants the target read, which has to be `predicts`; None notes what else it could be.
        columns: kinds of columns that are not to be inferred.
        csv: how cells are written, where that is not to be found out.
        prep: how numbers and the target are scaled.
        bins: edges of so many bins of each number go to the spec, for a model that asks for them.

    A file without split files is divided with a fixed seed: by class, by label or at random; rows of one
    `columns.group` stay together.
    """

    in_memory = True
    table_name: ClassVar[str] = "table"
    """What is looked for below `data/` without --data-dir."""

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        target: str | Sequence[str],
        predicts: TargetKind,
        target_kind: TargetKind | None = None,
        source: str = "auto",
        columns: Columns | None = None,
        csv: Csv | None = None,
        prep: TablePrep | None = None,
        bins: int = 0,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(source=source, batch_size=batch_size, num_workers=num_workers, seed=seed)
        require_kind(predicts, target_kind)
        self.data_dir, self.target_kind, self.bins = data_dir, target_kind, bins
        self.predicts: TargetKind = predicts
        self.target_columns: tuple[str, ...] = table_targets.target_columns(predicts, target)
        self.columns = typed_columns(columns or Columns())
        self.csv, self.prep = csv or Csv(), prep or TablePrep()

    # ------------------------------------------------------------------------------------------------------- sources
    def sources(self) -> dict[str, Callable[[], LoadedSplits[np.ndarray] | None]]:
        return {"file": self.from_file, "sklearn": self.from_sklearn}

    def from_file(self) -> LoadedSplits[np.ndarray] | None:
        """Return the user's table; None where none was named and `data/<table_name>` is not there."""
        path = own_data(self.data_dir, self.table_name, SUFFIXES)
        if path is None:
            return None
        if path.is_file():
            found = self.divided(f"file {printable(path)}", self.read(path))
        else:
            found = self.from_folder(path)
        rows = np.concatenate([*found.samples.values()])
        if self.target_kind is None:
            self.notes += table_targets.ambiguity(self._targets, rows)
        self.notes += missing_classes(self._targets, rows)
        return found

    def from_folder(self, path: Path) -> LoadedSplits[np.ndarray]:
        """Return a folder's train, val and test files; where there is no val, it is taken from train."""
        files = split_files(path, self.notes)
        samples = self.keep({split: self.read(file) for split, file in files.items()})
        if "val" in samples:
            return LoadedSplits(f"folder {printable(path)}", "as given", samples)
        parts = self.divide(samples["train"], {"val": VAL_SHARE}, str(path))
        return LoadedSplits(
            f"folder {printable(path)}",
            f"as given, but val {VAL_SHARE:.0%} of train, seed {SPLIT_SEED}",
            {**samples, **parts},
            whole=samples["train"],
        )

    def read(self, path: Path) -> pa.Table:
        return read(path, self.csv, self.notes, ignored=self.columns.ignored)

    def from_sklearn(self) -> LoadedSplits[np.ndarray] | None:
        """Return a table that comes with scikit-learn, a fallback."""
        return self.bundled(*fallback_table(self.predicts), fallback=True)

    def bundled(self, name: str, found: Any, *, fallback: bool) -> LoadedSplits[np.ndarray]:
        """Return a scikit-learn data set, whose target becomes this module's."""
        frame: pd.DataFrame = found.data
        names = getattr(found, "target_names", None)
        first, *others = self.target_columns
        if others or first not in frame.columns:
            self.target_columns = ("target",)
        values = found.target if names is None else np.asarray(names)[found.target]
        return self.divided(f"scikit-learn, {name}", from_frame(frame.assign(target=values)), fallback=fallback)

    def divided(self, source: str, table: pa.Table, *, fallback: bool = False) -> LoadedSplits[np.ndarray]:
        """Return a table divided into train, validation and test."""
        whole = self.keep({"train": table})["train"]
        parts = self.divide(whole, {"val": VAL_SHARE, "test": TEST_SHARE}, source)
        how = f"by groups of {self.columns.group}" if self.columns.group else DIVIDED[self.predicts]
        shown = f"{how}, val {VAL_SHARE:.0%}, test {TEST_SHARE:.0%}, seed {SPLIT_SEED}"
        return LoadedSplits(source, shown, parts, fallback, whole)

    def divide(self, rows: np.ndarray, shares: Mapping[str, float], where: str) -> dict[str, np.ndarray]:
        labels, groups = self.labels(rows), self.groups(rows)
        try:
            if isinstance(labels, list) and groups is None:
                parts = divide(labels, shares, where)
            else:
                parts = divide_rows(len(rows), shares, where, labels=labels, groups=groups)
        except InputError as error:  # classes with few rows may be several labels
            raise InputError(" ".join([str(error), *table_targets.ambiguity(self._targets, rows)])) from error
        return {split: rows[positions] for split, positions in parts.items()}

    def keep(self, given: Mapping[str, pa.Table]) -> dict[str, np.ndarray]:
        """Keep the rows that have a target as one table; return the rows of each split.

        Raises:
            InputError: no such column, or targets that cannot be used.
        """
        for split, table in given.items():
            for name in self.target_columns:
                require_column(table.column_names, name, "--target", f" in {split}")
        first, where = self.target_columns[0], f"--data-dir {self.data_dir}"
        self._decimal = decimal_sign(given["train"], self.csv)
        self._written = target_spelling(self.predicts, given["train"][first], self.csv, self._decimal)
        self.table = stack(given, where, self.notes)
        self._names = [str(row) for table in given.values() for row in range(len(table))]  # as each file counts them
        ends = np.cumsum([0, *map(len, given.values())])
        rows = {split: np.arange(a, b) for split, a, b in zip(given, ends, ends[1:], strict=False)}
        several = len(given) > 1
        self._row_names = [f"{self._names[r]} of {s}" for s in rows for r in rows[s]] if several else self._names
        without = table_targets.without_target(
            self.predicts, self.table[first], first, self._written, self._row_names, self.notes
        )
        self._targets = table_targets.read_targets(
            self.predicts,
            self.table,
            self.target_columns,
            scale=self.prep.target,
            spelling=self._written,
            rows=self._row_names,
        )
        return {split: found[~without[found]] for split, found in rows.items()}

    def labels(self, samples: np.ndarray) -> list[str] | np.ndarray | None:
        return self._targets.strata(samples)

    def names_of(self, samples: np.ndarray, found: LoadedSplits[np.ndarray]) -> list[str]:
        name = id_column(self.table.column_names)
        return words(self.table[name].take(samples)) if name else [self._names[r] for r in samples]

    def subset(self, samples: np.ndarray, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        return samples[positions]

    def groups(self, samples: np.ndarray) -> list[str] | None:
        if not (name := self.columns.group):
            return None
        require_column(self.table.column_names, name, "--columns.group")
        return words(self.table[name].take(samples))

    # ----------------------------------------------------------------------------------------------------------- setup
    def setup(self, stage: str) -> None:
        if stage == "predict" or hasattr(self, "loaded"):
            return
        self.notes = []
        found = self.find()
        self._rows = found.samples
        train_rows, names = self._rows["train"], self._row_names
        self.kinds = infer(
            self.table.take(train_rows),
            self.columns,
            self.csv,
            self.notes,
            leave_out=not_features(self.table.column_names, self.target_columns),
            decimal=self._decimal,
            rows=[names[row] for row in train_rows],
        )
        columns = by_kind(self.kinds.columns)
        self._frame, _ = decoded = decode(self.table, columns)
        self._encoder = fit(self._frame.iloc[train_rows], columns, self.prep.numbers, self.prep.clip, self._written)
        self.fitted = repr(self._encoder)
        encoded = self._encoder.encode(self._frame)
        self.notes += held_out.notes(self._rows, self.table, decoded.bad, self._encoder, encoded.categories, names)
        self.notes += map(note, numbering(self._frame, train_rows, [c.name for c in columns if c.kind == "number"]))
        hashes = held_out.row_hashes(self.table, decoded, columns)
        self.notes += held_out.repeated(self._rows, hashes)
        self.notes += self._encoder.rounded(self._frame, train_rows)
        classes, target = self._targets.fit(self._rows, found.source, scale=self.prep.target)
        self._data = {
            split: Slices(
                {
                    "numbers": torch.from_numpy(encoded.numbers[rows]),
                    "categories": torch.from_numpy(encoded.categories[rows]),
                    "target": self._targets.encode(rows, classes),
                }
            )
            for split, rows in self._rows.items()
        }
        used = np.concatenate(list(self._rows.values()))
        self.fingerprint = hashlib.sha256(np.sort(hashes[used]).tobytes()).hexdigest()[:16]
        self.spec = DataSpec(
            classes=classes,
            class_counts=self.train_counts(len(classes)),
            input_shape=(len(columns),),
            numbers=self._encoder.width,
            missing=self._encoder.missing,
            categories=tuple(len(values) + 1 for values in self._encoder.values),
            bins=bin_edges(encoded.numbers[train_rows], self.bins),
            target=target,
        )
        self.loaded = found

    # --------------------------------------------------------------------------------------------------- what is there
    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        return self._data[split]

    @property
    def evaluated_batch_size(self) -> int:
        return max(self.batch_size, EVALUATED)

    def batches(self, split: str, *, train: bool, rank: int = 0, world_size: int = 1) -> Batches:
        if train:
            return super().batches(split, train=True, rank=rank, world_size=world_size)
        size = self.evaluated_batch_size
        return Batches(len(self._rows[split]), size, train=False, rank=rank, world_size=world_size)

    def ids(self, split: str) -> Sequence[str]:
        return self.names_of(self._rows[split], self.loaded)

    def targets(self, split: str) -> torch.Tensor:
        return self._data[split].columns["target"]

    def examples(self, split: str, positions: Sequence[int]) -> list[str]:
        shown = self.table.take(self._rows[split][list(positions)])
        cells = zip(*(words(column) for column in shown.columns), strict=True)
        return [", ".join(f"{n} {cell}" for n, cell in zip(shown.column_names, row, strict=True)) for row in cells]

    def baseline_inputs(self, split: str) -> pd.DataFrame:
        return self._encoder.plain(self._frame.iloc[self._rows[split]])

    # ------------------------------------------------------------------------------------------------------ prediction
    def save(self, run: Path) -> None:
        """Write what was fitted to the training rows."""
        self._encoder.save(run / FITTED)

    def restore(self, run: Path) -> None:
        self._encoder = Encoder.load(run / FITTED)

    def raw_inputs(self, split: str, positions: Sequence[int]) -> list[PredictionInput]:
        return [self.table.take(self._rows[split][list(positions)]).to_pandas(types_mapper=pd.ArrowDtype)]

    def preparation(self, spec: DataSpec) -> TablePreparation:
        labels = spec.classes if spec.target.kind == "multi_label" else ()
        return TablePreparation(self._encoder, self.csv, spec.target.name, spec.target.kind, labels)
