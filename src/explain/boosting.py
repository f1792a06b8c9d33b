"""TreeSHAP of the gradient boosting that `--baselines` fits beside a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from src.datamodules import Table
from src.explain.method import Attribution
from src.explain.shapley import load_shap
from src.explain.subject import Subject
from src.explain.tables import TableExample, column_of_plain
from src.training.baselines import estimators

NAME = "gradient boosting"
"""Of the baseline, in a run's record."""
HistGradientBoosting = HistGradientBoostingClassifier | HistGradientBoostingRegressor


class _Output(NamedTuple):
    """A raw score of the boosting."""

    model: HistGradientBoosting
    number: int
    """Among the model's own."""
    position: int
    """Among the classes or labels."""
    sign: int = 1
    """-1 for the first of two classes."""


class _Trees(NamedTuple):
    """An output's trees, as `shap` takes them."""

    explainer: Any
    """A `shap.TreeExplainer`."""
    ranks: dict[int, np.ndarray]
    """See `_ranks`."""


class Boosting:
    """A run's gradient boosting, and its Shapley values (TreeSHAP; Lundberg et al. 2020,
    https://doi.org/10.1038/s42256-019-0138-9), path-dependent: a hidden column goes both ways at a split, in the shares
    of the training rows. It is a `Method` that explains the baseline in place of the network.

    The values add up to the boosting's raw score, a log-odds or the number itself, minus its mean.

    Args:
        datamodule: the run's data, set up as recorded; the boosting is fitted to its training split.
    """

    def __init__(self, datamodule: Table) -> None:
        self.spec, inputs = datamodule.spec, datamodule.baseline_inputs("train")
        target = datamodule.targets("train").numpy()
        self.model = estimators(inputs, self.spec.target.kind)[NAME].fit(inputs, target)
        columns = datamodule.preparation(self.spec).encoder.columns
        self.columns = np.array([column_of_plain(name, columns) for name in inputs.columns], np.int64)
        self.trees = [output and _trees(output, inputs, target) for output in self.outputs]

    def __call__(self, subject: Subject, examples: Sequence[TableExample], targets: Sequence[int]) -> list[Attribution]:
        """Return Shapley values of the boosting; `subject` is not asked."""
        frame = pd.concat([example.plain for example in examples])
        scores, found = self.scores(frame), list[Attribution]()
        values, base = self.values(frame)
        for row, target in enumerate(targets):
            of_columns = np.bincount(self.columns, weights=values[row, :, target], minlength=len(examples[row]))
            found.append(Attribution(of_columns, None, float(scores[row, target] - base[target])))
        return found

    @property
    def outputs(self) -> list[_Output | None]:
        """What scores each class, label or number; None for one that training had always or never."""
        if self.spec.target.kind == "multi_label":
            models = enumerate(self.model.estimators_)
            return [_Output(one, 0, label) if _boosts(one) else None for label, one in models]
        if self.spec.target.kind == "regression":
            return [_Output(self.model, 0, 0)]
        known = self.model.classes_.tolist()
        found: list[_Output | None] = [None] * self.spec.num_classes
        for number, position in enumerate(known):
            two = len(known) == 2
            found[position] = _Output(self.model, 0 if two else number, position, -1 if two and not number else 1)
        return found

    def scores(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the raw scores [rows, outputs] of rows as baselines take them; 0 where there is no model."""
        found: list[np.ndarray] = []
        for output in self.outputs:
            if output is None:
                raw = np.zeros(len(frame))
            elif isinstance(output.model, HistGradientBoostingRegressor):
                raw = output.model.predict(frame)
            else:
                raw = output.sign * output.model.decision_function(frame).reshape(len(frame), -1)[:, output.number]
            found.append(raw)
        return np.stack(found, 1)

    def values(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return the values [rows, features, outputs] of rows as baselines take them, and the mean score [outputs].

        A date has a feature for each of its parts.
        """
        values, base = np.zeros((*frame.shape, len(self.outputs))), np.zeros(len(self.outputs))
        for place, (output, trees) in enumerate(zip(self.outputs, self.trees, strict=True)):
            if output is not None and trees is not None:
                encoded, order = _encoded(output.model, frame, trees.ranks)
                values[:, order, place] = output.sign * trees.explainer.shap_values(encoded)
                base[place] = output.sign * float(np.ravel(trees.explainer.expected_value)[0])
        return values, base


def _boosts(model: Any) -> bool:
    return isinstance(model, HistGradientBoostingClassifier)


def _private(model: HistGradientBoosting, name: str) -> Any:
    """Return what scikit-learn keeps of a fitted boosting; `shap` reads the same."""
    return getattr(model, name)


def _trees(output: _Output, inputs: pd.DataFrame, target: np.ndarray) -> _Trees:
    """Return the trees of an output, given the training rows."""
    ranks = _ranks(output, inputs, target)
    trees = [_tree(step[output.number], ranks) for step in _private(output.model, "_predictors")]
    offset = float(np.ravel(_private(output.model, "_baseline_prediction"))[output.number])
    model = {"trees": trees, "base_offset": offset, "input_dtype": np.float64}
    return _Trees(load_shap().TreeExplainer(model), ranks)


def _encoded(
    model: HistGradientBoosting, frame: pd.DataFrame, ranks: Mapping[int, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows as the trees see them, float64 [rows, features], and the place of each feature in the frame.

    Categories are codes, or ranks where these are given, and come first; one that training had not is NaN.
    """
    encoded = np.array(_private(model, "_preprocess_X")(frame, reset=False), np.float64)
    for feature, rank in ranks.items():
        known = ~np.isnan(encoded[:, feature])
        encoded[known, feature] = rank[encoded[known, feature].astype(int)]
    categorical = model.is_categorical_
    if categorical is None:
        return encoded, np.arange(frame.shape[1])
    return encoded, np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])


def _ranks(output: _Output, inputs: pd.DataFrame, target: np.ndarray) -> dict[int, np.ndarray]:
    """Return feature -> rank of each category by its mean target.

    `shap` knows no splits of categories but by a threshold. In this order, the categories that a split sends left are
    mostly neighbours, so that few thresholds do.
    """
    if output.model.is_categorical_ is None:
        return {}
    encoded, _ = _encoded(output.model, inputs, {})
    numbers, ranks = _as_number(output, target), dict[int, np.ndarray]()
    for feature in range(int(output.model.is_categorical_.sum())):
        known = ~np.isnan(encoded[:, feature])
        codes = encoded[known, feature].astype(int)
        means = np.bincount(codes, weights=numbers[known]) / np.bincount(codes)
        ranks[feature] = np.argsort(np.argsort(means, kind="stable"))
    return ranks


def _tree(predictor: Any, ranks: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a tree as `shap` takes it. A split of categories becomes splits by their rank, with what is below it
    repeated: the path-dependent values stay the same, since the repeats add up to its shares of the rows."""
    nodes: list[list[float]] = []
    names = ("children_left", "children_right", "children_default", "features", "thresholds", "values")
    source = predictor.nodes

    def add(node: Any, weight: float) -> int:
        nodes.append([-1, -1, -1, -2, 0.0, node["value"], weight])
        return len(nodes) - 1

    def grow(number: int, weight: float) -> int:
        node = source[number]
        at = add(node, weight)
        if node["is_leaf"]:
            return at
        sides = (int(node["right"]), int(node["left"]))
        weights = [weight * source[side]["count"] / node["count"] for side in sides]
        missing, feature = int(node["missing_go_to_left"]), int(node["feature_idx"])
        runs = [(1, node["num_threshold"], 1.0)]
        if node["is_categorical"]:
            runs = list(_runs(predictor.raw_left_cat_bitsets[node["bitset_idx"]], ranks[feature]))
        here = at
        for place, (side, threshold, share) in enumerate(runs):
            first = grow(sides[side], weights[side] * share)
            if last := place >= len(runs) - 2:
                other = runs[place + 1] if place + 1 < len(runs) else (1 - side, 0.0, 1.0)
                second = grow(sides[other[0]], weights[other[0]] * other[2])
            else:
                second = add(node, nodes[here][-1] - weights[side] * share)
            nodes[here][:5] = first, second, first if side == missing else second, feature, threshold
            if last:
                break
            here = second
        return at

    grow(0, float(source[0]["count"]))
    array = np.array(nodes)
    found = {name: array[:, place] for place, name in enumerate(names)}
    return found | {"values": array[:, 5:6], "node_sample_weight": array[:, 6]}


def _runs(bits: np.ndarray, ranks: np.ndarray) -> Iterator[tuple[int, float, float]]:
    """Yield for each run of neighbouring ranks that a split sends to one side: 1 for left, the threshold after it, and
    its share of the side's categories."""
    codes = np.argsort(ranks)
    left = (bits[codes // 32] >> (codes % 32).astype(np.uint32)) & 1
    ends = np.flatnonzero(np.append(left[1:] != left[:-1], True))
    starts = np.append(0, ends[:-1] + 1)
    for start, end in zip(starts, ends, strict=True):
        side = int(left[start])
        yield side, end + 0.5, (end + 1 - start) / (left == side).sum()


def _as_number(output: _Output, target: np.ndarray) -> np.ndarray:
    """Return what categories are ordered by, float64 [rows]: the target, or whether it is the output's class."""
    if isinstance(output.model, HistGradientBoostingRegressor):
        return target.astype(np.float64)
    return (target[:, output.position] if target.ndim == 2 else target == output.position).astype(np.float64)
