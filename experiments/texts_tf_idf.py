"""Any table of texts with a column to predict, as in texts.py, by the words and pairs of words that are in them."""

from __future__ import annotations

from experiments.bases.texts import LabelledTexts, TargetTexts
from experiments.bases.tf_idf_texts import TfIdfTexts
from src.experiment import MultiLabelExperiment, RegressionExperiment, Search, choice


class TextsTfIdf(LabelledTexts, TfIdfTexts):
    """Tell which label a text has by logistic regression on TF-IDF.

    python scripts/run.py experiments/texts_tf_idf.py --data-dir tickets.csv --text-column body --label-column team
    Expected without --data-dir, on the packaged 17 474 / 2 499 / 5 000 reviews of IMDb, held out as blocks:
    test/acc 0.900, val/acc 0.893 (nothing depends on the seed), 2 min on 1 busy core; the baseline, which counts other
    words (two letters at least, no signs), has 0.898. On 300 of 2 000 sentences of Rotten Tomatoes 0.683 and 0.697
    """

    label_smoothing = 0.0


class TextsTfIdfMultiLabel(MultiLabelExperiment, TargetTexts, TfIdfTexts):
    """Tell which labels, any number of them, a text has by a logistic regression of each on TF-IDF.

    python scripts/run.py experiments/texts_tf_idf.py:TextsTfIdfMultiLabel --data-dir tickets.csv --target tags
    Expected on the made-up tickets (2100/450/450): test/map 0.880, test/f1_macro 0.796, as the baseline of --baselines
    (0.879 and 0.795)
    """


class TextsTfIdfRegression(RegressionExperiment, TargetTexts, TfIdfTexts):
    """Predict a number from a text by ridge regression on TF-IDF.

    python scripts/run.py experiments/texts_tf_idf.py:TextsTfIdfRegression --data-dir reviews.csv --target stars
    Expected on the made-up reviews (2100/450/450): test/rmse 0.990, test/r2 0.575; the baseline has 0.989 and 0.576
    """

    search = Search({"terms.pairs": choice(True, False), "terms.least": choice(1, 2, 4)}, trials=6)


DEFAULT = TextsTfIdf
