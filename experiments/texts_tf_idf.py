"""Any table of texts with a column to predict, as in texts.py, by the words and pairs of words that are in them."""

from __future__ import annotations

from experiments.bases.texts import LabelledTexts, TargetTexts
from experiments.bases.tf_idf_texts import TfIdfTexts
from src.experiment import MultiLabelExperiment, RegressionExperiment


class TextsTfIdf(LabelledTexts, TfIdfTexts):
    """Tell which label a text has by logistic regression on TF-IDF.

    python scripts/run.py experiments/texts_tf_idf.py --data-dir tickets.csv --text-column body --label-column team
    """

    label_smoothing = 0.0


class TextsTfIdfMultiLabel(MultiLabelExperiment, TargetTexts, TfIdfTexts):
    """Tell which labels, any number of them, a text has by a logistic regression of each on TF-IDF.

    python scripts/run.py experiments/texts_tf_idf.py:TextsTfIdfMultiLabel --data-dir tickets.csv --target tags
    """


class TextsTfIdfRegression(RegressionExperiment, TargetTexts, TfIdfTexts):
    """Predict a number from a text by ridge regression on TF-IDF.

    python scripts/run.py experiments/texts_tf_idf.py:TextsTfIdfRegression --data-dir reviews.csv --target stars
    """


DEFAULT = TextsTfIdf
