"""Shapley values of columns: known exactly for a linear model, shap's own otherwise, with an error that is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from table_runs import built, labels, linear_values, number, one_class, wide

from experiments.tables import TableLinear, TableRegression
from src.explain.checks import Checks, drawn
from src.explain.explanation import Explanation
from src.explain.method import Attribution
from src.explain.shapley import kernel_shap, load_shap, permutation
from src.explain.table_gradients import integrated_gradients

shap = load_shap()
METHODS = (kernel_shap, permutation)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide(tmp_path_factory.mktemp("wide") / "wide.csv")


@pytest.mark.parametrize("method", METHODS)
def test_the_values_of_a_linear_model_are_exact(method: Any, houses: Path, many: Path) -> None:
    for linear, path in (
        (number(houses, linear=True), houses),
        (built(TableLinear(data_dir=many, accelerator="cpu")), many),
    ):
        chosen = linear.examples([path])[3:6]  # one misses a number
        for example, found in zip(chosen, method(linear.subject, chosen, [0] * 3), strict=True):
            expected = linear_values(linear, example)
            scale = np.abs(expected).max()
            assert scale > 0
            assert found.values == pytest.approx(expected, abs=1e-5 * scale)
            assert found.error == pytest.approx(0, abs=1e-5 * scale), "every mask says the same"


def test_kernel_shap_is_shaps_own_on_groups_of_encoded_cells(houses: Path) -> None:
    """All 2^5 masks are scored by both, so that nothing is left to chance."""
    prices = number(houses)
    chosen, spec = prices.examples([houses])[:3], prices.subject.spec
    groups = [np.flatnonzero(chosen[0].places.all == place) for place in range(5)]

    def score(rows: np.ndarray) -> np.ndarray:
        numbers = torch.from_numpy(rows[:, : spec.numbers].astype(np.float32))
        categories = torch.from_numpy(rows[:, spec.numbers :].astype(np.int64))
        return prices.subject.score((numbers, categories), torch.zeros(len(rows), dtype=torch.int64)).numpy()

    rows = np.hstack(
        [tensor.numpy().astype(float) for tensor in (prices.background.numbers, prices.background.categories)]
    )
    explainer = shap.KernelExplainer(score, shap.utils._legacy.DenseData(rows, list(chosen[0].names), groups))
    own = kernel_shap(prices.subject, chosen, [0] * 3)
    for example, found in zip(chosen, own, strict=True):
        row = np.hstack([tensor.numpy().astype(float) for tensor in example.tensors])
        expected = explainer.shap_values(row, l1_reg=False, silent=True)[0]
        assert found.values == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())
        assert found.error is not None
        assert not found.error.any()


def test_what_is_drawn_errs_as_far_as_it_says(many: Path) -> None:
    """Of 12 columns, against the exact values, and against shap's own draws on the background itself."""
    network = built(TableRegression(data_dir=many, accelerator="cpu"))
    chosen = network.examples([many])[:3]
    exact = [one.values for one in kernel_shap(network.subject, chosen, [0] * 3, evaluations=2**13)]

    def score(rows: np.ndarray) -> np.ndarray:
        tensors = torch.from_numpy(rows.astype(np.float32)), torch.zeros(len(rows), 0, dtype=torch.int64)
        return network.subject.score(tensors, torch.zeros(len(rows), dtype=torch.int64)).detach().numpy()

    np.random.seed(0)
    explainer = shap.KernelExplainer(score, network.background.numbers.numpy().astype(float))
    rows = np.concatenate([example.tensors[0].numpy() for example in chosen]).astype(float)
    own = explainer.shap_values(rows, nsamples=1024, l1_reg=False, silent=True)
    for method in METHODS:
        found = method(network.subject, chosen, [0] * 3, evaluations=1024)
        said = rms([one.error for one in found])
        assert 0.5 * said < rms([one.values - true for one, true in zip(found, exact, strict=True)]) < 2 * said
        assert rms([one.values - other for one, other in zip(found, own, strict=True)]) < 3 * said
        assert 0 < said < 0.05 * np.abs(exact).max()
        share: Any = drawn(found)
        assert share == pytest.approx(max(np.asarray(one.error).max() / np.ptp(one.values) for one in found))
        assert f"up to {share:.1%} of the spread" in Checks(None, drawn=share).lines()["drawn"]
        assert drawn([one._replace(error=np.zeros(12)) for one in found]) is None, "nothing was drawn"
        again = method(network.subject, chosen, [0] * 3, evaluations=1024)
        assert all((one.values == other.values).all() for one, other in zip(found, again, strict=True)), "seeded"


@pytest.mark.parametrize("method", METHODS)
def test_ninety_five_percent_intervals_hold_ninety_five_percent(method: Any, many: Path) -> None:
    """By 1.96 standard errors of four estimates they would hold 85 %."""
    network = built(TableRegression(data_dir=many, accelerator="cpu"))
    chosen = network.examples([many])[:2]
    exact = [one.values for one in kernel_shap(network.subject, chosen, [0] * 2, evaluations=2**13)]
    held: list[np.ndarray] = []
    for seed in range(10):
        for example, true, found in zip(
            chosen, exact, method(network.subject, chosen, [0] * 2, evaluations=192, seed=100 * seed), strict=True
        ):
            row = Explanation("", "table", "", 0.0, found.values, error=found.error, freedom=found.freedom)
            there = found.error > 0
            assert there.sum() == len(example.varying)
            held.append((np.abs(found.values - true) <= row.margin)[there])
    assert np.concatenate(held).mean() > 0.92


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("method", METHODS)
def test_the_values_add_up_for_each_kind_of_target(method: Any, houses: Path, tagged: Path) -> None:
    for network, data, target in (
        (number(houses), houses, 0),
        (one_class(houses), houses, 1),
        (labels(tagged), tagged, 2),
    ):
        chosen = network.examples([data])[:4]
        before: Any = np.random.get_state()
        found: list[Attribution] = method(network.subject, chosen, [target] * 4)
        after: Any = np.random.get_state()
        assert (after[1] == before[1]).all(), "others draw from it"
        for example, one in zip(chosen, found, strict=True):
            shown, hidden = network.subject.scores(example, target, np.array([[True], [False]]).repeat(len(example), 1))
            assert one.sums_to == pytest.approx(shown - hidden)
            assert one.values.sum() == pytest.approx(one.sums_to, abs=1e-3 * np.ptp(one.values))
            assert np.abs(one.values).max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_column_that_is_the_same_in_all_rows_has_exactly_nothing(method: Any, many: Path) -> None:
    network = built(TableRegression(data_dir=many, accelerator="cpu"))
    rows = network.examples([many])[-5:-1]
    place = rows[0].names.index("seldom")
    found = method(network.subject, rows, [0] * 4, evaluations=256)
    assert [row.cells[place] for row in rows] == ["1.5", "1.5", "2.5", "2.5"]
    assert [one.values[place] != 0 for one in found] == [False, False, True, True]
    assert found[0].error[place] == 0
    assert (np.delete(found[0].values, place) != 0).all()


@pytest.mark.parametrize("names", [("x0",), ("kind",), ("kind", "sort")])
def test_tables_of_few_columns_and_of_categories_alone_are_explained(names: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x0": rng.normal(size=90), "kind": rng.choice(list("abc"), 90), "sort": ["u", "v"] * 45})
    frame["target"] = frame["x0"] + (frame["kind"] == "a")
    frame[[*names, "target"]].to_csv(tmp_path / "few.csv", index=False)
    network = built(TableRegression(data_dir=tmp_path / "few.csv", accelerator="cpu"))
    chosen = network.examples([tmp_path / "few.csv"])[:3]
    assert chosen[0].names == names
    for method in (*METHODS, integrated_gradients):
        for found in method(network.subject, chosen, [0] * 3):
            assert np.abs(found.values).max() > 0
            assert found.sums_to is not None
            size = max(abs(found.sums_to), np.abs(found.values).sum() / 10)
            assert found.values.sum() == pytest.approx(found.sums_to, abs=0.01 * size)
