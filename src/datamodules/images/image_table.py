"""Images that a table names, with a class, labels or a number of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from src.configs.errors import InputError
from src.configs.image import Augment
from src.configs.spec import TargetKind
from src.configs.table import Csv
from src.datamodules.headers import SUFFIXES, require_column, typed
from src.datamodules.images.chosen import Chosen
from src.datamodules.images.image_files import ImageFiles
from src.datamodules.images.listing import Listing
from src.datamodules.images.path_table import read_path_table
from src.datamodules.sources import LoadedSplits, own_data
from src.datamodules.split_names import SPLIT_NAMES, SPLITS
from src.datamodules.splits import SPLIT_SEED, TEST_SHARE, VAL_SHARE
from src.datamodules.synthetic import sheets
from src.datamodules.tables.cells import words
from src.datamodules.tables.spelling_search import decimal_sign
from src.datamodules.tables.table_targets import (
    ambiguity,
    read_targets,
    target_columns,
    target_spelling,
    without_target,
)
from src.datamodules.tables.values import some
from src.datamodules.targets import DIVIDED, missing_classes, require_kind
from src.resources.files import printable

SPLIT_COLUMN = "split"


class ImageTable(ImageFiles):
    """Images that a CSV, TSV or Parquet names, and what is to be predicted of them; further arguments as `ImageFiles`.

    A column `split` says which rows are train, val and test. Without it the table is divided with a fixed seed, without
    val rows these are taken from train.

    Args:
        data_dir: the table; None takes `data/<table_name>` with any of the suffixes if that is there, else sheets.
        source: 'auto', 'file' or 'drawn'.
        target: column of the class, the labels (`a;b`) or the number; several columns are a label each, 1 or 0.
        predicts: what the target is.
        target_kind: the same where the user says so; without it a target that could be another kind is noted.
        path_column: column of the paths, relative to the table's folder.
        csv: how the table's cells are written, where that is not to be found out.

    Raises:
        InputError: `target_kind` is another, or several columns for what is in one.
    """

    table_name: ClassVar[str] = "image_table"
    """What is looked for below `data/` without --data-dir."""

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        target: str | Sequence[str],
        predicts: TargetKind,
        target_kind: TargetKind | None = None,
        path_column: str = "path",
        csv: Csv | None = None,
        source: str = "auto",
        image_size: int = 224,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        augment: Augment | None = None,
        cache: bool = True,
        unreadable_limit: float = 0.05,
    ) -> None:
        super().__init__(
            data_dir,
            source=source,
            image_size=image_size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            augment=augment,
            cache=cache,
            unreadable_limit=unreadable_limit,
        )
        require_kind(predicts, target_kind)
        self.target, self.path_column = target_columns(predicts, target), typed(path_column)
        self.csv = csv or Csv()
        self.predicts: TargetKind = predicts
        self.target_kind: TargetKind | None = target_kind

    def sources(self) -> dict[str, Callable[[], LoadedSplits[Chosen] | None]]:
        return {"file": self.from_file, "drawn": self.from_drawn}

    def from_file(self) -> LoadedSplits[Chosen] | None:
        """Return the user's table; None where none was named and `data/<table_name>` is not there."""
        path = own_data(self.data_dir, self.table_name, SUFFIXES)
        if path is None:
            return None
        if path.is_dir():
            raise InputError(
                f"--data-dir {path}: a folder. Name a table of images ({', '.join(SUFFIXES)}) with a column "
                f"{self.path_column} and {', '.join(self.target)}."
            )
        return self.load_table(path, f"file {printable(path)}")

    def from_drawn(self) -> LoadedSplits[Chosen]:
        """Return sheets of shapes drawn on the spot, in place of photographs; they have their own columns."""
        self.path_column, self.target = "path", sheets.TARGETS[self.predicts]
        return self.load_table(sheets.draw_table(), "drawn sheets of shapes (NOT photographs)", fallback=True)

    def load_table(self, path: Path, source: str, *, fallback: bool = False) -> LoadedSplits[Chosen]:
        """Return the images of a table that have a target.

        Raises:
            InputError: the table cannot be used.
        """
        named, where = read_path_table(path, self.path_column, self.csv, self.notes), f"--data-dir {path}"
        for name in self.target:
            require_column(named.table.column_names, name, "--target", f" in {path}")
        first = self.target[0]
        cells, decimal = named.table[first], decimal_sign(named.table, self.csv)
        spelling = target_spelling(self.predicts, cells, self.csv, decimal)
        without = without_target(self.predicts, cells, first, spelling, range(len(cells)), self.notes)
        rows = np.flatnonzero(~without)
        table = named.table.take(rows)
        files = Listing(named.files.root, [named.files.names[row] for row in rows])
        targets = read_targets(self.predicts, table, self.target, scale="standard", spelling=spelling, rows=rows)
        if repeated := len(files) - len(set(files.names)):
            self.notes.append(f"{repeated} rows name an image that an earlier row names")
        whole = Chosen(files, targets, np.arange(len(files)))
        if self.target_kind is None:
            self.notes += ambiguity(targets, whole.rows)
        self.notes += missing_classes(targets, whole.rows)
        if SPLIT_COLUMN in table.column_names and SPLIT_COLUMN not in self.target:
            samples = self._given_splits(whole, table[SPLIT_COLUMN], rows, where)
            if "val" in samples:
                return LoadedSplits(source, "as given", samples, fallback)
            samples, whole = samples | samples["train"].divided({"val": VAL_SHARE}, where), samples["train"]
            shown = f"as given, but val {VAL_SHARE:.0%} of train {DIVIDED[self.predicts]}, seed {SPLIT_SEED}"
        else:
            samples = whole.divided({"val": VAL_SHARE, "test": TEST_SHARE}, where)
            shown = f"{DIVIDED[self.predicts]}, val {VAL_SHARE:.0%}, test {TEST_SHARE:.0%}, seed {SPLIT_SEED}"
        return LoadedSplits(source, shown, samples, fallback, whole)

    def _given_splits(self, whole: Chosen, column: pa.ChunkedArray, rows: np.ndarray, where: str) -> dict[str, Chosen]:
        """Return the splits that a column names.

        Raises:
            InputError: a cell names none, or none is train.
        """
        cells = words(column)
        named = np.array([SPLIT_NAMES.get(cell.lower(), "") for cell in cells])
        if len(bad := np.flatnonzero(named == "")):
            raise InputError(
                f"{where}: {len(bad)} cells of column {SPLIT_COLUMN} are neither train, val nor test: "
                f"{', '.join(repr(cells[row]) for row in bad[:3])} (rows {some(rows[bad])}, counted from 0). "
                "Fill them, or rename the column to have the table divided."
            )
        samples = {split: whole.of(rows) for split in SPLITS if len(rows := np.flatnonzero(named == split))}
        if "train" not in samples:
            raise InputError(f"{where}: column {SPLIT_COLUMN} has no row for train.")
        return samples
