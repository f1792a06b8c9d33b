"""Targets of tables: read, fitted to the training rows and encoded, whatever their kind; and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.configs.labels import LABEL_SEPARATOR, split_labels
from src.configs.spec import TargetKind
from src.datamodules.targets import Targets, other_reading, parse_targets, require_kind
from src.experiment import InputError

LABEL = st.text("abcXYZ09 .-", min_size=1, max_size=4).map(str.strip).filter(bool)
LABELS = st.lists(st.lists(LABEL, max_size=4, unique=True), min_size=1, max_size=12)
NUMBER = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: float(np.float32(value)))


def refused(do: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as error:
        do(*args, **kwargs)
    return str(error.value)


def one_split(count: int) -> dict[str, range]:
    return {"train": range(count)}


# ------------------------------------------------------------------------------------------------------- round trips
@given(LABELS)
def test_labels_come_back_from_their_encoding(rows: list[list[str]]) -> None:
    cells = [f" {LABEL_SEPARATOR} ".join(row) for row in rows]
    targets = parse_targets("multi_label", {"tags": cells}, "x.csv")
    if not any(rows):
        assert "has no label at all in train" in refused(targets.fit, one_split(len(rows)), "x.csv")
        return
    labels, target = targets.fit(one_split(len(rows)), "x.csv")
    assert (target.kind, target.name) == ("multi_label", "tags")
    assert set(labels) == {name for row in rows for name in row}
    encoded = targets.encode(range(len(rows)), labels)
    assert encoded.shape == (len(rows), len(labels))
    assert encoded.dtype == torch.float32
    back = [{name for name, there in zip(labels, row, strict=True) if there} for row in encoded.tolist()]
    assert back == [set(row) for row in rows]
    assert [set(split_labels(cell)) for cell in cells] == back, "as a prediction reads them"


@given(LABELS)
def test_a_column_a_label_says_the_same_as_one_column_of_labels(rows: list[list[str]]) -> None:
    names = sorted({name for row in rows for name in row} | {"one", "two"})
    words = {True: ("1", "yes", "True", "1.0"), False: ("0", "no", "FALSE", "0.0")}
    columns = {
        name: [words[name in row][number % 4] for number, row in enumerate(rows)] for name in names
    }  # two columns at the least: of one, the cells are labels
    several = parse_targets("multi_label", columns, "x.csv")
    joined = parse_targets("multi_label", {"tags": [";".join(row) for row in rows]}, "x.csv")
    assert several.name == ", ".join(names)
    assert [set(row) for row in several.values] == [set(row) for row in joined.values]


@given(LABELS, st.data())
def test_strata_are_the_labels_of_the_rows(rows: list[list[str]], data: st.DataObject) -> None:
    targets = parse_targets("multi_label", {"tags": [";".join(row) for row in rows]}, "x.csv")
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    strata = targets.strata(chosen)
    labels = sorted({name for row in chosen for name in rows[row]})
    if not labels:
        assert strata is None
        return
    assert isinstance(strata, np.ndarray)
    assert strata.tolist() == [[name in rows[row] for name in labels] for row in chosen]


@given(st.lists(LABEL, min_size=2, max_size=12).filter(lambda names: len(set(names)) > 1))
def test_classes_come_back_from_their_encoding(names: list[str]) -> None:
    targets = parse_targets("single_label", {"kind": names}, "x.csv")
    classes, target = targets.fit(one_split(len(names)), "x.csv")
    assert (target.kind, target.name) == ("single_label", "kind")
    encoded = targets.encode(range(len(names)), classes)
    assert encoded.dtype == torch.int64
    assert [classes[place] for place in encoded] == names == targets.strata(range(len(names)))


@given(st.lists(NUMBER, min_size=2, max_size=12).filter(lambda values: len(set(values)) > 1))
def test_numbers_come_back_and_their_scale_is_that_of_train(values: list[float]) -> None:
    targets = parse_targets("regression", {"price": [repr(value) for value in values]}, "x.csv")
    assert targets.strata(range(len(values))) is None
    assert targets.encode(range(len(values)), ()).tolist() == values
    _, plain = targets.fit(one_split(len(values)), "x.csv")
    classes, target = targets.fit(one_split(len(values)), "x.csv", scale="standard")
    assert (classes, target.kind, target.name, target.log) == ((), "regression", "price", False)
    assert (plain.mean, plain.std) == (0, 1)
    assert target.mean == pytest.approx(np.mean(values))
    assert target.std == pytest.approx(np.std(values))


def test_only_the_training_rows_are_fitted() -> None:
    numbers = Targets("regression", "price", np.array([1.0, np.e, 1e6]))
    _, target = numbers.fit({"train": [0, 1], "val": [2]}, "x.csv", scale="log")
    assert (target.log, target.mean, target.std) == (True, pytest.approx(0.5), pytest.approx(0.5))


def test_classes_that_are_numbers_stand_in_their_order() -> None:
    targets = parse_targets("multi_label", {"sizes": ["10;9", "nan;big", "-1"]}, "x.csv")
    assert targets.fit(one_split(3), "x.csv")[0] == ("-1", "9", "10", "big", "nan")


# ------------------------------------------------------------------------------------------------------------- refused
def test_cells_that_cannot_be_read_are_refused_by_column_and_row() -> None:
    numbers = {"price": ["1", "", "dear", "inf", "2"]}
    message = refused(parse_targets, "regression", numbers, "x.csv")
    assert message.startswith("x.csv: 3 values of column price are no finite numbers: '', 'dear', 'inf' (rows 1, 2, 3,")
    assert "(rows b, c, d," in refused(parse_targets, "regression", numbers, "x.csv", rows=list("abcde"))
    columns = {"red": ["1", "0", "yes"], "blue": ["1", "perhaps", ""]}
    message = refused(parse_targets, "multi_label", columns, "x.csv")
    assert message.startswith(
        "x.csv: 2 cells of the label column blue say neither yes nor no: 'perhaps', '' (rows 1, 2,"
    )
    assert "Write 1 or 0" in message
    assert "(rows b, c," in refused(parse_targets, "multi_label", columns, "x.csv", rows=list("abc"))


@pytest.mark.parametrize(
    ("kind", "cells", "said"),
    [
        ("single_label", ["cat", "cat", "dog"], "column y has one class only, cat in train"),
        ("multi_label", ["", "", "dog"], "column y has no label at all in train"),
        ("regression", ["7", "7", "8"], "column y is always 7 in train"),
    ],
)
def test_nothing_to_predict_is_refused(kind: TargetKind, cells: list[str], said: str) -> None:
    targets = parse_targets(kind, {"y": cells}, "x.csv")
    message = refused(targets.fit, {"train": [0, 1], "val": [2]}, "x.csv")
    assert message == f"x.csv: {said}. There is nothing to predict."


def test_an_empty_train_is_refused() -> None:
    targets = parse_targets("regression", {"y": ["1", "2"]}, "x.csv")
    assert "column y is empty in train" in refused(targets.fit, {"train": [], "val": [0, 1]}, "x.csv")


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(("kind", "what"), [("single_label", "class"), ("multi_label", "label")])
def test_what_train_has_not_is_refused_by_name(kind: TargetKind, what: str, split: str) -> None:
    targets = parse_targets(kind, {"y": ["cat", "dog", "owl"]}, "x.csv")
    message = refused(targets.fit, {"train": [0, 1], split: [2]}, "x.csv")
    assert f"x.csv: {split} has a {what} in column y that train has not: owl." in message


def test_the_kind_that_is_asked_for_has_to_be_the_experiments() -> None:
    require_kind("multi_label", None)
    require_kind("multi_label", "multi_label")
    message = refused(require_kind, "multi_label", "regression")
    assert message.startswith("--target-kind regression: this experiment predicts multi_label.")


# ----------------------------------------------------------------------------------------------------------- ambiguity
MANY = [str(number) for number in range(30)]


@pytest.mark.parametrize(
    ("kind", "cells", "said"),
    [
        ("regression", ["1", "2", "5", "2"], "its 3 distinct numbers are read as numbers; they could be classes"),
        ("regression", ["1.5", "2", "5"], ""),
        ("regression", MANY, ""),
        ("single_label", ["billing;bug", "bug", "billing"], "cells such as 'billing;bug' are read as one class each"),
        ("single_label", ["a;b", "c;d"], ""),
        ("single_label", ["billing", "bug"], ""),
        ("single_label", MANY, "its 30 distinct numbers are read as classes; they could be numbers to predict"),
        ("single_label", MANY[:10], ""),
        ("single_label", [*MANY, "none"], ""),
        ("multi_label", ["billing", "bug", ""], "no example has two labels; they could be classes, one an example"),
        ("multi_label", ["billing;bug", "bug"], ""),
    ],
)
def test_columns_that_could_be_read_otherwise_are_noted(kind: TargetKind, cells: list[str], said: str) -> None:
    note = other_reading(parse_targets(kind, {"y": cells}, "x.csv"))
    assert note.startswith(f"column y: {said}") if said else note == ""
