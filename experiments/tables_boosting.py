"""Any table with a column to predict, as in tables.py, by gradient-boosted trees."""

from __future__ import annotations

from experiments.bases.fitted_tables import BoostedTable
from experiments.bases.tables import OneTarget, SeveralTargets
from src import models
from src.experiment import ClassificationExperiment, DataSpec, MultiLabelExperiment, RegressionExperiment


class TableBoosting(RegressionExperiment, OneTarget, BoostedTable):
    """Predict a number by gradient boosting; --loss quantile gives an interval too.

    python scripts/run.py experiments/tables_boosting.py --data-dir my.csv --target price
    Expected without --data-dir, on 66 of 442 patients (scikit-learn's diabetes): test/rmse 48.72, as the baseline of
    --baselines, which it is; up to 10 000 training rows nothing depends on the seed; 2 s on 1 core
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
    Expected without --data-dir, on 86 of 569 tumours (scikit-learn's breast cancer): test/acc 0.988, as the baseline
    """


class TableBoostingMultiLabel(MultiLabelExperiment, SeveralTargets, BoostedTable):
    """Predict any number of labels by gradient boosting, of each label by itself.

    python scripts/run.py experiments/tables_boosting.py:TableBoostingMultiLabel --data-dir my.csv --target tags
    Expected without --data-dir, on 300 of 2 000 synthetic documents with 5 topics: test/map 0.794, as the baseline
    """


DEFAULT = TableBoosting
