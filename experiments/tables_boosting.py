"""Any table with a column to predict, as in tables.py, by gradient-boosted trees."""

from __future__ import annotations

from experiments.bases.fitted_tables import BoostedTable
from experiments.bases.tables import OneTarget, SeveralTargets
from src import models
from src.experiment import ClassificationExperiment, DataSpec, MultiLabelExperiment, RegressionExperiment


class TableBoosting(RegressionExperiment, OneTarget, BoostedTable):
    """Predict a number by gradient boosting; --loss quantile gives an interval too.

    python scripts/run.py experiments/tables_boosting.py --data-dir my.csv --target price
    """

    def network(self, spec: DataSpec, num_outputs: int) -> models.BoostedTrees:
        return models.BoostedTrees(
            spec,
            num_outputs,
            self.boosting,
            loss=self.loss,
            interval=self.interval,
            seed=self.seed,
            weights=self.weights,
        )


class TableBoostingClassification(ClassificationExperiment, OneTarget, BoostedTable):
    """Predict a class by gradient boosting.

    python scripts/run.py experiments/tables_boosting.py:TableBoostingClassification --data-dir my.csv --target species
    """


class TableBoostingMultiLabel(MultiLabelExperiment, SeveralTargets, BoostedTable):
    """Predict any number of labels by gradient boosting, of each label by itself.

    python scripts/run.py experiments/tables_boosting.py:TableBoostingMultiLabel --data-dir my.csv --target tags
    """


DEFAULT = TableBoosting
