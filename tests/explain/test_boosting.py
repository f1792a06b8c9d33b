"""TreeSHAP of the boosting: shap's own where that can be asked, by definition where categories are split."""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from table_runs import FIELDS, built, labels, number, one_class, wide

from experiments.tables import TableRegression
from src.explain.boosting import Boosting
from src.explain.shapley import load_shap
from src.training.baselines import fit_baselines


def test_the_values_are_shaps_own_where_there_are_numbers_alone(tmp_path: Path) -> None:
    network = built(TableRegression(data_dir=wide(tmp_path / "wide.csv"), **FIELDS))
    boosting = Boosting(network.datamodule)
    frame = network.datamodule.baseline_inputs("val")
    explainer = load_shap().TreeExplainer(boosting.model)
    values, base = boosting.values(frame)
    assert np.ptp(values) > 1
    assert values[:, :, 0] == pytest.approx(explainer.shap_values(frame), abs=1e-12)
    assert base == pytest.approx(explainer.expected_value, abs=1e-12)


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose target depends on which of 40 codes stands in it, in no order, and on a number with it."""
    rng = np.random.default_rng(0)
    code, level = rng.integers(0, 40, 800), rng.normal(size=800)
    effect = rng.normal(size=40)
    kind = rng.choice(["a", "b", ""], 800)
    target = effect[code] * (1 + level) + (kind == "") - (kind == "a") * effect[code]
    path = tmp_path_factory.mktemp("codes") / "codes.csv"
    frame = pd.DataFrame({"level": level, "code": [f"c{one}" for one in code], "kind": kind, "target": target})
    frame.loc[rng.random(800) < 0.05, "level"] = np.nan
    frame.to_csv(path, index=False)
    return path


def test_splits_of_categories_are_explained_by_the_definition(codes: Path) -> None:
    network = built(TableRegression(data_dir=codes, **FIELDS))
    boosting = Boosting(network.datamodule)
    rows = pd.DataFrame({"level": ["0.5", "-1", ""], "code": ["c3", "c17", "c99"], "kind": ["a", "", "b"]})
    examples = network.examples([rows])
    found = boosting(network.subject, examples, [0] * 3)
    model: Any = boosting.model
    assert isinstance(model, HistGradientBoostingRegressor)
    trees = [step[0] for step in model._predictors]  # pyright: ignore[reportAttributeAccessIssue]
    assert sum(tree.nodes["is_categorical"].sum() for tree in trees) > 100
    for example, one in zip(examples, found, strict=True):
        row: np.ndarray = np.asarray(model._preprocess_X(example.plain, reset=False))[0]
        order = ["code", "kind", "level"]  # categories come first
        expected = shapley(lambda shown, row=row: sum(mean(tree, row, shown) for tree in trees), 3)
        assert one.values == pytest.approx([expected[order.index(name)] for name in example.names], abs=1e-9)
        assert one.values.sum() == pytest.approx(one.sums_to, abs=1e-9)


def mean(tree: Any, row: np.ndarray, shown: frozenset[int], at: int = 0) -> float:
    """Return the mean of a tree where some features are known, as Lundberg et al. 2020 define it (algorithm 1)."""
    node = tree.nodes[at]
    if node["is_leaf"]:
        return float(node["value"])
    left, right, value = int(node["left"]), int(node["right"]), row[node["feature_idx"]]
    if node["feature_idx"] not in shown:
        parts = [tree.nodes[side]["count"] * mean(tree, row, shown, side) for side in (left, right)]
        return sum(parts) / node["count"]
    if np.isnan(value):
        goes_left = node["missing_go_to_left"]
    elif node["is_categorical"]:
        goes_left = tree.raw_left_cat_bitsets[node["bitset_idx"]][int(value) // 32] >> (int(value) % 32) & 1
    else:
        goes_left = value <= node["num_threshold"]
    return mean(tree, row, shown, left if goes_left else right)


def shapley(score: Any, count: int) -> list[float]:
    score = functools.cache(score)
    found = [0.0] * count
    for order in itertools.permutations(range(count)):
        for place, one in enumerate(order):
            gain = score(frozenset(order[: place + 1])) - score(frozenset(order[:place]))
            found[one] += gain / math.factorial(count)
    return found


def test_it_is_the_runs_baseline_and_adds_up_for_each_kind_of_target(houses: Path, tagged: Path) -> None:
    for network, data, targets in (
        (number(houses), houses, (0,)),
        (one_class(houses), houses, (0, 1)),
        (one_class(houses, target="town"), houses, (0, 1, 2)),
        (labels(tagged), tagged, (0, 1, 2)),
    ):
        boosting = Boosting(network.datamodule)
        frame = network.datamodule.baseline_inputs("val")
        raw = boosting.scores(frame)
        scores = fit_baselines(network.datamodule, ["val"])["gradient boosting"]
        true = network.datamodule.targets("val").numpy()
        if "val/acc" in scores:
            assert (raw.argmax(1) == true).mean() == pytest.approx(scores["val/acc"])
        elif "val/rmse" in scores:
            assert np.sqrt(np.mean((raw[:, 0] - true) ** 2)) == pytest.approx(scores["val/rmse"])
        else:
            assert ((raw > 0) == true).all(1).mean() == pytest.approx(scores["val/exact_match"])
        examples = network.examples([data])[:5]
        for target in targets:
            for found in boosting(network.subject, examples, [target] * 5):
                size = np.abs(found.values).max()
                assert size > 0
                assert found.values.shape == (len(examples[0]),)
                assert found.values.sum() == pytest.approx(found.sums_to, abs=1e-6 * size)
