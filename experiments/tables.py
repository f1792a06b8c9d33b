"""Any table with a column to predict (CSV, Parquet): a number, a class or several labels; by an MLP, or linear."""

from __future__ import annotations

from experiments.bases.deep_tables import DeepTable
from experiments.bases.fitted_tables import SolvedTable
from experiments.bases.tables import OneTarget, SeveralTargets
from src.experiment import ClassificationExperiment, MultiLabelExperiment, RegressionExperiment


class TableRegression(RegressionExperiment, OneTarget, DeepTable):
    """Predict a number by a multilayer perceptron.

    python scripts/run.py experiments/tables.py --data-dir my.csv --target price
    Expected without --data-dir, on 66 of 442 patients (scikit-learn's diabetes): test/rmse 52.6 (49.4-58.4, 3 seeds),
    where gradient boosting has 48.7 and ridge regression 49.6: so few rows are better served by TableLinear; 8 s
    """


class TableClassification(ClassificationExperiment, OneTarget, DeepTable):
    """Predict a class by a multilayer perceptron.

    python scripts/run.py experiments/tables.py:TableClassification --data-dir my.csv --target species
    Expected without --data-dir, on 86 of 569 tumours (scikit-learn's breast cancer): test/acc 0.992 (0.988-1.000, 3
    seeds; one tumour is 0.012), where logistic regression and gradient boosting have 0.988; 10 s
    """


class TableMultiLabel(MultiLabelExperiment, SeveralTargets, DeepTable):
    """Predict any number of labels by a multilayer perceptron.

    python scripts/run.py experiments/tables.py:TableMultiLabel --data-dir my.csv --target tags
    python scripts/run.py experiments/tables.py:TableMultiLabel --data-dir my.csv --target red blue
    Expected without --data-dir, on 300 of 2 000 synthetic documents with 5 topics: test/map 0.833 (0.831-0.835, 3
    seeds) and test/f1_micro 0.743 (0.730-0.754), where gradient boosting has 0.794 and 0.701, and logistic regression
    0.791 and 0.692; 5-20 s
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
