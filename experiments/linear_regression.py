"""The first model of every course: y = 2x from four points, by gradient descent and in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.tables import TableLinear
from src import callbacks, datamodules
from src.experiment import Optim, TablePrep

if TYPE_CHECKING:
    from lightning.pytorch import Callback


class LinearRegression(TableLinear):
    """Fit a line to four points by gradient descent; prints what it predicts for x = 5, and draws the way there.

    python scripts/run.py experiments/linear_regression.py
    Expected: weight 1.9999, bias 0.0003, and 9.9998 for x = 5; 8 s
    """

    target = "y"
    max_epochs = 250
    batch_size = 4
    solve = False
    prep = TablePrep(numbers="none", target="none")
    optim = Optim(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")

    def datamodule(self) -> datamodules.Line:
        return self.table(datamodules.Line)

    def callbacks(self) -> list[Callback]:
        return [callbacks.LossSurface(at=5.0)]


class LinearRegressionSolved(LinearRegression):
    """Fit the same line in closed form.

    python scripts/run.py experiments/linear_regression.py:LinearRegressionSolved
    Expected: weight 2.0000, bias 0.0000, and 10.0000 for x = 5; 1 s
    """

    max_epochs = 1
    solve = True


DEFAULT = LinearRegression
