"""Terms of texts, counted and fitted by scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression, RidgeCV
from threadpoolctl import threadpool_limits

from src.configs.text import Terms

PENALTIES = np.logspace(-2, 4, 13)
"""Of a ridge regression."""
Fit = tuple[np.ndarray, np.ndarray, str]
"""Weight [terms, outputs], bias [outputs], and how they were found."""


def count(ids: np.ndarray, tokens: int, unknown: int, terms: Terms) -> tuple[Any, np.ndarray]:
    """Return the counts of tokens, then of pairs, sparse [texts, terms], and the pairs, as `WeightedTerms` has them.

    Args:
        ids: of tokens [texts, length], -1 behind a text's end.
        tokens: that there are.
        unknown: the token that is no word.
        terms: what is counted.
    """
    known = (ids >= 0) & (ids != unknown)
    rows, places = np.nonzero(known)
    found = _table(rows, ids[rows, places], (len(ids), tokens))
    if not terms.pairs:
        return found, np.zeros(0, np.int64)
    rows, places = np.nonzero(known[:, :-1] & known[:, 1:])
    keys, which = np.unique(ids[rows, places] * tokens + ids[rows, places + 1], return_inverse=True)
    of_pairs = _table(rows, which, (len(ids), len(keys)))
    often = of_pairs.getnnz(axis=0) >= terms.least
    return sparse.hstack([found, of_pairs[:, often]], format="csr"), keys[often]


def _table(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Any:
    found = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    found.sum_duplicates()
    return found


def tf_idf(counts: Any, least: int) -> tuple[Any, np.ndarray]:
    """Return what the terms of each text count, sparse [texts, terms], and the idf of each term; 0 for those that are
    in fewer texts than `least`."""
    kept = sparse.diags((counts.getnnz(axis=0) >= least).astype(float), format="csr")
    counts = counts @ kept
    counts.eliminate_zeros()
    transformer = TfidfTransformer(sublinear_tf=True).fit(counts)
    return transformer.transform(counts), transformer.idf_ * kept.diagonal()


def classes(weighted: Any, target: np.ndarray, class_weights: np.ndarray | None, outputs: int, strength: float) -> Fit:
    """Fit a logistic regression to classes [texts]. One without texts is as likely everywhere as with half a text."""
    there = np.unique(target)
    weight, bias = np.zeros((weighted.shape[1], outputs)), np.full(outputs, np.log(0.5 / len(target)))
    bias[there] = 0
    if len(there) > 1:
        model = _fitted(weighted, target, strength, None if class_weights is None else class_weights[target])
        scored = there[-1:] if len(there) == 2 else there  # the first of two classes has 0
        weight[:, scored], bias[scored] = model.coef_.T, model.intercept_
    return weight, bias, f"logistic regression, L2 {1 / strength:g}"


def labels(weighted: Any, target: np.ndarray, strength: float) -> Fit:
    """Fit a logistic regression to each label, bool [texts, labels]; one that all texts have, or none, as if half a
    text differed."""
    shares = target.mean(0).clip(0.5 / len(target), 1 - 0.5 / len(target))
    weight, bias = np.zeros((weighted.shape[1], target.shape[1])), np.log(shares / (1 - shares))
    for label in np.flatnonzero(target.any(0) & ~target.all(0)):
        model = _fitted(weighted, target[:, label], strength)
        weight[:, label], bias[label] = model.coef_[0], model.intercept_[0]
    return weight, bias, f"logistic regressions, L2 {1 / strength:g}"


def number(weighted: Any, target: np.ndarray) -> Fit:
    """Fit a ridge regression to numbers [texts]; five folds choose its penalty."""
    with threadpool_limits(1):
        model: Any = RidgeCV(PENALTIES, cv=min(5, len(target))).fit(weighted, target)
    return model.coef_[:, None], np.array([model.intercept_]), f"ridge regression, L2 {model.alpha_:g} by folds"


def _fitted(weighted: Any, target: np.ndarray, strength: float, weights: np.ndarray | None = None) -> Any:
    """Return a fitted logistic regression."""
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits
        return LogisticRegression(C=strength, max_iter=1000).fit(weighted, target, sample_weight=weights)
