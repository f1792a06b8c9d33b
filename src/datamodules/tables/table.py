"""Any table with a column to predict: CSV or Parquet, in memory, batches sliced and not collated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from src.configs.errors import InputError
from src.configs.spec import DataSpec, TargetKind
from src.configs.table import Columns, TablePrep
from src.datamodules.base import DataModule
from src.datamodules.capabilities import PredictionInput
from src.datamodules.ids import id_column
from src.datamodules.sampling.batches import Batches
from src.datamodules.sources import LoadedSplits, own_data, split_files
from src.datamodules.splits import SPLIT_SEED, TEST_SHARE, VAL_SHARE, divide, divide_rows
from src.datamodules.tables import table_targets
from src.datamodules.tables.columns import Encoder, bin_edges, fit
from src.datamodules.tables.fallback import fallback_table
from src.datamodules.tables.inputs import Inputs
from src.datamodules.tables.kinds import infer
from src.datamodules.tables.table_files import SUFFIXES, given_table, read, require_column
from src.datamodules.tables.values import words
from src.datamodules.targets import DIVIDED, require_kind
from src.datamodules.tensors import Slices
from src.resources.files import printable

FITTED = "columns.json"
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
        self.columns, self.prep = columns or Columns(), prep or TablePrep()

    # ------------------------------------------------------------------------------------------------------- sources
    def sources(self) -> dict[str, Callable[[], LoadedSplits[np.ndarray] | None]]:
        return {"file": self.from_file, "sklearn": self.from_sklearn}

    def from_file(self) -> LoadedSplits[np.ndarray] | None:
        """Return the user's table; None where none was named and `data/<table_name>` is not there."""
        path = own_data(self.data_dir, self.table_name, SUFFIXES)
        if path is None:
            return None
        if path.is_file():
            found = self.divided(f"file {printable(path)}", read(path, self.columns.category))
        else:
            found = self.from_folder(path)
        if self.target_kind is None:
            self.notes += table_targets.ambiguity(self._targets, np.concatenate([*found.samples.values()]))
        return found

    def from_folder(self, path: Path) -> LoadedSplits[np.ndarray]:
        """Return a folder's train, val and test files; where there is no val, it is taken from train."""
        files = split_files(path, SUFFIXES, self.notes)
        given = {split: read(file, self.columns.category) for split, file in files.items()}
        for split, frame in given.items():
            if missing := sorted(set(given["train"].columns) - set(frame.columns)):
                raise InputError(f"--data-dir {path}: {split} has no column {missing[0]}, which train has.")
        samples = self.keep(given)
        if "val" in given:
            return LoadedSplits(f"folder {printable(path)}", "as given", samples)
        parts = self.divide(samples["train"], {"val": VAL_SHARE}, str(path))
        return LoadedSplits(
            f"folder {printable(path)}",
            f"as given, but val {VAL_SHARE:.0%} of train, seed {SPLIT_SEED}",
            {**samples, **parts},
            whole=samples["train"],
        )

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
        return self.divided(f"scikit-learn, {name}", frame.assign(target=values), fallback=fallback)

    def divided(self, source: str, frame: pd.DataFrame, *, fallback: bool = False) -> LoadedSplits[np.ndarray]:
        """Return a table divided into train, validation and test."""
        whole = self.keep({"train": frame})["train"]
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

    def keep(self, given: Mapping[str, pd.DataFrame]) -> dict[str, np.ndarray]:
        """Keep the rows that have a target as one table; return the rows of each split.

        Raises:
            InputError: no such column, or targets that cannot be used.
        """
        for split, frame in given.items():
            for name in self.target_columns:
                require_column(frame, name, "--target", f" in {split}")
        several = len(given) > 1
        whole = pd.concat(given.values())
        whole.index = [f"{row} of {split}" if several else row for split in given for row in range(len(given[split]))]
        without = table_targets.without_target(self.predicts, whole, self.target_columns, self.data_dir, self.notes)
        self._targets = table_targets.read_targets(self.predicts, whole, self.target_columns, scale=self.prep.target)
        self.frame = whole
        self._names = [str(row) for frame in given.values() for row in range(len(frame))]  # as each file counts them
        starts = np.cumsum([0, *map(len, given.values())])
        rows = {split: np.arange(a, b) for split, a, b in zip(given, starts, starts[1:], strict=False)}
        return {split: found[~without[found]] for split, found in rows.items()}

    def labels(self, samples: np.ndarray) -> list[str] | np.ndarray | None:
        return self._targets.strata(samples)

    def names_of(self, samples: np.ndarray, found: LoadedSplits[np.ndarray]) -> list[str]:
        name = id_column(self.frame.columns)
        return words(self.frame[name].iloc[samples]) if name else [self._names[r] for r in samples]

    def subset(self, samples: np.ndarray, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        return samples[positions]

    def groups(self, samples: np.ndarray) -> list[str] | None:
        if not (name := self.columns.group):
            return None
        require_column(self.frame, name, "--columns.group")
        return words(self.frame[name].iloc[samples])

    # ----------------------------------------------------------------------------------------------------------- setup
    def setup(self, stage: str) -> None:
        if stage == "predict" or hasattr(self, "loaded"):
            return
        self.notes = []
        found = self.find()
        self._rows = found.samples
        hashes = self._hashes()
        train = self.frame.iloc[self._rows["train"]]
        leave_out = (*self.target_columns, id_column(self.frame.columns))
        self._kinds = infer(train, self.columns, self.notes, leave_out=leave_out)
        self._encoder = fit(train, self._kinds, self.prep.numbers, self.prep.clip)
        self.preparation = repr(self._encoder)
        encoded = self._encoder.encode(self.frame)
        held_out = np.setdiff1d(list(encoded.errors), self._rows["train"])
        if len(held_out):
            first = "; ".join(f"row {self.frame.index[row]}, column {encoded.errors[row]}" for row in held_out[:3])
            self.notes.append(f"{len(held_out)} rows of val or test have values that count as missing: {first}")
        train_rows = self._rows["train"]
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
            input_shape=(len(self._kinds),),
            numbers=self._encoder.width,
            categories=tuple(len(values) + 1 for values in self._encoder.values),
            bins=bin_edges(encoded.numbers[train_rows], self.bins),
            target=target,
        )
        self.loaded = found

    def _hashes(self) -> np.ndarray:
        """Return a hash of each row, target and all; rows that are in train and elsewhere are noted."""
        without_id = self.frame.drop(columns=[name for name in [id_column(self.frame.columns)] if name])
        hashes = pd.util.hash_pandas_object(without_id, index=False).to_numpy()
        for split, rows in self._rows.items():
            repeated = np.isin(hashes[rows], hashes[self._rows["train"]]).sum() if split != "train" else 0
            if repeated:  # two rows with the same words may well be two cases, so they stay
                self.notes.append(f"{repeated} of {len(rows)} rows of {split} are in train too")
        return hashes

    # --------------------------------------------------------------------------------------------------- what is there
    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        return self._data[split]

    def batches(self, split: str, *, train: bool, rank: int = 0, world_size: int = 1) -> Batches:
        if train:
            return super().batches(split, train=True, rank=rank, world_size=world_size)
        size = max(self.batch_size, EVALUATED)
        return Batches(len(self._rows[split]), size, train=False, rank=rank, world_size=world_size)

    def ids(self, split: str) -> Sequence[str]:
        return self.names_of(self._rows[split], self.loaded)

    def targets(self, split: str) -> Tensor:
        return self._data[split].columns["target"]

    def examples(self, split: str, positions: Sequence[int]) -> list[str]:
        shown = self.frame.iloc[self._rows[split][list(positions)]]
        return [", ".join(f"{name} {value}" for name, value in row.items()) for row in shown.to_dict("records")]

    def baseline_inputs(self, split: str) -> pd.DataFrame:
        return self._encoder.plain(self.frame.iloc[self._rows[split]])

    # ------------------------------------------------------------------------------------------------------ prediction
    def save(self, run: Path) -> None:
        """Write what was fitted to the training rows."""
        self._encoder.save(run / FITTED)

    def restore(self, run: Path) -> None:
        self._encoder = Encoder.load(run / FITTED)

    def prepare_prediction(self, inputs: Sequence[PredictionInput], spec: DataSpec) -> Sequence[str]:
        frames: list[pd.DataFrame] = []
        for given in inputs:
            frame, what = given_table(given, self._encoder.categories)
            if missing := [name for name in self._encoder.columns if name not in frame.columns]:
                raise InputError(
                    f"{what}: {len(missing)} of the {len(self._encoder.columns)} columns that the run has seen are "
                    f"missing: {', '.join(missing)}."
                )
            frames.append(frame)
        if not sum(map(len, frames)):
            shown = ", ".join(str(one) if isinstance(one, str | Path) else "an empty table" for one in inputs)
            raise InputError(f"{shown or 'no input'}: nothing to predict. Name a table, or -.")
        whole = pd.concat(frames, ignore_index=True)
        encoded = self._encoder.encode(whole)
        if encoded.unseen:
            shown = ", ".join(f"{name} ({count} rows)" for name, count in encoded.unseen.items())
            self.notes.append(f"categories that training had not: {shown}")
        self._inputs = Inputs(encoded.numbers, encoded.categories, encoded.errors)
        labels = spec.classes if spec.target.kind == "multi_label" else ()
        self.expected = table_targets.expected_targets(whole, spec.target.name, labels)
        if len(inputs) > 1 or not (name := id_column(whole.columns)):
            return [str(i) for i in range(len(whole))]
        self.id_name = name
        return words(whole[name])

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.load(self._inputs, Batches(len(self._inputs), max(self.batch_size, EVALUATED), train=False))
