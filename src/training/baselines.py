"""scikit-learn's models on the very same split as a run: what a network has to beat to be worth its cost."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torchmetrics import MetricCollection

from src.datamodules import DataModule
from src.tasks.classification import classification_metrics
from src.tasks.regression import regression_metrics


def fit_baselines(datamodule: DataModule, splits: Sequence[str]) -> dict[str, dict[str, float]]:
    """Fit each baseline to the training split alone.

    Args:
        datamodule: the data, set up.
        splits: what to evaluate on, of 'val' and 'test'.

    Returns:
        Baseline -> '<split>/<metric>' -> value, with the names of a run's own metrics.

    Raises:
        InputError: the data offer nothing that scikit-learn could fit.
    """
    inputs = {split: datamodule.baseline_inputs(split) for split in ("train", *splits)}
    targets = {split: datamodule.targets(split) for split in inputs}
    found: dict[str, dict[str, float]] = {}
    for name, model in estimators(inputs["train"], regression=targets["train"].is_floating_point()).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs["train"], targets["train"].numpy())
        found[name] = {}
        for split in splits:
            metrics = scores(model, inputs[split], targets[split], datamodule.spec.num_classes)
            found[name] |= {f"{split}/{metric}": value for metric, value in metrics.items()}
    return found


def estimators(inputs: Any, *, regression: bool) -> dict[str, Any]:
    """Return the unfitted baselines for a table (DataFrame), texts (list of str) or pictures (array [n, pixels])."""
    dummy = DummyRegressor() if regression else DummyClassifier()
    found: dict[str, Any] = {"mean" if regression else "most frequent": dummy}
    logistic = LogisticRegression(max_iter=1000)
    if isinstance(inputs, pd.DataFrame):
        linear = RidgeCV(np.logspace(-2, 4, 13)) if regression else logistic
        boosting = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        found["ridge regression" if regression else "logistic regression"] = make_pipeline(one_hot(), linear)
        found["gradient boosting"] = boosting(categorical_features="from_dtype", random_state=0)
    elif isinstance(inputs, np.ndarray):
        found["logistic regression on grey pixels"] = make_pipeline(StandardScaler(), logistic)
    else:
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        found["TF-IDF, logistic regression"] = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
    return found


def one_hot() -> Any:
    """Return a transformer: numbers imputed by the median and standardised, categories as 0s and 1s."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_include="category")),
    )


def scores(model: Any, inputs: Any, targets: torch.Tensor, num_classes: int) -> dict[str, float]:
    """Return a run's own metrics for a fitted estimator; a class that training had not has the probability 0."""
    metrics: MetricCollection
    if num_classes:
        metrics = classification_metrics(num_classes)
        prob = np.zeros((len(targets), num_classes), np.float32)
        prob[:, model.classes_] = model.predict_proba(inputs)
        found = torch.from_numpy(prob)
    else:
        metrics = regression_metrics(with_interval=False)
        found = torch.from_numpy(np.asarray(model.predict(inputs), np.float32))
    return {name: float(value) for name, value in metrics(found, targets).items()}
