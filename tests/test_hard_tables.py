"""Tables as people have them, written by many programs: from training to prediction."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ROOT, Script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import leyden
from experiments.tables import TableLinear, TableLogistic
from experiments.texts import TextsLstm, TextsRegression
from scripts import check_data
from scripts import run as run_script
from src.configs.text import Vocabulary
from src.datamodules import Table
from src.experiment import Columns, Csv, InputError, TablePrep
from src.runs import records

pytestmark = pytest.mark.usefixtures("quiet")

Words = Mapping[str, Any]
"""Column -> its cells."""


def written(path: Path, columns: Words, sep: str = ",") -> Path:
    """Write cells as they are."""
    cells = zip(*columns.values(), strict=True)
    lines = [sep.join(columns), *(sep.join(map(str, row)) for row in cells)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def linear(data: Path, target: str = "price", **fields: Any) -> leyden.Run:
    return leyden.run(TableLinear(data_dir=data, target=target, **fields))


def logistic(data: Path, target: str, **fields: Any) -> leyden.Run:
    return leyden.run(TableLogistic(data_dir=data, target=target, **fields))


def predicted(run: leyden.Run, path: Path) -> list[float]:
    return run.predict(path)["prediction"].round().tolist()


def notes(run: leyden.Run) -> str:
    return "\n".join(run.record["data"]["notes"])


def columns_of(run: leyden.Run) -> str:
    return run.record["data"]["columns"]["summary"]


def refused(data: Path, target: str = "price", **fields: Any) -> str:
    with pytest.raises(InputError) as error:
        linear(data, target, **fields)
    return str(error.value)


Argv = Callable[..., None]


@pytest.fixture
def argv(monkeypatch: pytest.MonkeyPatch) -> Argv:
    """Set the command line of a script's `main`."""
    return lambda *words: monkeypatch.setattr(sys, "argv", ["", *map(str, words)])


ROWS = 200
SIZE = np.random.default_rng(0).uniform(0, 10, ROWS).round(3)
FLAG = np.random.default_rng(1).random(ROWS) < 0.4
PRICE = (100 + 10 * SIZE + 500 * FLAG).round(3)


# -------------------------------------------------------------------------------------------------------- truth values
TRUTH = [("TRUE", "FALSE"), ("True", "False"), ("true", "false"), ("yes", "no"), ("Y", "N"), ("t", "f")]


@pytest.fixture(scope="module")
def trained_on_TRUE(tmp_path_factory: pytest.TempPathFactory) -> leyden.Run:
    folder = tmp_path_factory.mktemp("booleans")
    flags = np.where(FLAG, "TRUE", "FALSE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEYDEN_RUNS", str(folder / "runs"))
        return linear(written(folder / "train.csv", {"size": SIZE, "garden": flags, "price": PRICE}))


@pytest.mark.parametrize(("yes", "no"), TRUTH)
def test_a_truth_value_is_one_however_it_is_spelled(
    trained_on_TRUE: leyden.Run, yes: str, no: str, tmp_path: Path
) -> None:
    assert columns_of(trained_on_TRUE) == "1 number, 1 boolean; left out: price (the target)"
    new = written(tmp_path / "new.csv", {"size": [0, 0], "garden": [yes, no]})
    assert predicted(trained_on_TRUE, new) == [600, 100]
    train = written(tmp_path / "train.csv", {"size": SIZE, "garden": np.where(FLAG, yes, no), "price": PRICE})
    assert predicted(linear(train), new) == [600, 100]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_truth_value_is_one_in_every_format(trained_on_TRUE: leyden.Run, suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"size": [0, 0], "garden": [True, False]})
    path = tmp_path / f"new.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert predicted(trained_on_TRUE, path) == [600, 100]
    assert trained_on_TRUE.predict(frame)["prediction"].round().tolist() == [600, 100]


def test_a_truth_value_that_is_missing_is_in_the_middle(tmp_path: Path) -> None:
    flags = np.where(np.arange(ROWS) % 10 == 0, "", np.where(FLAG, "True", "False"))
    price = np.where(flags == "", 100 + 10 * SIZE + 250, PRICE)
    run = linear(written(tmp_path / "train.csv", {"size": SIZE, "garden": flags, "price": price}))
    new = written(tmp_path / "new.csv", {"size": [0, 0, 0], "garden": ["TRUE", "FALSE", ""]})
    assert np.allclose(predicted(run, new), [600, 100, 350], atol=1)


@pytest.mark.parametrize(("yes", "no"), TRUTH)
def test_a_label_comes_back_as_the_file_spelled_it(yes: str, no: str, tmp_path: Path) -> None:
    train = written(tmp_path / "train.csv", {"x": np.where(FLAG, 5 + SIZE, -5 - SIZE), "paid": np.where(FLAG, yes, no)})
    new = written(tmp_path / "new.csv", {"x": [9, -9]})
    assert logistic(train, "paid").predict(new)["label"].tolist() == [yes, no]


def test_labels_of_validation_may_be_spelled_by_another_program(tmp_path: Path) -> None:
    x = np.where(FLAG, 5 + SIZE, -5 - SIZE)
    for split, yes, no in (("train", "1", "0"), ("val", "1.0", "0.0")):
        written(tmp_path / f"{split}.csv", {"x": x, "paid": np.where(FLAG, yes, no)})
    run = logistic(tmp_path, "paid")
    assert run.record["spec"]["classes"] == ["0", "1"]
    assert run.metrics["val/acc"] == 1
    new = written(tmp_path / "new.csv", {"x": [9, -9], "paid": ["1.0", "0.0"]})
    assert run.predict(new)["label"].tolist() == ["1", "0"]


@pytest.mark.parametrize("values", [("true", "false", "unknown"), ("01", "02", "A1"), ("1", "2", "x")])
def test_a_columns_kind_is_decided_on_the_training_rows_alone(values: tuple[str, str, str], tmp_path: Path) -> None:
    """The validation file lacks the value by which the column is one of words."""
    for split, there in (("train", 3), ("val", 2)):
        place = np.arange(ROWS) % there
        price = 10 * SIZE + np.array([600, 100, 300])[place]
        written(tmp_path / f"{split}.csv", {"kind": np.array(values)[place], "size": SIZE, "price": price})
    run = linear(tmp_path)
    assert columns_of(run).startswith("1 number, 1 category")
    assert run.metrics["val/r2"] > 0.99


# ---------------------------------------------------------------------------------------------- what is the user's own
@pytest.mark.parametrize(("train", "new"), [("{}.0", "{}"), ("{}", "{}.0")])
def test_a_code_is_one_with_and_without_a_fraction(train: str, new: str, tmp_path: Path) -> None:
    """An empty cell makes floats of a column in pandas."""
    zone = np.arange(ROWS) % 4 + 1
    table = {"zone": [train.format(z) for z in zone], "size": SIZE, "price": 100 * zone + SIZE}
    run = linear(written(tmp_path / "train.csv", table), columns=Columns(category=("zone",)))
    table = {"zone": [new.format(z) for z in (1, 2, 3, 4)], "size": [0] * 4}
    assert predicted(run, written(tmp_path / "new.csv", table)) == [100, 200, 300, 400]


@given(
    ids=st.lists(
        st.one_of(
            st.from_regex(r"[0-9]{1,25}", fullmatch=True),
            st.sampled_from(["", "1.0", "1e5", "NA", "nan", "True", "-0", "007", "=1+1"]),
            st.text("abcÄé ,\"'%", max_size=8),
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_come_back_as_they_went_in(
    trained_on_TRUE: leyden.Run, ids: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ids = [one.strip() for one in ids]
    folder = tmp_path_factory.mktemp("ids")
    frame = pd.DataFrame({"Id": ids, "size": 0.0, "garden": "TRUE"})
    frame.to_csv(folder / "new.csv", index=False)
    frame.to_parquet(folder / "new.parquet")
    (folder / "new.jsonl").write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")), encoding="utf-8")
    for path in (folder / "new.csv", folder / "new.parquet", folder / "new.jsonl"):
        assert trained_on_TRUE.predict(path)["Id"].tolist() == ids


def test_long_ids_of_which_one_is_missing_keep_every_digit(trained_on_TRUE: leyden.Run, tmp_path: Path) -> None:
    ids = ["1234567890123456789", "", "1234567890123456788"]
    new = written(tmp_path / "new.csv", {"id": ids, "size": [0] * 3, "garden": ["TRUE"] * 3})
    assert trained_on_TRUE.predict(new)["id"].tolist() == ids
    numbers = pa.table({"id": [int(one) if one else None for one in ids], "size": [0.0] * 3, "garden": [True] * 3})
    parquet.write_table(numbers, tmp_path / "new.parquet")
    assert trained_on_TRUE.predict(tmp_path / "new.parquet")["id"].tolist() == ids


def test_classes_are_words_even_where_they_are_equal_as_numbers(tmp_path: Path) -> None:
    for names in (["1.1", "1.10", "1.2"], ["1", "01", "001"]):
        place = np.arange(ROWS) % 3
        x = np.array([-20, 0, 20])[place] + SIZE
        train = written(
            tmp_path / "train.csv", {"x": x, "y": np.array([0, 30, 0])[place], "version": np.array(names)[place]}
        )
        run = logistic(train, "version")
        assert sorted(run.record["spec"]["classes"]) == sorted(names)
        new = written(tmp_path / "new.csv", {"x": [-15, 5, 25], "y": [0, 30, 0]})
        assert run.predict(new)["label"].tolist() == names


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan", "N/A"])
def test_a_class_may_be_called_none_and_the_run_says_so(name: str, tmp_path: Path) -> None:
    plan = np.array([name, "basic", "gold"])[np.arange(ROWS) % 3]
    train = written(tmp_path / "train.csv", {"x": np.arange(ROWS) % 3 * 10 + SIZE / 10, "plan": plan})
    run = logistic(train, "plan")
    assert sorted(run.record["spec"]["classes"]) == sorted([name, "basic", "gold"])
    assert run.metrics["val/acc"] == 1
    (said,) = [note for note in run.record["data"]["notes"] if "read as a class" in note]
    *_, flag, empty, word = shlex.split(said.partition("read it as missing: ")[2])
    assert (flag, empty, word) == ("--csv.missing", "", name)


def test_a_word_may_be_read_as_missing(tmp_path: Path) -> None:
    country = np.where(np.arange(ROWS) % 25 == 0, "NA", np.array(["DE", "FR"])[np.arange(ROWS) % 2])
    train = written(tmp_path / "train.csv", {"x": np.arange(ROWS) % 2 * 10 + SIZE / 10, "country": country})
    run = logistic(train, "country", csv=Csv(missing=("", "NA")))
    assert run.record["spec"]["classes"] == ["DE", "FR"]
    assert f"8 of {ROWS} rows have no country and are left out" in notes(run)
    assert "read as a class" not in notes(run)


# ------------------------------------------------------------------------------------------------------------- numbers
def test_numbers_far_from_0_keep_their_digits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    start = (1.7e9 + rng.uniform(0, 1000, 300)).round(1)
    end = (start + 30 + rng.normal(0, 0.5, 300)).round(2)
    run = linear(written(tmp_path / "train.csv", {"start": start, "end": end}), "end")
    assert 0.3 < run.metrics["val/rmse"] < 0.7
    assert run.predict(written(tmp_path / "new.csv", {"start": [1700000100.5]}))["prediction"][0] == pytest.approx(
        1700000130.5, abs=0.3
    )
    rows = pd.read_csv(run.path / "predictions_val.csv", dtype=str)
    assert {f"{value:.2f}" for value in rows["target"].astype(float)} <= {f"{value:.2f}" for value in end}
    rmse = np.sqrt(np.mean((rows["target"].astype(float) - rows["prediction"].astype(float)) ** 2))
    assert run.metrics["val/rmse"] == pytest.approx(rmse, rel=1e-6)


def test_numbers_that_are_not_scaled_and_lose_digits_are_said(tmp_path: Path) -> None:
    table = {"time": 1_700_000_000 + np.random.default_rng(0).permutation(ROWS) * 7, "x": SIZE, "price": PRICE}
    train = written(tmp_path / "train.csv", table)
    scalings: dict[Literal["none", "standard"], bool] = {"none": True, "standard": False}
    for prep, said in scalings.items():
        data = Table(train, target="price", predicts="regression", prep=TablePrep(numbers=prep))
        data.setup("fit")
        assert any("float32 rounds time" in note for note in data.notes) is said


def german(value: float, form: str = "{:.2f}") -> str:
    return form.format(value).translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize("values", ["many", "few"])
@pytest.mark.parametrize("decimal", ["auto", ","])
def test_decimal_commas_are_numbers_in_features_and_target(values: str, decimal: Any, tmp_path: Path) -> None:
    size = SIZE if values == "many" else np.round(SIZE) + 0.5
    price = 1000 + 10 * size
    table = {"size": [german(v) for v in size], "price": [german(v, "{:,.2f}") for v in price]}
    run = linear(written(tmp_path / "train.csv", table, sep=";"), csv=Csv(decimal=decimal))
    assert columns_of(run).startswith("1 number (decimal comma)")
    assert predicted(run, written(tmp_path / "new.csv", {"size": ["0,0", "5,5"], "x": [1, 2]}, sep=";")) == [1000, 1055]
    assert predicted(run, written(tmp_path / "points.csv", {"size": ["0", "100"], "x": [1, 2]}, sep=";")) == [
        1000,
        2000,
    ]


@pytest.mark.parametrize(
    ("write", "spelled"),
    [
        (lambda v: f"{v:.1f} %", "percent"),
        (lambda v: f"{v:.1f}%", "percent"),
        (lambda v: f'"{v * 1000:,.0f}"', "commas between thousands"),
        (lambda v: f"{v * 1000:,.0f}".replace(",", " "), "blanks between thousands"),
        (lambda v: f"{v * 1000:,.0f}".replace(",", "'"), "apostrophes between thousands"),
        (lambda v: f"{v:.3e}", ""),
        (lambda v: f"+{v:.3f}", ""),
    ],
)
def test_numbers_are_read_as_people_write_them(write: Any, spelled: str, tmp_path: Path) -> None:
    table = {"share": [write(value + 1) for value in SIZE], "price": 100 + 10 * SIZE}
    run = linear(written(tmp_path / "train.csv", table))
    assert run.metrics["val/r2"] > 0.999
    assert columns_of(run).startswith("1 number")
    assert spelled in columns_of(run)


@pytest.mark.parametrize(
    ("form", "spelled"),
    [
        ("%Y-%m-%d", ""),
        ("%d/%m/%Y", "day first"),
        ("%m/%d/%Y", "%m/%d/%Y"),
        ("%d.%m.%y", "day first"),
        ("%d %b %Y", "%d %b %Y"),
        ("%d-%b-%y", "%d-%b-%y"),
        ("%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M"),
    ],
)
def test_dates_are_read_as_people_write_them(form: str, spelled: str, tmp_path: Path) -> None:
    days = pd.date_range("2020-01-01", periods=ROWS, freq="7D")
    order = np.random.default_rng(0).permutation(ROWS)
    table = {"sold": days.strftime(form)[order], "price": 100 + 10.0 * order}
    run = linear(written(tmp_path / "train.csv", table))
    assert columns_of(run).startswith(f"1 date ({spelled})" if spelled else "1 date;")
    assert run.metrics["val/r2"] > 0.999


def test_dates_that_leave_the_order_open_are_said_and_the_user_decides(tmp_path: Path) -> None:
    """Days up to 12 alone: a year of 144 dates."""
    days = [(d, m, 2000 + y) for y in range(2) for m in range(1, 13) for d in range(1, 13)]
    order = np.random.default_rng(0).permutation(len(days))
    price = [10_000 * days[i][2] + 100 * days[i][1] + days[i][0] for i in order]
    table = {"sold": ["{:02}/{:02}/{}".format(*days[i]) for i in order], "price": price}
    train = written(tmp_path / "train.csv", table)
    run = linear(train)
    assert "read as month first (--csv.dates day-first or month-first)" in notes(run)
    wanted = linear(train, csv=Csv(dates="day-first"))
    assert "day or month" not in notes(wanted)
    assert wanted.metrics["val/rmse"] < run.metrics["val/rmse"]


# ------------------------------------------------------------------------------------------------- nothing in silence
def test_categories_of_validation_that_training_had_not_are_said(tmp_path: Path) -> None:
    written(tmp_path / "train.csv", {"town": ["Ghent", "Leyden"] * 50, "x": SIZE[:100], "price": PRICE[:100]})
    written(tmp_path / "val.csv", {"town": ["Ghent", "Utrecht"] * 10, "x": SIZE[:20], "price": PRICE[:20]})
    assert "val has categories that training had not: town (10 of 20 rows)" in notes(linear(tmp_path))


def test_stray_quotes_are_refused_with_the_line_and_can_be_read_as_characters(tmp_path: Path) -> None:
    name = [f"part {row}" for row in range(ROWS)]
    name[20], name[120] = '"big one', 'small one"'
    train = written(tmp_path / "train.csv", {"size": SIZE, "name": name, "price": PRICE})
    assert "line 22: a field begins with a double quote that is closed 100 lines below" in refused(train)
    run = linear(train, csv=Csv(quoting="none"))
    assert sum(run.record["data"]["sizes"].values()) == ROWS
    text = written(tmp_path / "texts.tsv", {"text": name, "label": FLAG.astype(int)}, sep="\t")
    with pytest.raises(InputError, match=r"line 22.*--csv\.quoting none"):
        leyden.run(TextsLstm(data_dir=text, max_epochs=1))
    run = leyden.run(TextsLstm(data_dir=text, max_epochs=1, csv=Csv(quoting="none")))
    assert sum(run.record["data"]["sizes"].values()) == ROWS


def test_a_single_stray_quote_is_refused_with_the_line(tmp_path: Path) -> None:
    name = [f"part {row}" for row in range(ROWS)]
    name[30] = '"big'
    train = written(tmp_path / "train.csv", {"size": SIZE, "name": name, "price": PRICE})
    assert "line 32" in (said := refused(train))
    assert "--csv.quoting none" in said


def test_fields_that_span_lines_are_said_and_read(tmp_path: Path) -> None:
    note = ['"two\nlines"' if row % 50 == 0 else f"n{row % 3}" for row in range(ROWS)]
    run = linear(written(tmp_path / "train.csv", {"size": SIZE, "note": note, "price": PRICE}))
    assert "4 rows have fields that span several lines; the longest has 2, from line 2" in notes(run)
    assert sum(run.record["data"]["sizes"].values()) == ROWS


def test_a_column_that_numbers_the_rows_is_said_once_and_its_hint_can_be_pasted(
    tmp_path: Path, argv: Argv, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    table = {"": np.arange(90), "x": rng.normal(size=90).round(3), "kind": np.repeat(["a", "b", "c"], 30)}
    train = written(tmp_path / "train.csv", table)
    run = logistic(train, "kind")
    (said,) = [note for note in run.record["data"]["notes"] if "numbers the rows" in note]
    flags = shlex.split(said.partition(": --")[2])
    assert flags == ["columns.ignored", "Unnamed: 0"]
    argv("experiments/tables.py:TableLogistic", "--data-dir", train, "--target", "kind")
    check_data.main()
    assert capsys.readouterr().out.count(said) == 1
    cured = logistic(train, "kind", columns=Columns(ignored=("Unnamed: 0",)))
    assert "numbers the rows" not in notes(cured)
    assert cured.metrics["val/acc"] < 0.7


def test_the_columns_are_shown_before_training_and_in_full_by_a_dry_run(
    tmp_path: Path, argv: Argv, capsys: pytest.CaptureFixture[str]
) -> None:
    days = pd.date_range("2020-01-01", periods=ROWS).strftime("%d/%m/%Y")
    owner = [f"owner {row}" for row in range(ROWS)]
    table = {"id": range(ROWS), "size": SIZE, "sold": days, "owner": owner, "price": PRICE}
    train = written(tmp_path / "train.csv", table)
    words = ("experiments/tables.py:TableLinear", "--data-dir", train, "--target", "price")
    argv(*words)
    run_script.main()
    left_out = "left out: id (names the rows), owner (140 different words), price (the target)"
    assert f"\ncolumns    1 number, 1 date (day first); {left_out}\n" in capsys.readouterr().out
    (found,) = Path(records.runs_dir()).rglob("run.json")
    assert json.loads(found.read_text(encoding="utf-8"))["data"]["columns"]["summary"].endswith(left_out)
    argv(*words, "--dry-run")
    run_script.main()
    assert "columns    size   number\n           sold   date      day first\n" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_full = str(leyden.columns(train, target="price"))
    assert [line.split()[:2] for line in in_full.splitlines()] == [
        ["size", "number"],
        ["sold", "date"],
        ["id", "left"],
        ["owner", "left"],
        ["price", "left"],
    ]


def test_columns_of_a_table_are_told_from_python_with_their_doubts(tmp_path: Path) -> None:
    table = {"sold": ["01/02/2020", "03/04/2020", "05/06/2021"] * 10, "plan": ["a", "b", "c"] * 10, "n": range(30)}
    train = written(tmp_path / "train.csv", table)
    with pytest.warns(UserWarning, match="whether day or month comes first"):
        found = leyden.columns(train, target="n", columns=Columns(ignored=("plan",)))
    assert [(one.name, one.kind) for one in found.columns] == [("sold", "date")]
    assert found.left_out == {"plan": "ignored", "n": "the target"}
    with pytest.raises(InputError, match=r"target m: no such column. There: sold, plan, n"):
        leyden.columns(train, target="m")
    with pytest.raises(InputError, match=r"gone\.csv: no such file"):
        leyden.columns(tmp_path / "gone.csv")


# ----------------------------------------------------------------------------------------------------- files of Excel
TABLE = {"größe": SIZE, "price": PRICE}


def lines_of(path: Path) -> str:
    return written(path, TABLE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "sep=,\n" + text, ""),
        (lambda text: "sep=;\n" + text.replace(",", ";"), ""),
        (lambda text: "\n\n" + text, ""),
        (lambda text: "Report of May\n\n" + text, "the header is line 3; passed over are 'Report of May'"),
        (lambda text: "\ufeff" + text, ""),
        (lambda text: text.replace("\n", "\r\n"), ""),
        (lambda text: text.replace("\n", ",\n"), ""),
    ],
    ids=["sep=,", "sep=;", "blank lines", "preamble", "BOM", "CRLF", "trailing comma"],
)
def test_a_csv_as_spreadsheets_write_it(change: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(change(lines_of(path)), encoding="utf-8", newline="")
    run = linear(path, columns=Columns(number=("größe",)))
    assert sum(run.record["data"]["sizes"].values()) == ROWS
    assert said in notes(run)


@pytest.mark.parametrize(("encoding", "flag"), [("utf-16", False), ("cp1252", True), ("latin-1", True)])
def test_other_encodings_are_known_by_their_mark_or_named_by_a_flag(encoding: str, flag: bool, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(lines_of(path).encode(encoding))
    if flag:
        assert "line 1: no UTF-8" in (said := refused(path))
        assert "--csv.encoding cp1252" in said
    run = linear(path, columns=Columns(number=("größe",)), csv=Csv(encoding=encoding if flag else "utf-8"))
    assert sum(run.record["data"]["sizes"].values()) == ROWS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,height,price\n,cm,EUR\n" + "a,1,2\nb,2,3\n" * 5, "line 2: 'cm', 'EUR' stand above numbers"),
        ("x,price\n1,2\n3,4,5\n", "line 3: 3 fields, but the header has 2"),
        ("x,price\n1,2\n3\n", "line 3: 1 fields, but the header has 2"),
        ("x,x,price\n1,2,3\n", "two columns are called x"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
    ],
    ids=["two headers", "long row", "short row", "same names", "empty", "blank"],
)
def test_a_csv_that_is_not_right_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(text, encoding="utf-8")
    assert said in refused(tmp_path / "train.csv")


def test_the_header_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("of May,in EUR\n" + lines_of(path), encoding="utf-8")
    assert "--csv.header 2 takes the second" in refused(path)
    assert sum(linear(path, csv=Csv(header=2)).record["data"]["sizes"].values()) == ROWS


def test_spreadsheets_and_nested_columns_are_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "train.xlsx").write_bytes(b"PK")
    assert "Save the sheet as CSV" in refused(tmp_path / "train.xlsx")
    frame = pd.DataFrame({"x": SIZE, "my tags": [["a"]] * ROWS, "price": PRICE})
    frame.to_parquet(tmp_path / "train.parquet")
    frame.to_json(tmp_path / "train.jsonl", orient="records", lines=True)
    for name in ("train.parquet", "train.jsonl"):
        said = refused(tmp_path / name)
        assert shlex.split(said.rstrip(".").rpartition("leave it out: ")[2]) == ["--columns.ignored", "my tags"]
        assert linear(tmp_path / name, columns=Columns(ignored=("my tags",))).metrics["val/rmse"] > 0


def test_keys_that_some_lines_lack_are_said(tmp_path: Path) -> None:
    rows = [
        {"x": x, "price": p} | ({"rare": 1} if i % 2 else {}) for i, (x, p) in enumerate(zip(SIZE, PRICE, strict=True))
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert f"some of the {ROWS} rows lack a key, which counts as missing: rare ({ROWS // 2})" in notes(linear(path))
    path.write_text('{"x": 1, "x": 2, "price": 3}\n', encoding="utf-8")
    assert "line 1: no JSON (two keys are called x)" in refused(path)


def test_a_cell_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import csv

    csv.field_size_limit(10_000)
    try:
        path = tmp_path / "train.csv"
        path.write_text(f'x,price\n1,2\n"{"a" * 20_000}",3\n', encoding="utf-8")
        assert "line 3: a cell of more than" in refused(path)
    finally:
        csv.field_size_limit(1 << 27)


def test_thousands_of_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = np.char.mod("%.3f", rng.normal(size=(40, 3000)))
    columns = {f"c{i}": values[:, i] for i in range(3000)}
    found = leyden.columns(written(tmp_path / "wide.csv", columns), target="c0")
    assert found.summary() == "2999 numbers; left out: c0 (the target)"


# ------------------------------------------------------------------------------------------------------- command line
def test_names_with_accents_work_where_the_locale_knows_ascii_alone(tmp_path: Path, script: Script) -> None:
    ascii_alone = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    sort = np.array(["café", "thé"])[np.arange(ROWS) % 2]
    train = written(tmp_path / "train.csv", {"size": SIZE, "Sorte": sort, "größe": 10 * SIZE + 5})
    flags = ("--data-dir", train, "--target", "größe")
    done = script("run.py", "experiments/tables.py:TableLinear", *flags, **ascii_alone)
    assert done.returncode == 0, done.stderr
    (run,) = [path.parent for path in Path(records.runs_dir()).rglob("run.json")]
    assert records.load(run)["spec"]["target"]["name"] == "größe"
    assert leyden.load(run).predict(train)["prediction"].tolist() == pytest.approx(10 * SIZE + 5, abs=0.01)


WRONG = {
    ("tables.py:TableLinear", "--target", "prise"): "--target prise: no such column in train. Did you mean price?",
    ("tables.py:TableLinear", "--target", "price", "--columns.category", "zone"): "--columns zone: no such column",
    ("images.py", "--path-column", "size"): "--target label: no such column in train.",
    ("texts.py", "--text-column", "sice"): "--text-column sice: no such column in train. Did you mean size?",
    ("texts.py", "--text-column", "size"): "--label-column label: no such column in train.",
    ("tables.py:TableLinear", "--target", "price", "--csv.encoding", "utf-9"): "--csv.encoding utf-9: unknown",
}


@pytest.mark.parametrize("flags", WRONG, ids=" ".join)
def test_what_can_be_told_without_torch_is_told_before_it_is_imported(flags: tuple[str, ...], tmp_path: Path) -> None:
    train = written(tmp_path / "train.csv", {"size": SIZE, "price": PRICE})
    name, *more = flags
    for run in ("run", "check_data"):
        code = f"import sys; from scripts.{run} import main; from src import cli;"
        code += "print(cli.exit_code(main), 'torch' in sys.modules)"
        words = [sys.executable, "-c", code, f"experiments/{name}", "--data-dir", str(train), *more]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert WRONG[flags] in done.stderr
        assert done.stdout.split() == ["2", "False"], done


# ------------------------------------------------------------------------------------------------------------- formats
def missing_sometimes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(values, values, values, st.none())


CELLS: dict[str, st.SearchStrategy[Any]] = {
    "whole": missing_sometimes(st.integers(-1000, 1000)),
    "real": missing_sometimes(st.floats(-1e6, 1e6)),
    "single": missing_sometimes(st.floats(-1e3, 1e3, width=32)),
    "word": missing_sometimes(
        st.sampled_from(["a", "b, c", 'say "hi"', "café", "cafe\u0301", "NA", "01", "1.0", "x\ny"])
    ),
    "truth": missing_sometimes(st.booleans()),
    "day": missing_sometimes(st.dates()),
}
TYPES = {
    "whole": pa.int64(),
    "real": pa.float64(),
    "single": pa.float32(),
    "word": pa.string(),
    "truth": pa.bool_(),
    "day": pa.date32(),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(40, 60))
    columns = draw(st.lists(st.sampled_from([*CELLS]), min_size=1, max_size=5))
    there: dict[str, pa.Array] = {"always": pa.array([float(row % 7) for row in range(rows)])}
    for number, kind in enumerate(columns):
        seed = draw(st.lists(CELLS[kind], min_size=5, max_size=15))
        there[f"{kind} {number}"] = pa.array([seed[row % len(seed)] for row in range(rows)], TYPES[kind])
    return pa.table({**there, "target": pa.array([row * 1.5 + (row % 7) for row in range(rows)])})


def in_all_formats(table: pa.Table, folder: Path) -> dict[str, Path]:
    """Write a table as CSV, Parquet and JSON lines; floats as Python writes them."""
    names = table.column_names
    rows = [
        [cell if cell is None else short(cell, kind) for cell, kind in zip(row, table.schema.types, strict=True)]
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]
    frame = pd.DataFrame([["" if cell is None else str(cell) for cell in row] for row in rows], columns=pd.Index(names))
    frame.to_csv(folder / "a.csv", index=False)
    parquet.write_table(table, folder / "a.parquet", row_group_size=17)
    lines = [json.dumps(dict(zip(names, row, strict=True)), default=str) for row in rows]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {suffix: folder / f"a.{suffix}" for suffix in ("csv", "parquet", "jsonl")}


def short(cell: Any, kind: pa.DataType) -> Any:
    return float(str(np.float32(cell))) if kind == pa.float32() else cell


def setup(path: Path, csv: Csv | None = None) -> Table:
    data = Table(path, target="target", predicts="regression", csv=csv)
    data.setup("fit")
    return data


def tensors(data: Table, split: str) -> dict[str, Any]:
    dataset: Any = data.dataset(split, train=False)
    return {name: column.numpy().tobytes() for name, column in dataset[list(range(len(dataset)))].items()}


@given(table=tables())
@settings(max_examples=40, deadline=None)
def test_a_table_is_the_same_to_the_bit_as_csv_parquet_and_json_lines(
    table: pa.Table, tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths = in_all_formats(table, tmp_path_factory.mktemp("formats"))
    csv, parquet_, lines = (setup(path) for path in paths.values())
    for other in (parquet_, lines):
        assert [(c.name, c.kind) for c in other.kinds.columns] == [(c.name, c.kind) for c in csv.kinds.columns]
        assert other.kinds.left_out.keys() == csv.kinds.left_out.keys()
        assert other.fingerprint == csv.fingerprint
        for split in ("train", "val", "test"):
            assert tensors(other, split) == tensors(csv, split)


@given(table=tables(), order=st.randoms(use_true_random=False))
@settings(max_examples=3, deadline=None)
def test_every_format_trains_and_predicts_alike_and_so_does_every_order_and_chunk(
    table: pa.Table, order: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("predicted")
    paths = in_all_formats(table, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEYDEN_RUNS", str(folder / "runs"))
        runs = {suffix: linear(path, "target") for suffix, path in paths.items()}
    weights = [[p.detach().numpy().tobytes() for p in run.model().parameters()] for run in runs.values()]
    assert weights[0] == weights[1] == weights[2]
    run, whole = runs["csv"], runs["csv"].predict(paths["csv"])
    for path in (paths["parquet"], paths["jsonl"]):
        assert run.predict(path)["prediction"].tolist() == whole["prediction"].tolist()
    columns = order.sample(table.column_names, len(table.column_names))
    rows = order.sample(range(len(table)), len(table))
    parquet.write_table(table.select(columns).take(rows), folder / "shuffled.parquet")
    shuffled = run.predict(folder / "shuffled.parquet")["prediction"]
    assert shuffled.tolist() == pytest.approx(
        whole["prediction"].iloc[rows].tolist(), rel=1e-6
    )  # as matrices are rounded
    parts = [table.slice(start, 13) for start in range(0, len(table), 13)]
    for number, part in enumerate(parts):
        parquet.write_table(part, folder / f"part_{number}.parquet")
    chunked = run.predict([folder / f"part_{number}.parquet" for number in range(len(parts))])
    assert chunked["prediction"].tolist() == pytest.approx(whole["prediction"].tolist(), rel=1e-6)


@given(
    rows=st.lists(st.tuples(st.text("ab1 ,;\"'\n\t", max_size=6), st.text("xé.0", max_size=4)), min_size=1, max_size=20)
)
@settings(max_examples=100, deadline=None)
def test_arrow_and_the_reader_that_names_lines_read_a_csv_alike(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    import csv

    from src.datamodules.row_files import csv_rows
    from src.datamodules.tables.table_files import read

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("one", "two"), *rows])
    with open(path, "rb") as file:
        by_line = [tuple(cells) for _, cells in csv_rows(file, path, Csv(), [])]
    table = read(path)
    assert [*zip(*(column.to_pylist() for column in table.columns), strict=True)] == by_line == rows


# --------------------------------------------------------------------------------------------------------------- texts
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_ids_and_labels_of_texts_come_back_as_they_went_in(suffix: str, tmp_path: Path) -> None:
    words = np.where(FLAG, "fine lovely film", "dull awful film")
    frame = pd.DataFrame(
        {"ID": [f"{row:06}" for row in range(ROWS)], "text": words, "label": np.where(FLAG, "true", "false")}
    )
    frame["text"] += [f" {row}" for row in range(ROWS)]
    frame.to_csv(tmp_path / "train.csv", index=False)
    path = tmp_path / f"new.{suffix}"
    match suffix:
        case "parquet":
            frame.to_parquet(path)
        case "jsonl":
            frame.to_json(path, orient="records", lines=True)
        case _:
            frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    vocabulary = Vocabulary(size=100, vectors="own", width=8)
    run = leyden.run(TextsLstm(data_dir=tmp_path / "train.csv", max_epochs=3, vocabulary=vocabulary))
    found = run.predict(path)
    assert found["ID"].tolist() == frame["ID"].tolist()
    assert {*found["label"]} <= {"true", "false"}
    assert [*found.columns] == ["ID", "label", "prob_false", "prob_true", "error"]


def test_numbers_of_texts_may_have_decimal_commas(tmp_path: Path) -> None:
    words = np.where(FLAG, "fine lovely film", "dull awful film")
    text = [f"{part} {row}" for row, part in enumerate(words)]
    stars = np.where(FLAG, 4.5, 1.5) + np.arange(ROWS) % 2 / 2
    train = written(tmp_path / "train.csv", {"text": text, "target": [german(v) for v in stars]}, sep=";")
    run = leyden.run(TextsRegression(data_dir=train, max_epochs=1))
    targets = pd.read_csv(run.path / "predictions_val.csv")["target"]
    assert {*targets} <= {1.5, 2.0, 4.5, 5.0}


def test_a_word_may_be_read_as_missing_in_texts_too(tmp_path: Path) -> None:
    label = np.where(np.arange(ROWS) % 25 == 0, "NA", np.where(FLAG, "good", "bad"))
    train = written(tmp_path / "train.csv", {"text": [f"text {row}" for row in range(ROWS)], "label": label})
    run = leyden.run(TextsLstm(data_dir=train, max_epochs=1))
    assert run.record["spec"]["classes"] == ["NA", "bad", "good"]
    assert "'NA' (8 rows) is read as a class" in notes(run)
    run = leyden.run(TextsLstm(data_dir=train, max_epochs=1, csv=Csv(missing=("NA",))))
    assert run.record["spec"]["classes"] == ["bad", "good"]
    assert "read as a class" not in notes(run)
