"""Any table with a column to predict (CSV, Parquet): a number, a class or several labels; by an MLP, or linear."""

from __future__ import annotations

from experiments.bases.tables import DeepTable, OneTarget, SeveralTargets, SolvedTable
from src.experiment import ClassificationExperiment, MultiLabelExperiment, RegressionExperiment


class TableRegression(RegressionExperiment, OneTarget, DeepTable):
    """Predict a number by a multilayer perceptron.

    python scripts/run.py experiments/tables.py --data-dir my.csv --target price
    """


class TableClassification(ClassificationExperiment, OneTarget, DeepTable):
    """Predict a class by a multilayer perceptron.

    python scripts/run.py experiments/tables.py:TableClassification --data-dir my.csv --target species
    """


class TableMultiLabel(MultiLabelExperiment, SeveralTargets, DeepTable):
    """Predict any number of labels by a multilayer perceptron.

    python scripts/run.py experiments/tables.py:TableMultiLabel --data-dir my.csv --target tags
    python scripts/run.py experiments/tables.py:TableMultiLabel --data-dir my.csv --target red blue
    """


class TableLinear(RegressionExperiment, OneTarget, SolvedTable):
    """Predict a number by linear regression.

    python scripts/run.py experiments/tables.py:TableLinear --data-dir my.csv --target price
    """


class TableLogistic(ClassificationExperiment, OneTarget, SolvedTable):
    """Predict a class by logistic, for several classes softmax regression.

    python scripts/run.py experiments/tables.py:TableLogistic --data-dir my.csv --target species
    """


DEFAULT = TableRegression
