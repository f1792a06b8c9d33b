"""scikit-learn's models on the very same split as a run: what a network has to beat to be worth its cost."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from src.configs.spec import DataSpec, TargetKind
from src.datamodules import DataModule
from src.datamodules.capabilities import FitsBaselines, require
from src.tasks.objectives import default_objective


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
    require(datamodule, FitsBaselines, "--baselines", "offers scikit-learn nothing to fit.")
    assert isinstance(datamodule, FitsBaselines)
    spec, objective = datamodule.spec, default_objective(datamodule.spec)
    inputs = {split: datamodule.baseline_inputs(split) for split in ("train", *splits)}
    targets = {split: datamodule.targets(split).numpy() for split in inputs}
    scores: dict[str, dict[str, float]] = {}
    for name, model in estimators(inputs["train"], spec.target.kind).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", "Label .* is present in all training examples")
            model.fit(inputs["train"], targets["train"])
        scores[name] = {}
        for split in splits:
            metrics = objective.score(predictions(model, inputs[split], spec), targets[split])
            scores[name] |= {f"{split}/{metric}": value for metric, value in metrics.items()}
    return scores


def estimators(inputs: Any, kind: TargetKind) -> dict[str, Any]:
    """Return the unfitted baselines for a table (DataFrame), texts (list of str) or images (array [n, pixels])."""
    if kind == "regression":
        # Without folds RidgeCV makes a dense matrix of all pairs of texts.
        folds = None if isinstance(inputs, pd.DataFrame | np.ndarray) else 5
        ridge = RidgeCV(np.logspace(-2, 4, 13), cv=folds)
        return {"mean": DummyRegressor(), **_estimators(inputs, "ridge regression", ridge)}
    simple: Any = DummyClassifier(strategy="prior")
    logistic: Any = LogisticRegression(C=1 if isinstance(inputs, pd.DataFrame | np.ndarray) else 10, max_iter=1000)
    if kind == "multi_label":
        simple, logistic = OneVsRestClassifier(simple), OneVsRestClassifier(logistic)
    return {"most frequent": simple, **_estimators(inputs, "logistic regression", logistic, kind)}


def _estimators(inputs: Any, name: str, linear: Any, kind: TargetKind = "regression") -> dict[str, Any]:
    """Return a linear model on what suits the inputs, and gradient boosting for a table."""
    if isinstance(inputs, pd.DataFrame):
        number = kind == "regression"
        boosting: Any = HistGradientBoostingRegressor if number else HistGradientBoostingClassifier
        boosting = boosting(categorical_features="from_dtype", random_state=0)
        boosting = OneVsRestClassifier(boosting) if kind == "multi_label" else boosting
        return {name: make_pipeline(one_hot(), linear), "gradient boosting": boosting}
    if isinstance(inputs, np.ndarray):
        return {f"{name} on grey pixels": make_pipeline(StandardScaler(), linear)}
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return {f"TF-IDF, {name}": make_pipeline(words, linear)}


def one_hot() -> Any:
    """Return a transformer: numbers imputed by the median and standardised, categories as 0s and 1s."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_include="category")),
    )


def predictions(model: Any, inputs: Any, spec: DataSpec) -> dict[str, np.ndarray]:
    """Return a fitted estimator's predictions as the objective names them; a class that training had not has 0."""
    match spec.target.kind:
        case "regression":
            return {"prediction": np.asarray(model.predict(inputs), np.float64)}
        case "single_label":
            prob = np.zeros((len(inputs), spec.num_classes), np.float32)
            prob[:, model.classes_] = model.predict_proba(inputs)
            return {"prob": prob}
        case "multi_label":
            return {"prob": model.predict_proba(inputs).astype(np.float32)}
