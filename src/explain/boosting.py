"""TreeSHAP of the gradient boosting that `--baselines` fits beside a run.

`shap.TreeExplainer` (0.51) takes scikit-learn's splits of categories for thresholds, and says so nowhere: on the prices
of houses its values miss their sum by more than a price. So this is our own, the same where there are numbers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, softmax
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from typing_extensions import override

from src.datamodules import Table
from src.explain.method import Attribution
from src.explain.subject import Subject
from src.explain.tables import TableExample, column_of_plain
from src.tasks import Task
from src.training.baselines import estimators

NAME = "gradient boosting"
"""Of the baseline, in a run's record."""
HistGradientBoosting = HistGradientBoostingClassifier | HistGradientBoostingRegressor


class _Output(NamedTuple):
    """A raw score of the boosting."""

    model: HistGradientBoosting
    number: int
    """Among the model's own."""
    sign: int = 1
    """-1 for the first of two classes."""


class Boosting:
    """A run's gradient boosting, and its Shapley values (TreeSHAP; Lundberg et al. 2020,
    https://doi.org/10.1038/s42256-019-0138-9), path-dependent: a hidden column goes both ways at a split, in the shares
    of the training rows. It is a `Method` that explains the baseline in place of the network.

    The values add up to the boosting's raw score minus its mean: the log-odds of one of two classes or of a label, a
    score of one of more classes whose softmax is the probability, or the number itself.

    Args:
        datamodule: the run's data, set up as recorded; the boosting is fitted to its training split.
    """

    def __init__(self, datamodule: Table) -> None:
        self.spec, inputs = datamodule.spec, datamodule.baseline_inputs("train")
        target = datamodule.targets("train").numpy()
        self.model = estimators(inputs, self.spec.target.kind)[NAME].fit(inputs, target)
        columns = datamodule.preparation(self.spec).encoder.columns
        self.columns = np.array([column_of_plain(name, columns) for name in inputs.columns], np.int64)

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
            return [_Output(one, 0) if _boosts(one) else None for one in self.model.estimators_]
        if self.spec.target.kind == "regression":
            return [_Output(self.model, 0)]
        known = self.model.classes_.tolist()
        found: list[_Output | None] = [None] * self.spec.num_classes
        for number, position in enumerate(known):
            two = len(known) == 2
            found[position] = _Output(self.model, 0 if two else number, -1 if two and not number else 1)
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
        for place, output in enumerate(self.outputs):
            if output is None:
                continue
            encoded, order = _encoded(output.model, frame)
            base[place] = np.ravel(_private(output.model, "_baseline_prediction"))[output.number]
            for step in _private(output.model, "_predictors"):
                of_tree, mean = tree_values(step[output.number], encoded)
                values[:, order, place] += of_tree
                base[place] += mean
            values[..., place] *= output.sign
            base[place] *= output.sign
        return values, base


class Boosted(Subject):
    """The gradient boosting, asked in place of the run's network.

    Args:
        task: of the run.
        boosting: fitted to the run's training split.
    """

    def __init__(self, task: Task, boosting: Boosting) -> None:
        super().__init__(task)
        self.boosting = boosting

    @override
    def likeliest(self, examples: Sequence[Any]) -> list[int]:
        if not self.classes:
            return [0] * len(examples)
        return self.boosting.scores(pd.concat([example.plain for example in examples])).argmax(1).tolist()

    @override
    def answer(self, example: Any, target: int) -> float:
        return float(self._answers(example.plain, target)[0])

    @override
    def scores(self, example: Any, target: int, kept: np.ndarray, *, raw: bool = False) -> np.ndarray:
        rows = pd.concat([example.plain, example.background.plain], ignore_index=True)  # the first is its own
        others = 1 + np.arange(example.backgrounds)
        taken = np.where(kept[:, self.boosting.columns, None], 0, others)  # [masks, features, backgrounds]
        cells = {
            name: rows[name].take(taken[:, place].ravel()).reset_index(drop=True)
            for place, name in enumerate(rows.columns)
        }
        answers = self._answers(pd.DataFrame(cells), target)
        if raw and not self.classes:
            objective: Any = self.task.objective
            answers = objective.scaled(torch.from_numpy(answers)).numpy()
        return answers.reshape(len(kept), -1).mean(1)

    def _answers(self, frame: pd.DataFrame, target: int) -> np.ndarray:
        """Return the probability of a class or label, or the number, float64 [rows]."""
        scores = self.boosting.scores(frame)
        if not self.classes:
            return scores[:, 0]
        if self.spec.target.kind == "single_label" and scores.shape[1] > 2:
            return softmax(scores, axis=1)[:, target]
        return expit(scores[:, target])


def _boosts(model: Any) -> bool:
    return isinstance(model, HistGradientBoostingClassifier)


def _private(model: HistGradientBoosting, name: str) -> Any:
    """Return what scikit-learn keeps of a fitted boosting; `shap` reads the same."""
    return getattr(model, name)


def _encoded(model: HistGradientBoosting, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return rows as the trees see them, float64 [rows, features], and the place of each feature in the frame.

    Categories are codes and come first; one that training had not is NaN.
    """
    encoded = np.asarray(_private(model, "_preprocess_X")(frame, reset=False), np.float64)
    categorical = model.is_categorical_
    if categorical is None:
        return encoded, np.arange(frame.shape[1])
    return encoded, np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])


def tree_values(predictor: Any, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the Shapley values of a tree for some rows, float64 [rows, features], and its mean.

    A leaf is worth its value times, for each feature on its path, 1 or 0 where the feature is known, as the row gets
    through or not, and otherwise the share of the training rows that do. Of such a product the Shapley value is an
    integral over the share of the features that are known (Owen 1972, https://doi.org/10.1287/mnsc.18.5.64), of a
    polynomial, which Gauss and Legendre's few points have exactly.

    Args:
        predictor: scikit-learn's tree.
        rows: as the tree sees them.
    """
    names = predictor.nodes.dtype.names
    nodes: list[dict[str, Any]] = [dict(zip(names, node, strict=True)) for node in predictor.nodes.tolist()]
    values, mean = np.zeros(rows.shape), 0.0

    def walk(node: dict[str, Any], through: Mapping[int, tuple[Any, float]]) -> None:
        nonlocal mean
        if node["is_leaf"]:
            features = list(through)
            known = np.array([through[feature][0] for feature in features], np.float64).reshape(-1, len(rows))
            share = np.array([through[feature][1] for feature in features])[:, None]
            values[:, features] += node["value"] * _of_product(known, share).T
            mean += node["value"] * float(share.prod())
            return
        feature = node["feature_idx"]
        left = _goes_left(predictor, node, rows[:, feature])
        known, share = through.get(feature, (True, 1.0))
        for side, goes in (("left", left), ("right", ~left)):
            child = nodes[node[side]]
            walk(child, {**through, feature: (known & goes, share * child["count"] / node["count"])})

    walk(nodes[0], {})
    return values, mean


def _of_product(known: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the Shapley values [features, rows] of a product, whose factors are `known` [features, rows] where they
    are known and else `share` [features, 1], above 0."""
    points, weights = np.polynomial.legendre.leggauss((len(share) + 1) // 2 or 1)
    total = np.zeros(known.shape)
    for at, weight in zip((points + 1) / 2, weights / 2, strict=True):
        mixed = at * known + (1 - at) * share
        total += weight * mixed.prod(0) / mixed
    return (known - share) * total


def _goes_left(predictor: Any, node: Mapping[str, Any], cells: np.ndarray) -> np.ndarray:
    """Return which cells, float64 [rows], a split sends left."""
    missing = np.isnan(cells)
    if node["is_categorical"]:
        codes = np.where(missing, 0, cells).astype(np.int64)
        bits = predictor.raw_left_cat_bitsets[node["bitset_idx"]].astype(np.int64)
        left = (bits[codes // 32] >> codes % 32) & 1 == 1
    else:
        left = cells <= node["num_threshold"]
    return np.where(missing, bool(node["missing_go_to_left"]), left)
