"""Any table with a column to predict (CSV, Parquet): a number or a class, by an MLP or a linear model."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeVar

from src import datamodules, models, tasks
from src.experiment import ClassificationExperiment, Columns, DataSpec, Experiment, Optim, Perceptron, TablePrep

AnyTable = TypeVar("AnyTable", bound="datamodules.Table")


class TableData(Experiment):
    """The data that all table experiments share; each adds its model."""

    predicts: ClassVar[Literal["number", "class"]] = "number"

    precision = "32-true"

    target: str = "target"
    """Column to predict."""
    columns: Columns = Columns()
    """Kinds of columns that are not to be inferred."""
    prep: TablePrep = TablePrep()
    """How numbers and the target are scaled."""
    optim: Optim = Optim()
    """Optimiser and schedule."""

    def datamodule(self) -> datamodules.Table:
        return self.table(datamodules.Table)

    def table(self, kind: type[AnyTable]) -> AnyTable:
        """Build a data module of a table with the experiment's fields."""
        return kind(
            self.data_dir,
            source=self.source,
            target=self.target,
            predicts=self.predicts,
            columns=self.columns,
            prep=self.prep,
            bins=self.bins(),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
        )

    def bins(self) -> int:
        """Return how many bins of each number the model asks for."""
        return 0


class Regressor(TableData):
    """What predicts a number."""

    monitor = "val/rmse"

    loss: Literal["mse", "mae", "huber", "quantile", "gaussian"] = "mse"
    """The last two give an interval along with the prediction."""
    interval: float = 0.9
    """Share of the targets that should lie in the interval."""

    def regression(self, model: Any, spec: DataSpec, start: Literal["no", "start"] = "no") -> tasks.Regression:
        return tasks.Regression(model, spec, self.optim, loss=self.loss, interval=self.interval, cached_features=start)


class Classifier(ClassificationExperiment, TableData):
    """What predicts a class."""

    predicts = "class"

    label_smoothing: float = 0.0
    """Share of each target that is spread over all classes."""

    def classification(
        self, model: Any, spec: DataSpec, start: Literal["no", "start"] = "no"
    ) -> tasks.TabularClassification:
        return tasks.TabularClassification(
            model, spec, self.optim, label_smoothing=self.label_smoothing, cached_features=start
        )


class Deep(TableData):
    """The recipe of the multilayer perceptrons."""

    max_epochs = 40
    batch_size = 128
    grad_clip = 1.0
    prep = TablePrep(clip=0.005)
    optim = Optim(lr=3e-3, weight_decay=0.1, warmup=0.05)

    mlp: Perceptron = Perceptron(bins=16)
    """Layers, widths and how numbers and categories are taken in."""

    def bins(self) -> int:
        return self.mlp.bins


class Solved(TableData):
    """The recipe of the linear models: solved, then an epoch of steps that change little."""

    max_epochs = 1
    batch_size = 128
    optim = Optim(lr=1e-5, weight_decay=0.0)

    solve: bool = True
    """Start from the solution in closed form, or by L-BFGS; else from zeros."""

    @property
    def start(self) -> Literal["no", "start"]:
        return "start" if self.solve else "no"


class TableRegression(Deep, Regressor):
    """Predict a number by a multilayer perceptron.

    python scripts/run.py experiments/tables.py --data-dir my.csv --target price
    """

    def task(self, spec: DataSpec) -> tasks.Regression:
        return self.regression(models.MLP(spec, tasks.OUTPUTS[self.loss], self.mlp, weights=self.weights), spec)


class TableClassification(Deep, Classifier):
    """Predict a class by a multilayer perceptron.

    python scripts/run.py experiments/tables.py:TableClassification --data-dir my.csv --target species
    """

    def task(self, spec: DataSpec) -> tasks.TabularClassification:
        return self.classification(models.MLP(spec, spec.num_classes, self.mlp, weights=self.weights), spec)


class TableLinear(Solved, Regressor):
    """Predict a number by linear regression.

    python scripts/run.py experiments/tables.py:TableLinear --data-dir my.csv --target price
    """

    def task(self, spec: DataSpec) -> tasks.Regression:
        model = models.Linear(spec, tasks.OUTPUTS[self.loss], weights=self.weights)
        return self.regression(model, spec, self.start)


class TableLogistic(Solved, Classifier):
    """Predict a class by logistic, for several classes softmax regression.

    python scripts/run.py experiments/tables.py:TableLogistic --data-dir my.csv --target species
    """

    def task(self, spec: DataSpec) -> tasks.TabularClassification:
        return self.classification(models.Linear(spec, spec.num_classes, weights=self.weights), spec, self.start)


DEFAULT = TableRegression
