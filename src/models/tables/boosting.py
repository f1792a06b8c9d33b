"""scikit-learn's gradient boosting, and its trees as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE as NODE

from src.configs.table import Boosting

Tree = Any
"""scikit-learn's TreePredictor."""
LARGEST = float(np.finfo(np.float32).max)
"""Takes the place of an infinite threshold, which could not be averaged: no number of a row is greater."""


class Boosted(NamedTuple):
    """Raw scores, of which each output of a network has one or none."""

    trees: list[list[Tree]]
    """Of each score."""
    score_of: np.ndarray
    """Score of each output, int64 [outputs]; `len(trees)` where it has none."""
    bias: np.ndarray
    """What is added to the trees of an output, float64 [outputs]."""


class Booster:
    """Fits boosting to the cells of training rows.

    Args:
        boosting: how the trees grow.
        cells: [rows, columns], NaN where a number is missing.
        categorical: columns that are categories, whose codes are 0, 1, 2, ...
        seed: of the rows that are held out to stop early.
    """

    def __init__(self, boosting: Boosting, cells: np.ndarray, categorical: Sequence[int], seed: int) -> None:
        self.cells = cells
        self.settings: dict[str, Any] = {
            "learning_rate": boosting.learning_rate,
            "max_iter": boosting.iterations,
            "max_leaf_nodes": boosting.leaves,
            "min_samples_leaf": boosting.min_leaf,
            "l2_regularization": boosting.l2,
            "categorical_features": list(categorical) or None,
            "random_state": seed,
        }

    def number(self, target: np.ndarray, loss: str, quantiles: Sequence[float | None]) -> Boosted:
        """Fit a regression to a target [rows], for each of the quantiles if there are some."""
        fitted: list[Any] = [
            HistGradientBoostingRegressor(loss=loss, quantile=quantile, **self.settings).fit(self.cells, target)  # pyright: ignore[reportArgumentType]
            for quantile in quantiles
        ]
        trees = [tree for model in fitted for tree in trees_of(model)]
        return Boosted(trees, np.arange(len(trees)), np.concatenate([bias_of(model) for model in fitted]))

    def classes(self, target: np.ndarray, class_weights: np.ndarray | None, count: int) -> Boosted:
        """Fit to the classes of a target [rows]. One without rows is as likely everywhere as if half a row had it."""
        there = np.unique(target)
        trees: list[list[Tree]] = []
        bias = np.zeros(count)
        scored = there[-1:] if len(there) == 2 else there  # the score of the first of two classes is 0
        if len(there) > 1:
            model = self._classifier(target, None if class_weights is None else class_weights[target])
            trees, bias[scored] = trees_of(model), bias_of(model)
        score_of = np.full(count, len(trees))
        score_of[scored[: len(trees)]] = np.arange(len(trees))
        bias[np.setdiff1d(np.arange(count), there)] = logsumexp(bias[there]) + np.log(0.5 / len(target))
        return Boosted(trees, score_of, bias)

    def labels(self, target: np.ndarray) -> Boosted:
        """Fit to each label of a target, bool [rows, labels]; one that all rows have, or none, as if half a row
        differed."""
        shares = target.mean(0).clip(0.5 / len(target), 1 - 0.5 / len(target))
        trees: list[list[Tree]] = []
        score_of, bias = np.zeros(target.shape[1], np.int64), np.log(shares / (1 - shares))
        varying = np.flatnonzero(target.any(0) & ~target.all(0))
        for label in varying:
            model = self._classifier(target[:, label])
            trees += trees_of(model)
            bias[label] = bias_of(model).item()
        score_of[:] = len(trees)
        score_of[varying] = np.arange(len(trees))
        return Boosted(trees, score_of, bias)

    def _classifier(self, target: np.ndarray, weights: np.ndarray | None = None) -> Any:
        alone = np.unique(target, return_counts=True)[1].min() < 2  # cannot be on both sides of what is held out
        stop: Any = False if alone else "auto"
        model = HistGradientBoostingClassifier(early_stopping=stop, **self.settings)
        return model.fit(self.cells, target, sample_weight=weights)


def trees_of(model: Any) -> list[list[Tree]]:
    """Return the trees of each raw score; `shap` reads them from the same place."""
    return [list(trees) for trees in zip(*model._predictors, strict=True)]


def bias_of(model: Any) -> np.ndarray:
    """Return the raw scores without trees, float64 [scores]."""
    return np.ravel(model._baseline_prediction)


def laid_out(
    trees: Sequence[Sequence[Tree]], columns: int, known: Mapping[int, np.ndarray], codes: int
) -> dict[str, np.ndarray]:
    """Return the nodes of all trees in a row, as the tensors of `models.tables.trees.Trees`.

    Args:
        trees: of each score, which may have more trees than another.
        columns: that they were fitted to.
        known: categorical column -> the codes that the trees count as 0, 1, 2, ..., ascending.
        codes: of the category with the most.
    """
    order = np.array([*known, *(column for column in range(columns) if column not in known)])  # scikit-learn's
    flat = [tree for of_score in trees for tree in of_score]
    nodes: Any = np.concatenate([np.zeros(1, NODE), *(tree.nodes for tree in flat)])
    nodes["is_leaf"][0] = True  # the tree of a score that has no more of them
    sizes = np.array([1, *(len(tree.nodes) for tree in flat)], np.int64)
    first = np.cumsum(sizes) - sizes
    leaf, categorical = nodes["is_leaf"] == 1, nodes["is_categorical"] == 1
    own, tree_of = np.arange(len(nodes)), np.repeat(np.arange(len(sizes)), sizes)
    children = np.stack([nodes[side] + first[tree_of] for side in ("left", "right")], 1)
    feature = order[nodes["feature_idx"]]
    split = np.zeros(len(nodes), np.int64)
    split[categorical] = 1 + np.arange(categorical.sum())
    right_codes = np.zeros((1 + categorical.sum(), codes), bool)
    for node in np.flatnonzero(categorical):
        sets = flat[tree_of[node] - 1].raw_left_cat_bitsets.astype("<u4").view(np.uint8)
        goes_left = np.unpackbits(sets[nodes["bitset_idx"][node]], bitorder="little") == 1
        there = known[feature[node]]
        right_codes[split[node]] = not nodes["missing_go_to_left"][node]
        right_codes[split[node], there] = ~goes_left[: len(there)]
    roots = np.zeros((max(map(len, trees), default=0), len(trees)), np.int64)
    for score, of_score in enumerate(trees):
        before = 1 + sum(map(len, trees[:score]))
        roots[: len(of_score), score] = first[before : before + len(of_score)]
    return {
        "roots": roots.astype(np.int32),
        "values": np.where(leaf, nodes["value"], 0).astype(np.float32),
        "feature": feature.astype(np.int32),
        "threshold": rounded_down(np.where(leaf | categorical, LARGEST, nodes["num_threshold"].clip(max=LARGEST))),
        "child": np.where(leaf[:, None], own[:, None], children).astype(np.int32),
        "missing_right": ~leaf & ~categorical & (nodes["missing_go_to_left"] == 0),
        "split": split.astype(np.int32),
        "right_codes": right_codes,
        "levels": np.bincount(nodes["depth"][~leaf]),
    }


def rounded_down(numbers: np.ndarray) -> np.ndarray:
    """Return the largest float32 that is no greater, of each."""
    found = numbers.astype(np.float32)
    return np.where(found > numbers, np.nextafter(found, np.float32(-np.inf)), found)
