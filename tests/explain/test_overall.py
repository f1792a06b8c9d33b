"""What a run looks at, over all rows: known for a linear model; whole columns are shuffled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score
from table_runs import labels, number, one_class

from src.explain.overall import overall


def test_a_linear_model_has_straight_lines_and_the_drops_of_its_weights(houses: Path) -> None:
    linear = number(houses, linear=True)
    network: Any = linear.subject.network
    with torch.no_grad():
        network.head.linear.weight[:, -3:] = 0  # of heating
        network.head.linear.weight[:, 1] = 2  # of rooms
    found = overall(linear.subject, linear.datamodule, repeats=5)
    val = linear.datamodule.ids("val")
    frame = pd.read_csv(houses).set_index("id").loc[list(val)]
    worth = {one.column: one for one in found.importances}
    assert [*worth] == sorted(worth, key=lambda name: -worth[name].drop)
    assert (worth["heating"].drop, *worth["heating"].interval) == (0, 0, 0)
    low, high = worth["rooms"].interval
    assert 0 < low < worth["rooms"].drop < high
    assert (found.metric, found.rows, found.repeats, found.target) == ("r2", len(val), 5, "prediction")
    (rooms,) = [one for one in found.dependences if one.column == "rooms"]
    assert list(rooms.grid) == sorted(str(value) for value in frame["rooms"].unique())
    assert rooms.places is not None
    assert rooms.places.tolist() == [float(value) for value in rooms.grid]
    encoder = linear.datamodule.preparation(linear.subject.spec).encoder
    slope = 2 * linear.subject.spec.target.std / encoder.scale[1]
    assert np.diff(rooms.lines, axis=1) == pytest.approx(
        np.diff(rooms.places)[None].repeat(len(val), 0) * slope, rel=1e-3
    )
    assert rooms.mean == pytest.approx(rooms.lines.mean(0))
    assert rooms.lines[0, rooms.grid.index(str(frame["rooms"].iloc[0]))] == pytest.approx(
        float(predictions(linear)[0]), rel=1e-5
    )


def predictions(built: Any) -> np.ndarray:
    batch = built.datamodule.dataset("val", train=False)[list(range(built.datamodule.sizes()["val"]))]
    with torch.no_grad():
        outputs = built.subject.outputs((batch["numbers"], batch["categories"]))
    return {name: values.numpy() for name, values in built.subject.task.objective.predictions(outputs).items()}[
        "prediction" if not built.subject.classes else "prob"
    ]


def test_a_shuffled_column_is_shuffled_whole(houses: Path) -> None:
    """The drop is that of rows whose area, or date, is another row's in the table itself."""
    prices = number(houses)
    found = overall(prices.subject, prices.datamodule, repeats=3, seed=4)
    (table,) = prices.datamodule.raw_inputs("val", range(prices.datamodule.sizes()["val"]))
    assert isinstance(table, pd.DataFrame)
    generator, true = np.random.default_rng(4), prices.datamodule.targets("val").numpy()
    worth = {one.column: one.drop for one in found.importances}
    assert found.score == pytest.approx(r2_score(true, predictions(prices)))
    for name in ("area", "rooms", "sold", "town", "heating"):
        drops: list[float] = []
        for _ in range(3):
            cells = table[name].iloc[generator.permutation(len(table))].to_numpy()
            rows = prices.examples([table.assign(**{name: pd.array(cells, dtype=table[name].dtype)})])
            numbers, categories = (torch.cat([row.tensors[i] for row in rows]) for i in range(2))
            shuffled = prices.subject.score((numbers, categories), torch.zeros(len(rows), dtype=torch.int64))
            drops.append(found.score - float(r2_score(true, shuffled.numpy())))
        assert worth[name] == pytest.approx(np.mean(drops), rel=1e-4, abs=1e-7)


def test_each_kind_of_target_has_the_score_of_its_run(houses: Path, tagged: Path) -> None:
    for network, metric, shown in (
        (number(houses), "r2", "prediction"),
        (one_class(houses), "acc", "small"),
        (labels(tagged), "f1_micro", "garden"),
    ):
        found = overall(network.subject, network.datamodule, repeats=2)
        predicted = predictions(network)
        name = "prob" if network.subject.classes else "prediction"
        true = network.datamodule.targets("val").numpy()
        own = network.subject.task.objective.score({name: predicted}, true)
        assert (found.metric, found.score) == (metric, pytest.approx(own[metric], abs=1e-6))
        assert found.target == shown
        for one in found.dependences:
            assert one.lines.shape == (found.rows, len(one.grid))
            assert (one.places is None) == (one.column in ("town", "heating"))
            if one.places is not None:
                assert (np.diff(one.places) > 0).all()
        second = overall(network.subject, network.datamodule, 0, repeats=2)
        assert second.importances == found.importances
        assert second.target == (network.subject.classes or ("prediction",))[0]


def test_what_there_is_no_time_for_is_left_out_and_said(houses: Path) -> None:
    prices = number(houses)
    whole = overall(prices.subject, prices.datamodule, repeats=2)
    assert whole.left_out == ()
    answers = iter([False, True, True])
    found = overall(prices.subject, prices.datamodule, repeats=2, enough=lambda: next(answers))
    assert sorted(one.column for one in found.importances) == ["area", "rooms"], "the first two of the table"
    assert {one.column: one for one in whole.importances}["rooms"] in found.importances
    assert found.dependences == ()
    assert found.left_out == (
        "the importance of the last 3 of 5 columns",
        "the partial dependence of 2 of 2 columns",
    )
