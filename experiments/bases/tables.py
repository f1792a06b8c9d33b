"""What all experiments on tables share: the data, and the columns to predict."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from src import datamodules
from src.experiment import Columns, Csv, Experiment, Optim, TablePrep, TargetKind

AnyTable = TypeVar("AnyTable", bound="datamodules.Table")


class TableData(Experiment):
    """The data. A subclass adds what is predicted, and a model."""

    predicts: ClassVar[TargetKind]

    precision = "32-true"

    target_kind: TargetKind | None = None
    """How to read the target column where it could be read as several kinds."""
    columns: Columns = Columns()
    """Kinds of columns that are not to be inferred."""
    csv: Csv = Csv()
    """How cells are written, where that is not to be found out."""
    prep: TablePrep = TablePrep()
    """How numbers and the target are scaled."""
    optim: Optim = Optim()
    """Optimiser and schedule."""

    def check(self) -> None:
        super().check()
        if self.data_dir is not None:
            named = (*self.columns.number, *self.columns.category, *self.columns.date, *self.columns.ignored)
            group = [self.columns.group] if self.columns.group else []
            wanted = {"--target": self.target_columns(), "--columns": named, "--columns.group": group}
            datamodules.require_columns(self.data_dir, self.csv, wanted)

    def datamodule(self) -> datamodules.Table:
        return self.table(datamodules.Table)

    def table(self, kind: type[AnyTable]) -> AnyTable:
        """Build a data module of a table with the experiment's fields."""
        return kind(
            self.data_dir,
            source=self.source,
            target=self.target_columns(),
            predicts=self.predicts,
            target_kind=self.target_kind,
            columns=self.columns,
            csv=self.csv,
            prep=self.prep,
            bins=self.bins(),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
        )

    def target_columns(self) -> tuple[str, ...]:
        """Return the columns to predict."""
        raise NotImplementedError

    def bins(self) -> int:
        """Return how many bins of each number the model asks for."""
        return 0


class OneTarget(TableData):
    """One column to predict."""

    target: str = "target"
    """Column to predict."""

    def target_columns(self) -> tuple[str, ...]:
        return (self.target,)


class SeveralTargets(TableData):
    """Labels in one column, or each in a column of its own."""

    target: tuple[str, ...] = ("target",)
    """Column of the labels, as in billing;bug; or several columns of 0 and 1, one a label."""

    def target_columns(self) -> tuple[str, ...]:
        return self.target
