"""Tables of texts with several labels or a number: how they are divided, what is refused, and what stands in."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet, table

from src.datamodules import Fold, TextTable
from src.datamodules.splits import divide_rows
from src.experiment import InputError, TextPrep, Vocabulary
from src.resources.cache import cache_dir

TAGS = ("billing;bug", "bug; billing", "bug", "", "login", "billing")
"""In turns; the first two are the same."""


def write(path: Path, values: Sequence[Any], name: str = "tags", texts: Sequence[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", name])
        writer.writerows(zip(texts or [f"text {number}" for number in range(len(values))], values, strict=True))
    return path


def tagged(path: Path, count: int = 60) -> Path:
    return write(path, [TAGS[number % len(TAGS)] for number in range(count)])


def build(path: Path | None, predicts: Any = "multi_label", column: str = "tags", **arguments: Any) -> TextTable:
    return TextTable(
        path,
        vocabulary=Vocabulary(size=100),
        prep=TextPrep(max_length=8),
        columns=("text", column),
        predicts=predicts,
        **arguments,
    )


def ready(path: Path | None, predicts: Any = "multi_label", column: str = "tags", **arguments: Any) -> TextTable:
    data = build(path, predicts, column, **arguments)
    data.setup("fit")
    return data


def refused(path: Path, predicts: Any = "multi_label", column: str = "tags", **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        ready(path, predicts, column, **arguments)
    return str(error.value)


# ------------------------------------------------------------------------------------------------------ several labels
def test_labels_are_columns_in_any_order_in_the_cell(tmp_path: Path) -> None:
    data = ready(tagged(tmp_path / "x.csv"))
    assert data.spec.classes == ("billing", "bug", "login")
    assert (data.spec.target.kind, data.spec.target.name) == ("multi_label", "tags")
    for split in data.sizes():
        for name, row in zip(data.ids(split), data.targets(split).tolist(), strict=True):
            cell = TAGS[int(name) % len(TAGS)]
            assert row == [float(label in cell) for label in data.spec.classes]
    batch = next(iter(data.val_dataloader()))
    assert batch["target"].shape == (len(batch["index"]), 3)


def test_splits_have_equal_shares_of_each_label(tmp_path: Path) -> None:
    data = ready(tagged(tmp_path / "x.csv", 240))
    assert data.loaded.split == "by label, val 15%, test 15%, seed 0"
    counts, sizes = data.class_counts(), data.sizes()
    assert data.spec.class_counts == tuple(counts["train"].values())
    for label, share in (("billing", 3 / 6), ("bug", 3 / 6), ("login", 1 / 6)):
        for split, size in sizes.items():
            assert counts[split][label] / size == pytest.approx(share, abs=0.03)
    assert sum(sizes.values()) == 240, "texts without labels stay"


def test_folds_have_equal_shares_of_each_label(tmp_path: Path) -> None:
    path = tagged(tmp_path / "x.csv", 120)
    tested: list[str] = []
    for number in (1, 2, 3):
        data = build(path)
        data.fold = Fold(number, 3)
        data.setup("fit")
        tested += data.ids("test")
        assert data.class_counts()["test"] == pytest.approx({"billing": 20, "bug": 20, "login": 20 / 3}, abs=1)
    assert sorted(map(int, tested)) == list(range(120))


def test_a_label_of_one_text_is_in_train(tmp_path: Path) -> None:
    for place in range(0, 60, 7):
        tags = [TAGS[number % len(TAGS)] for number in range(60)]
        tags[place] = "rare"
        counts = ready(write(tmp_path / "x.csv", tags)).class_counts()
        assert [counts[split]["rare"] for split in ("train", "val", "test")] == [1, 0, 0]


def test_rare_labels_are_moved_whole_and_nothing_is_lost() -> None:
    labels = np.zeros((40, 12), np.int64)
    labels[:, 0] = np.arange(40) % 2
    labels[np.arange(11), np.arange(1, 12)] = 1
    parts = divide_rows(40, {"val": 0.2, "test": 0.2}, "here", labels=labels)
    assert sorted(position for part in parts.values() for position in part) == list(range(40))
    assert labels[parts["train"]].any(0).all()
    assert min(map(len, parts.values())) > 0


def test_a_single_label_is_there_or_not(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", ["spam" if number % 3 == 0 else "" for number in range(60)])
    data = ready(path)
    assert data.spec.classes == ("spam",)
    assert data.class_counts() == {"train": {"spam": 14}, "val": {"spam": 3}, "test": {"spam": 3}}
    data = build(path)
    data.fold = Fold(1, 2)
    data.setup("fit")
    assert data.class_counts()["test"] == {"spam": 10}


def test_json_and_parquet_have_lists_of_labels(tmp_path: Path) -> None:
    lists = [[name.strip() for name in TAGS[i % len(TAGS)].split(";") if name] for i in range(60)]
    rows = [{"text": f"text {number}", "tags": names} for number, names in enumerate(lists)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(table({name: [row[name] for row in rows] for name in ("text", "tags")}), tmp_path / "x.parquet")
    expected = ready(tagged(tmp_path / "x.csv"))
    for suffix in ("jsonl", "parquet"):
        data = ready(tmp_path / f"x.{suffix}")
        assert data.fingerprint == expected.fingerprint
        assert data.ids("test") == expected.ids("test")


def test_split_files_of_labels(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 100), ("test", 200)):
        write(tmp_path / f"{split}.csv", ["a;b", "a", ""], texts=[f"text {first + i}" for i in range(3)])
    data = ready(tmp_path)
    assert (data.loaded.split, data.sizes()) == ("as given", {"train": 3, "val": 3, "test": 3})
    assert data.targets("val").tolist() == [[1, 1], [1, 0], [0, 0]]
    write(tmp_path / "val.csv", ["a;c"], texts=["another"])
    assert "val has a label in column tags that train has not: c." in refused(tmp_path)


def test_nothing_to_predict(tmp_path: Path) -> None:
    found = refused(write(tmp_path / "x.csv", [""] * 60))
    assert "column tags has no label at all in train. There is nothing to predict." in found
    assert "column tags is always 3 in train" in refused(write(tmp_path / "x.csv", [3] * 60), "regression")


def test_texts_are_needed_still(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", ["a", "b"] * 30, texts=[*(f"text {i}" for i in range(58)), "", ""])
    data = ready(path)
    assert data.notes[:1] == [f"2 of 60 rows of {path} are left out: 2 without text (text), 0 without label (tags)"]
    path = write(tmp_path / "x.csv", ["a", "b"] * 30, texts=["text", *[""] * 59])
    assert "59 of 60 rows cannot be used" in refused(path)


def test_texts_are_left_out_by_name(tmp_path: Path) -> None:
    path = tagged(tmp_path / "x.csv")
    gone = ready(path).ids("val")[0]
    (tmp_path / "list.csv").write_text(f"id,split,why\n{gone},val,odd\n")
    data = build(path)
    data.quarantine = tmp_path / "list.csv"
    data.setup("fit")
    assert gone not in data.ids("val")
    assert data.sizes() == ready(path).sizes() | {"val": len(ready(path).ids("val")) - 1}


# ------------------------------------------------------------------------------------------------------------- a number
def test_numbers_are_scaled_by_the_training_rows(tmp_path: Path) -> None:
    values = [number / 8 for number in range(80)]
    data = ready(write(tmp_path / "x.csv", values, "stars"), "regression", "stars")
    assert data.loaded.split == "at random, val 15%, test 15%, seed 0"
    assert (data.spec.classes, data.spec.class_counts, data.class_counts()) == ((), (), {})
    train = np.array([values[int(name)] for name in data.ids("train")])
    assert (data.spec.target.mean, data.spec.target.std) == pytest.approx((train.mean(), train.std()))
    for split in data.sizes():
        assert data.targets(split).tolist() == [values[int(name)] for name in data.ids(split)]
    assert max(map(int, data.ids("val"))) - min(map(int, data.ids("val"))) > 20, "no mere cut of the table"


def test_what_is_no_number_is_refused_with_its_rows(tmp_path: Path) -> None:
    values: list[Any] = [number / 8 for number in range(80)]
    values[7], values[50] = "many", "inf"
    path = write(tmp_path / "x.csv", values, "stars")
    wrong = "2 values of column stars are no finite numbers: 'many', 'inf' (rows 7, 50, counted from 0)"
    assert f"{path}: {wrong}" in refused(path, "regression", "stars")


def test_a_row_without_a_number_is_left_out(tmp_path: Path) -> None:
    values: list[Any] = [number / 8 for number in range(80)]
    values[7] = ""
    path = write(tmp_path / "x.csv", values, "stars")
    data = ready(path, "regression", "stars")
    assert sum(data.sizes().values()) == 79
    assert data.notes == [f"1 of 80 rows of {path} are left out: 0 without text (text), 1 without label (stars)"]


def test_the_fingerprint_is_of_texts_and_targets(tmp_path: Path) -> None:
    values = [number / 8 for number in range(80)]
    first, again = (ready(write(tmp_path / name, values), "regression") for name in ("x.csv", "y.csv"))
    assert first.fingerprint == again.fingerprint
    changed = ready(write(tmp_path / "x.csv", [*values[:-1], 99]), "regression")
    assert changed.fingerprint != first.fingerprint
    far, nearby = (
        ready(write(tmp_path / "x.csv", [1.7e9 + v for v in values] + [1.7e9 + last]), "regression") for last in (3, 4)
    )
    assert far.fingerprint != nearby.fingerprint, "the same in float32"
    tags = [ready(tagged(tmp_path / "x.csv")), ready(write(tmp_path / "x.csv", [*TAGS[::-1]] * 10))]
    assert tags[0].fingerprint != tags[1].fingerprint


# ------------------------------------------------------------------------------------------------- which of the kinds
@pytest.mark.parametrize(
    ("predicts", "values", "note"),
    [
        ("single_label", ["a;b", "a"] * 30, "column tags: cells such as 'a;b' are read as one class each"),
        ("regression", [1, 2, 3, 4, 5] * 12, "column tags: its 5 distinct numbers are read as numbers"),
    ],
)
def test_a_column_that_two_kinds_could_read_is_noted(
    tmp_path: Path, predicts: str, values: list[Any], note: str
) -> None:
    path = write(tmp_path / "x.csv", values)
    (found,) = ready(path, predicts).notes
    assert found.startswith(note)
    assert f"--target-kind {predicts} confirms" in found
    assert ready(path, predicts, target_kind=predicts).notes == []


def test_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--target-kind regression: this experiment predicts multi_label"):
        build(tmp_path, target_kind="regression")


@pytest.mark.parametrize("predicts", ["multi_label", "regression"])
def test_a_few_of_each_class_need_classes(tmp_path: Path, predicts: str) -> None:
    with pytest.raises(InputError, match=f"--labelled 4: .* predicts {predicts}. Leave it out"):
        build(tmp_path, predicts, labelled=4)


def test_a_missing_column_names_the_experiments_own_flag(tmp_path: Path) -> None:
    path = tagged(tmp_path / "x.csv")
    assert "no column tag. Did you mean tags? There: text, tags (--target)." in refused(path, column="tag")
    assert "(--label-column)." in refused(path, "single_label", column="tag")


# ----------------------------------------------------------------------------------------------------- what stands in
@pytest.mark.parametrize(("predicts", "target"), [("multi_label", "topics"), ("regression", "rating")])
def test_without_data_texts_are_made_up_and_it_is_said(predicts: str, target: str) -> None:
    data = ready(None, predicts)
    assert data.loaded.fallback
    assert "made up on the spot (NOT real texts)" in data.loaded.source
    assert (data.spec.target.name, sum(data.sizes().values())) == (target, 3000)
    assert data.notes == []
    (file,) = (cache_dir() / "drawn").iterdir()
    before = file.stat().st_mtime_ns
    again = ready(None, predicts)
    assert again.fingerprint == data.fingerprint
    assert file.stat().st_mtime_ns == before


def test_the_film_reviews_have_one_label() -> None:
    with pytest.raises(InputError, match=r"--source movie-reviews: unknown here\. Choose from auto, file, drawn"):
        ready(None, source="movie-reviews")
