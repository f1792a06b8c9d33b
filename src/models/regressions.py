"""Ridge and logistic regressions on fixed features, whose strength of L2 is chosen by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, softmax

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

L2_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Tried for a classifier; per example, on standardised features."""
FOLDS = 5
"""Of the cross-validation that chooses one of them."""
MANY = 10_000
"""Examples above which only one of the folds is held out."""
RIDGE_STRENGTHS = (1e-8, *L2_STRENGTHS)
"""The same for a regression; the first is too small to shrink what the data determine."""

Fit = tuple[float, np.ndarray, np.ndarray]
"""L2 strength, weight [outputs, num_features] and bias [outputs]."""
Fits = Callable[[np.ndarray, np.ndarray], Iterator[Fit]]
"""Features and targets -> a fit for each of `L2_STRENGTHS`, from the strongest."""


def ridge_regression(features: np.ndarray, targets: np.ndarray) -> Fit:
    """Return the minimum of mean squared error + strength * |weight|^2 at that of `RIDGE_STRENGTHS` with the least
    leave-one-out error. A standard error of it, as for classes, would be given away: it is what is measured in the
    end, and shrinking costs 2-4 % of it on a hundred rows (`benchmarks/notes.md`).
    """
    from sklearn.linear_model import RidgeCV  # takes seconds

    size = len(features)
    fitted = RidgeCV(np.multiply(RIDGE_STRENGTHS, size)).fit(features.astype(np.float64), targets.astype(np.float64))
    chosen = np.argmin(np.abs(np.multiply(RIDGE_STRENGTHS, size) - np.asarray(fitted.alpha_)))
    return RIDGE_STRENGTHS[chosen], np.asarray(fitted.coef_)[None], np.array([fitted.intercept_])


def logistic_regression(features: np.ndarray, targets: np.ndarray, class_weights: np.ndarray) -> Fit:
    """Return the minimum of the mean cross-entropy, weighted by class, + strength / 2 * |weight|^2, at the strength
    that cross-validation chooses. An example that is alone in its class is never held out.

    Args:
        features: [examples, num_features], standardised.
        targets: class of each example.
        class_weights: [classes].
    """

    def fits(features: np.ndarray, targets: np.ndarray) -> Iterator[Fit]:
        return logistic_fits(features, targets, class_weights)

    folds = deal(targets[:, None])
    folds[np.bincount(targets)[targets] == 1] = FOLDS
    held, logits = held_out(fits, features, targets, folds)
    true = np.eye(len(class_weights))[targets[held]]
    errors = {l2: np.square(softmax(found, axis=1) - true).sum(1) for l2, found in logits.items()}
    chosen = strongest_alike(errors, class_weights[targets[held]])
    return next(fit for fit in fits(features, targets) if fit[0] == chosen)


def label_regressions(features: np.ndarray, targets: np.ndarray) -> Fit:
    """Return for each label the minimum of the mean cross-entropy + strength / 2 * |weight|^2, at the strength that
    cross-validation chooses for all.

    A label that all examples have, or none, has a bias alone, as if half an example were otherwise.

    Args:
        features: [examples, num_features], standardised.
        targets: whether an example has a label [examples, labels].
    """
    held, logits = held_out(label_fits, features, targets, deal(targets))
    errors = {l2: np.square(expit(found) - targets[held]).mean(1) for l2, found in logits.items()}
    chosen = strongest_alike(errors, np.ones(len(held)))
    return next(fit for fit in label_fits(features, targets) if fit[0] == chosen)


def deal(targets: np.ndarray) -> np.ndarray:
    """Return a fold of `FOLDS` for each example, the same every time: rows of `targets` [examples, columns] that are
    alike are shuffled and dealt out one after another.
    """
    order = np.random.default_rng(0).permutation(len(targets))
    order = order[np.lexsort(targets[order].T)]
    folds = np.empty(len(targets), np.int64)
    folds[order] = np.arange(len(targets)) % FOLDS
    return folds


def held_out(
    fits: Fits, features: np.ndarray, targets: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """Return the positions of examples and, for each strength, their logits by fits that have not seen them.

    Of more than `MANY` examples only the first fold is held out: it is large enough to tell strengths apart, and
    the time is that of a few fits.

    Args:
        fits: see there.
        features, targets: of all examples.
        folds: of each example; where it is not below `FOLDS` the example is never held out.
    """
    tried = range(FOLDS if len(features) <= MANY else 1)
    parts = [found for fold in tried if len(found := np.flatnonzero(folds == fold))]
    logits: dict[float, list[np.ndarray]] = {l2: [] for l2 in L2_STRENGTHS}
    for held in parts:
        kept = np.delete(np.arange(len(features)), held)
        for l2, weight, bias in fits(features[kept], targets[kept]):
            logits[l2].append(features[held] @ weight.T + bias)
    if not parts:
        return np.empty(0, np.int64), {}
    return np.concatenate(parts), {l2: np.concatenate(found) for l2, found in logits.items()}


def strongest_alike(errors: Mapping[float, np.ndarray], weights: np.ndarray) -> float:
    """Return the greatest strength whose mean error is at most one standard error above the least (Breiman et al.
    1984; Hastie, Tibshirani & Friedman 2009, 7.10): of what cannot be told apart, the most regularised does better on
    data of other sources. Without two examples nothing can be told, and it is the greatest of all.

    The errors are Brier scores: proper like the cross-entropy, but bounded, so that the few examples that a fit is
    sure of and wrong, often mislabelled ones, decide less.

    Args:
        errors: of each strength tried, on the same held-out examples [examples].
        weights: of these examples.
    """
    count = len(weights)
    if count < 2:
        return max(L2_STRENGTHS)
    shares = weights / weights.sum()
    means = {l2: float(shares @ error) for l2, error in errors.items()}
    best = min(means, key=lambda l2: means[l2])
    deviations = shares * (errors[best] - means[best])
    least = means[best] + np.sqrt(np.square(deviations).sum() * count / (count - 1))
    return max(l2 for l2, mean in means.items() if mean <= least)


def logistic_fits(features: np.ndarray, targets: np.ndarray, class_weights: np.ndarray) -> Iterator[Fit]:
    """Yield a fit for each of `L2_STRENGTHS`, from the strongest: each starts where the one before ended."""
    from sklearn.linear_model import LogisticRegression  # takes seconds

    classes = len(class_weights)
    # An example without weight for each class: scikit-learn leaves out a class that has none.
    features = np.concatenate([features, np.zeros((classes, features.shape[1]), np.float32)])
    weights = np.concatenate([class_weights[targets], np.zeros(classes, np.float32)])
    targets = np.concatenate([targets, np.arange(classes)])
    model = LogisticRegression(tol=1e-5, max_iter=200, warm_start=True)
    # Of two classes scikit-learn fits the difference w of the two weights, w / 2 and -w / 2, whose squares add to half.
    penalty = weights.sum() / (2 if classes == 2 else 1)
    for l2 in sorted(L2_STRENGTHS, reverse=True):
        model.C = 1 / (l2 * penalty)
        _fit(model, features, targets, weights)
        weight, bias = np.array(model.coef_), np.array(model.intercept_)  # copies: the next fit starts from them
        if classes == 2:
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        yield l2, weight, bias


def label_fits(features: np.ndarray, targets: np.ndarray) -> Iterator[Fit]:
    """Yield a fit for each of `L2_STRENGTHS`, from the strongest: each starts where the one before ended."""
    from sklearn.linear_model import LogisticRegression  # takes seconds

    size, count = len(features), targets.sum(0)
    weight, bias = np.zeros((targets.shape[1], features.shape[1])), np.log((count + 0.5) / (size - count + 0.5))
    varying = np.flatnonzero((count > 0) & (count < size))
    models = [LogisticRegression(tol=1e-5, max_iter=200, warm_start=True) for _ in varying]
    for l2 in sorted(L2_STRENGTHS, reverse=True):
        for label, model in zip(varying, models, strict=True):
            model.C = 1 / (l2 * size)
            _fit(model, features, targets[:, label])
            weight[label], bias[label] = np.asarray(model.coef_)[0], np.asarray(model.intercept_)[0]
        yield l2, weight.copy(), bias.copy()


def _fit(
    model: LogisticRegression, features: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> None:
    """Fit on from where the model is. One that is not finished is judged as it is."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, targets, weights)
