"""Rows as they are explained: columns are the table's own, hidden cells are those of training rows."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import own_home
from table_runs import FIELDS, Built, number

from experiments.tables import TableLogistic
from src.configs.errors import InputError
from src.datamodules import Table
from src.explain.tables import background, read
from src.inference.batch import predict
from src.inference.own_data import data_of, moved_to
from src.inference.predictor import load_run, prepared
from src.training import runner

pytestmark = pytest.mark.usefixtures("quiet")
COLUMNS = ("area", "rooms", "sold", "town", "heating")


@pytest.fixture(scope="module")
def table(houses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The houses, of which some have no number of rooms, others no area; not to be changed."""
    frame = pd.read_csv(houses, dtype=str, keep_default_na=False)
    frame.loc[frame.index % 13 == 2, "rooms"] = ""
    path = tmp_path_factory.mktemp("table") / "houses.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def prices(table: Path) -> Built:
    return number(table)


def test_the_parts_are_the_columns_of_the_table(prices: Built, table: Path) -> None:
    examples, errors, notes = read(prices.datamodule, prices.subject.spec, [table], prices.background)
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    assert (errors, notes) == ({}, [])
    assert [example.id for example in examples] == frame["id"].tolist()
    assert {example.names for example in examples} == {COLUMNS}
    for example, (_, row) in zip(examples, frame.iterrows(), strict=True):
        assert example.cells == tuple(row[name] for name in COLUMNS)
        assert float(example.expected) == float(row["price"])


def test_a_hidden_column_has_the_cells_of_training_rows_and_all_of_them(prices: Built, table: Path) -> None:
    """A number goes with its missing indicator, a date with all of its parts."""
    example, rows = prices.examples([table])[93], prices.background  # without area and rooms
    numbers, categories = (tensor[0] for tensor in example.tensors)
    kept = np.array([[name != hidden for name in COLUMNS] for hidden in COLUMNS])
    hidden_numbers, hidden_categories = (tensor.unflatten(0, (5, 8)) for tensor in example.hidden(kept))
    of = {"area": [0, 7], "rooms": [1, 8], "sold": [2, 3, 4, 5, 6], "town": [], "heating": []}
    assert len(numbers) == 9
    assert numbers[7:].tolist() == [1, 1], "indicators"
    for place, name in enumerate(COLUMNS):
        others = [at for at in range(9) if at not in of[name]]
        assert torch.equal(hidden_numbers[place][:, of[name]], rows.numbers[:, of[name]])
        assert torch.equal(hidden_numbers[place][:, others], numbers[others].expand(8, -1))
        for at, category in enumerate(("town", "heating")):
            wanted = rows.categories[:, at] if category == name else categories[at].expand(8)
            assert torch.equal(hidden_categories[place][:, at], wanted)
    train = prices.datamodule.dataset("train", train=False)[list(range(prices.datamodule.sizes()["train"]))]
    there = torch.cat([train["numbers"], train["categories"]], 1)
    for row in torch.cat([rows.numbers, rows.categories], 1):
        assert (there == row).all(1).any(), "a real row"
    (all_shown,) = example.hidden(np.ones((1, 5), bool))[0].unflatten(0, (1, 8))
    assert torch.equal(all_shown, numbers.expand(8, -1))


def test_cells_are_placed_among_the_training_rows(prices: Built, table: Path) -> None:
    frame = pd.read_csv(table).set_index("id")
    train = frame.loc[list(prices.datamodule.ids("train"))]
    row = {"area": "100.5", "rooms": 3, "sold": "2010-06-15", "town": "Ghent", "heating": ""}
    strange = row | {"area": "", "town": "Rome", "heating": "gas"}
    one, other = prices.examples([pd.DataFrame([row, strange])])
    expected = [
        (train["area"].dropna() < 100.5).mean(),
        (train["rooms"].dropna() < 3).mean(),
        (train["sold"] < "2010-06-15").mean(),
        (train["town"] == "Ghent").mean(),
        np.nan,
    ]
    assert one.quantiles == pytest.approx(expected, nan_ok=True)
    assert other.quantiles == pytest.approx(
        [np.nan, *expected[1:3], 0, (train["heating"] == "gas").mean()], nan_ok=True
    )


def test_the_background_is_drawn_with_a_seed_and_may_be_the_whole_split(prices: Built) -> None:
    same, other, whole = (background(prices.datamodule, count=n, seed=s) for n, s in ((8, 0), (8, 1), (10**6, 0)))
    assert torch.equal(same.numbers, prices.background.numbers)
    assert not torch.equal(same.numbers, other.numbers)
    assert len(whole) == prices.datamodule.sizes()["train"]


def test_rows_are_read_as_a_prediction_reads_them_and_the_data_must_be_there(
    houses: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path / "houses.csv"
    shutil.copy(houses, data)
    with own_home(tmp_path_factory.mktemp("run")):
        run = runner.run(TableLogistic(data_dir=data, target="size", **FIELDS))
        rows = pd.read_csv(houses, dtype=str, keep_default_na=False).head(6)
        rows.loc[2, "rooms"] = "many"
        rows.to_csv(tmp_path / "new.csv", index=False)
        datamodule = data_of(run, moved_to(load_run(run)[0], None))
        restored = prepared(run, [tmp_path / "new.csv"])[2]
        assert isinstance(datamodule, Table)
        assert isinstance(restored, Table)
        found, errors, _ = read(restored, datamodule.spec, [tmp_path / "new.csv"], background(datamodule))
        predicted = pd.read_csv(io.StringIO(predict(run, [tmp_path / "new.csv"]).text), keep_default_na=False)
        wrong = predicted["error"] != ""
        assert [example.id for example in found] == predicted["id"][~wrong].tolist()
        assert errors == dict(zip(predicted["id"][wrong], predicted["error"][wrong], strict=True))
        assert "rooms: 'many' is no finite number" in errors["h2"]
        with open(data, "a", encoding="utf-8") as file:
            file.write("h120,1,1,Ghent,2001-01-15,gas,100000,small\n")
        with pytest.raises(InputError, match=r"the data have changed since .* --data-dir"):
            data_of(run, moved_to(load_run(run)[0], None))
        data.unlink()
        with pytest.raises(InputError, match=r"no longer there\. Name them with --data-dir"):
            data_of(run, moved_to(load_run(run)[0], None))
        assert data_of(run, moved_to(load_run(run)[0], houses)).fingerprint == datamodule.fingerprint
