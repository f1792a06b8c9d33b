"""Any table, images or texts by their nearest neighbours among the training examples; the data as for tables.py,
images.py and texts.py."""

from __future__ import annotations

from experiments.bases.neighbours import NearestImages, NearestRows, NearestTexts
from experiments.bases.tables import OneTarget, SeveralTargets
from experiments.bases.texts import LabelledTexts
from experiments.images import Images
from src.experiment import ClassificationExperiment, MultiLabelExperiment, RegressionExperiment


class TableNeighbours(ClassificationExperiment, OneTarget, NearestRows):
    """Predict a class by the rows that are nearest.

    python scripts/run.py experiments/neighbours.py --data-dir my.csv --target species
    Expected without --data-dir, on 86 of 569 tumours (scikit-learn's breast cancer): test/acc 1.000, val/acc 0.942
    (one tumour is 0.012), where gradient boosting has 0.988 and 0.965; nothing depends on the seed
    """


class TableNeighboursRegression(RegressionExperiment, OneTarget, NearestRows):
    """Predict a number by the rows that are nearest.

    python scripts/run.py experiments/neighbours.py:TableNeighboursRegression --data-dir my.csv --target price
    Expected without --data-dir, on 66 of 442 patients (scikit-learn's diabetes): test/rmse 53.95, where gradient
    boosting has 48.72 and ridge regression 49.57
    """


class TableNeighboursMultiLabel(MultiLabelExperiment, SeveralTargets, NearestRows):
    """Predict any number of labels by the rows that are nearest.

    python scripts/run.py experiments/neighbours.py:TableNeighboursMultiLabel --data-dir my.csv --target tags
    Expected without --data-dir, on 300 of 2 000 synthetic documents with 5 topics: test/map 0.753, where gradient
    boosting has 0.794
    """


class ImagesNeighbours(NearestImages, Images):
    """Tell which class an image has by the images that are nearest to a frozen ImageNet backbone.

    python scripts/run.py experiments/neighbours.py:ImagesNeighbours --data-dir my_pictures
    Expected with the offline fallback backbone (nothing depends on the seed): on Dogs-vs-Cats photographs 2400/400/800
    test/acc 0.993, val/acc 0.993, where a linear head on the same features has 0.994 and 0.998; on drawn cats and dogs
    800/200/400, --image-size 96, test/acc 0.853, val/acc 0.840, 28 s on 1 core
    """


class TextsNeighbours(LabelledTexts, NearestTexts):
    """Tell which label a text has by the texts that are nearest to a frozen encoder.

    python scripts/run.py experiments/neighbours.py:TextsNeighbours --data-dir tickets.csv --label-column team
    Expected with the packaged MiniLM on 300 of 2 000 sentences of Rotten Tomatoes: test/acc 0.700, as TF-IDF with
    logistic regression (0.697); a sentence more or less is 0.003
    """

    label_smoothing = 0.0


DEFAULT = TableNeighbours
