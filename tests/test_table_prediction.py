"""Prediction on tables: the run directory is enough, a row gets the same in any company, errors are by row."""

from __future__ import annotations

import csv
import io
import runpy
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import own_home
from sklearn.metrics import r2_score, root_mean_squared_error

from experiments.linear_regression import LinearRegression, LinearRegressionSolved
from experiments.tables import TableClassification, TableLogistic, TableRegression
from src.configs.spec import DataSpec, Target
from src.experiment import Columns, Experiment, InputError, Optim, Perceptron, TablePrep, replace
from src.inference.batch import predict
from src.runs import records
from src.tasks import objectives
from src.training import runner
from src.training.options import RunOptions
from src.training.trainer import quieten

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, str]
MLP = Perceptron(width=16, depth=1, bins=4, bins_width=4)
BRIEF: dict[str, Any] = {"max_epochs": 8, "batch_size": 16, "mlp": MLP, "optim": Optim(lr=0.01)}


@pytest.fixture(scope="module")
def table(houses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The houses with a code, a flag, and a number that is a category; not to be changed."""
    frame = pd.read_csv(houses, dtype={"rooms": str})
    rows = range(len(frame))
    frame["code"] = [("007", "012", "3B", "1.0")[row % 4] for row in rows]
    frame["garden"] = [("True", "False", "")[row % 3] for row in rows]
    frame["zone"] = ["" if row % 10 == 9 else str(1 + row % 5) for row in rows]
    path = tmp_path_factory.mktemp("table") / "houses.csv"
    frame.to_csv(path, index=False)
    return path


def train(experiment: Experiment, home: Path) -> Path:
    """Train and test, and take the caches away."""
    with own_home(home):
        run = runner.run(experiment, RunOptions(test=True))
    shutil.rmtree(home / "cache", ignore_errors=True)
    return run


def trained_on(table: Path, home: Path, experiment: Experiment) -> Path:
    """Train on a copy of the table, and take that away too."""
    data = home / "data" / "houses.csv"
    data.parent.mkdir()
    shutil.copy(table, data)
    run = train(replace(experiment, data_dir=data), home)
    shutil.rmtree(data.parent)
    return run


@pytest.fixture(scope="module")
def prices(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a perceptron on the logarithm of the price, whose data are gone; not to be changed."""
    columns = Columns(category=("zone",), ignored=("size",))
    prep = TablePrep(numbers="quantile", target="log")
    experiment = TableRegression(target="price", columns=columns, prep=prep, **BRIEF)
    return trained_on(table, tmp_path_factory.mktemp("prices"), experiment)


@pytest.fixture(scope="module")
def intervals(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that predicts an interval too; not to be changed."""
    columns = Columns(category=("zone",), ignored=("size",))
    experiment = TableRegression(target="price", columns=columns, loss="quantile", **BRIEF)
    return trained_on(table, tmp_path_factory.mktemp("intervals"), experiment)


@pytest.fixture(scope="module")
def sizes(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a classifier; not to be changed."""
    columns = Columns(category=("zone",), ignored=("price",))
    experiment = TableClassification(target="size", columns=columns, **BRIEF)
    return trained_on(table, tmp_path_factory.mktemp("sizes"), experiment)


def text_of(table: Path) -> list[Row]:
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Row], leave_out: Sequence[str] = (), delimiter: str = ",") -> Path:
    """Write rows as they are: no number is read on the way."""
    names = [name for name in rows[0] if name not in leave_out]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(text: str) -> list[Row]:
    return list(csv.DictReader(io.StringIO(text)))


def predicted(run: Path, *inputs: Path) -> list[Row]:
    return read(predict(run, inputs).text)


def figures(rows: Sequence[Row]) -> np.ndarray:
    """Return the numbers of predictions: all but id, label and error."""
    names = [name for name in rows[0] if name.startswith("prob_") or name in ("prediction", "lower", "upper")]
    return np.array([[float(row[name]) for name in names] for row in rows])


def agree(found: Sequence[Row], expected: Sequence[Row]) -> None:
    """Compare within a millionth: sums in another order may differ in the last bit."""
    np.testing.assert_allclose(figures(found), figures(expected), rtol=2e-5, atol=2e-6)
    assert [row.get("label") for row in found] == [row.get("label") for row in expected]


def own(run: Path) -> dict[str, Row]:
    """Return the run's own predictions of its test split, by id."""
    with open(run / "predictions_test.csv", encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run scripts/predict.py in this process; return the exit code, and what it printed and complained of."""

    def call(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "scripts" / "predict.py"), run_name="__main__")
        assert isinstance(stop.value.code, int)
        shown = capsys.readouterr()
        return stop.value.code, shown.out, shown.err

    return call


@pytest.fixture(params=["prices", "intervals", "sizes"])
def run(request: pytest.FixtureRequest) -> Path:
    """Each of the runs in turn."""
    return request.getfixturevalue(request.param)


# ----------------------------------------------------------------------------------------------------------- round trip
def test_the_runs_own_predictions_in_the_rows_order(run: Path, table: Path, tmp_path: Path) -> None:
    expected = own(run)
    rows = [row for row in text_of(table)[::-1] if row["id"] in expected]
    assert len(rows) == len(expected) > 10
    target = records.load(run)["fields"]["target"]
    path = write(tmp_path / "new.csv", rows, leave_out=(target,))
    found = read(predict(run, [path], calibrate=False).text)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    agree(found, [expected[row["id"]] for row in rows])
    assert all(row["error"] == "" for row in found)
    names = [name for name in next(iter(expected.values())) if name != "target"]
    assert list(found[0]) == [*names, "error"], "as the run's own file, without target and with error"


def test_a_row_is_predicted_alike_alone_and_in_company(run: Path, table: Path, tmp_path: Path) -> None:
    """A column of a single row may look like another kind: 007 like a number, no heating like nothing at all."""
    rows = text_of(table)
    together = predicted(run, table)
    assert {rows[i]["code"] for i in range(4)} == {"007", "012", "3B", "1.0"}, "the premise"
    for number in (0, 1, 2, 3, 5, 9, 10):
        result = predict(run, [write(tmp_path / f"{number}.csv", [rows[number]])])
        assert not any("training had not" in note for note in result.notes)
        agree(read(result.text), [together[number]])


def test_columns_in_another_order_and_further_ones_change_nothing(run: Path, table: Path, tmp_path: Path) -> None:
    rows = [{"colour": "red", **dict(list(row.items())[::-1])} for row in text_of(table)[:20]]
    agree(predicted(run, write(tmp_path / "x.csv", rows)), predicted(run, table)[:20])


@pytest.mark.parametrize("name", ["semicolon.csv", "tabs.tsv", "x.parquet"])
def test_every_format_gives_the_same(run: Path, table: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".parquet":
        pd.read_csv(table, dtype={"code": str, "zone": str}).to_parquet(path)
    else:
        write(path, text_of(table), delimiter="\t" if path.suffix == ".tsv" else ";")
    found = predicted(run, path)
    agree(found, predicted(run, table))
    assert [row["id"] for row in found] == [row["id"] for row in text_of(table)]


def test_numbers_and_intervals_are_in_the_tables_units(prices: Path, intervals: Path, table: Path) -> None:
    true = np.array([float(row["price"]) for row in text_of(table)])
    for run in (prices, intervals):
        found = figures(predicted(run, table))
        assert np.corrcoef(found[:, 0], true)[0, 1] > 0.7
        assert true.mean() * 0.7 < found[:, 0].mean() < true.mean() * 1.3, "euros, not their logarithm"
    assert list(predicted(prices, table)[0]) == ["id", "prediction", "error"]
    rows = predicted(intervals, table)
    assert list(rows[0]) == ["id", "lower", "prediction", "upper", "error"] or list(rows[0]) == [
        "id",
        "prediction",
        "lower",
        "upper",
        "error",
    ]
    assert all(float(row["lower"]) <= float(row["prediction"]) <= float(row["upper"]) for row in rows)
    assert any(float(row["lower"]) < float(row["upper"]) for row in rows)


def test_classes_have_probabilities(sizes: Path, table: Path) -> None:
    rows = predicted(sizes, table)
    assert list(rows[0]) == ["id", "label", "prob_large", "prob_small", "error"]
    for row in rows:
        assert float(row["prob_large"]) + float(row["prob_small"]) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(("large", "small"), key=lambda name: float(row[f"prob_{name}"]))
    right = [row["label"] == true["size"] for row, true in zip(rows, text_of(table), strict=True)]
    assert np.mean(right) > 0.7


def test_the_run_directory_is_enough(run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = shutil.copytree(run, tmp_path / "elsewhere" / "run")
    for path in moved.iterdir():
        if path.name not in ("run.json", "columns.json", "checkpoints"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.chdir(tmp_path)
    agree(predicted(moved, table), predicted(run, table))


def test_more_rows_than_a_batch_keep_their_order(run: Path, table: Path, tmp_path: Path) -> None:
    rows = text_of(table)
    many = [row | {"id": f"{number}-{row['id']}"} for number in range(20) for row in rows]
    found = predicted(run, write(tmp_path / "x.csv", many))
    assert [row["id"] for row in found] == [row["id"] for row in many]
    agree(found[2280:], predicted(run, table))


def test_without_an_id_column_rows_are_numbered(run: Path, table: Path, tmp_path: Path, command: Command) -> None:
    rows = text_of(table)
    path = write(tmp_path / "x.csv", rows[:3], leave_out=("id",))
    assert [row["id"] for row in predicted(run, path)] == ["0", "1", "2"]
    other = write(tmp_path / "y.csv", rows[3:5])
    code, out, err = command(run, path, other, "-", stdin=path.read_bytes())
    assert code == 0
    assert [row["id"] for row in read(out)] == [str(number) for number in range(8)], "through all inputs"
    whole = predicted(run, table)
    agree(read(out), [*whole[:5], *whole[:3]])
    assert "8 rows, 0 with an error" in err


def test_standard_input_is_a_table(run: Path, table: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "new" / "predictions.csv"
    code, shown, err = command(run, "-", "--out", out, stdin=table.read_bytes())
    assert (code, shown) == (0, "")
    assert f"120 rows, 0 with an error, in {out}" in err
    found = read(out.read_text())
    assert [row["id"] for row in found] == [f"h{number}" for number in range(120)]
    agree(found, predicted(run, table))


# -------------------------------------------------------------------------------------------------------- what is wrong
def test_missing_columns_are_named(run: Path, table: Path, tmp_path: Path, command: Command) -> None:
    path = write(tmp_path / "x.csv", text_of(table), leave_out=("town", "rooms", "sold"))
    code, out, err = command(run, path)
    assert (code, out) == (2, "")
    assert f"{path}: 3 of the 8 columns that the run has seen are missing: rooms, sold, town" in err
    assert "Traceback" not in err
    for name in ("size", "price", "id"):
        assert name not in err.partition("missing:")[2].split(", "), "columns that the model never saw"


def test_a_category_that_training_had_not_is_noted(run: Path, table: Path, tmp_path: Path, command: Command) -> None:
    rows = text_of(table)[:10]
    for number, name, value in ((0, "town", "Atlantis"), (3, "town", "Mu"), (3, "heating", "peat"), (5, "zone", "99")):
        rows[number] = rows[number] | {name: value}
    code, out, err = command(run, write(tmp_path / "x.csv", rows))
    assert code == 0
    (note,) = (line for line in err.splitlines() if line.startswith("categories that training had not"))
    assert all(part in note for part in ("town (2 rows)", "heating (1 rows)", "zone (1 rows)"))
    assert "code" not in note
    assert "garden" not in note
    found = read(out)
    assert all(row["error"] == "" for row in found)
    assert np.isfinite(figures(found)).all()
    agree([found[1], found[2]], predicted(run, table)[1:3])
    assert not np.allclose(figures([found[0]]), figures([predicted(run, table)[0]]))


def test_a_row_that_cannot_be_read_gets_an_error_and_no_prediction(
    run: Path, table: Path, tmp_path: Path, command: Command
) -> None:
    rows = text_of(table)[:8]
    for number, name, value in ((1, "area", "wide"), (3, "sold", "soon"), (4, "area", "inf"), (6, "rooms", "1,5")):
        rows[number] = rows[number] | {name: value}
    code, out, err = command(run, write(tmp_path / "x.csv", rows))
    assert code == 0
    assert "8 rows, 4 with an error" in err
    found = read(out)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    for number, part in {1: "area: 'wide'", 3: "sold: 'soon'", 4: "area: ", 6: "rooms: '1,5'"}.items():
        assert part in found[number]["error"]
        assert all(value == "" for name, value in found[number].items() if name not in ("id", "error"))
    good = (0, 2, 5, 7)
    assert all(found[number]["error"] == "" for number in good)
    whole = predicted(run, table)
    agree([found[number] for number in good], [whole[number] for number in good])


def test_a_table_of_nothing_but_errors(run: Path, table: Path, tmp_path: Path) -> None:
    rows = [row | {"area": "wide"} for row in text_of(table)[:3]]
    result = predict(run, [write(tmp_path / "x.csv", rows)])
    assert result.failed == 3
    assert all("area" in row["error"] for row in read(result.text))
    assert not any("rmse" in note or "accuracy" in note for note in result.notes)


def test_a_row_without_numbers_is_predicted(run: Path, table: Path, tmp_path: Path) -> None:
    rows = [row | {"area": "", "rooms": " ", "sold": "", "town": ""} for row in text_of(table)[:2]]
    found = predicted(run, write(tmp_path / "x.csv", rows))
    assert all(row["error"] == "" for row in found)
    assert np.isfinite(figures(found)).all()


def test_inputs_that_are_no_tables_are_refused_by_name(
    run: Path, tmp_path: Path, command: Command, table: Path
) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    (tmp_path / "x.docx").write_bytes(b"PK")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text(table.read_text(encoding="utf-8").partition("\n")[0] + "\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for name, part in {
        "x.xlsx": "Save the sheet as CSV",
        "x.docx": "not a table. Expected one of .csv, .tsv, .parquet, .jsonl",
        "no.csv": "no such file",
        "empty.csv": "the file is empty",
        "header.csv": "nothing to predict",
        "broken.parquet": "cannot be read",
    }.items():
        code, out, err = command(run, tmp_path / name)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert f"{tmp_path / name}: " in err
        assert part in err


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_run_without_what_was_fitted_is_refused(prices: Path, table: Path, tmp_path: Path, damage: str) -> None:
    run = shutil.copytree(prices, tmp_path / "run")
    fitted = run / "columns.json"
    text = fitted.read_text()
    fitted.unlink() if damage == "gone" else fitted.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"columns\.json: cannot be read"):
        predict(run, [table])


# ------------------------------------------------------------------------------------------------- targets in the input
@pytest.mark.parametrize("name", ["prices", "intervals"])
def test_the_score_is_noted_where_targets_come_with_the_rows(
    name: str, request: pytest.FixtureRequest, table: Path, tmp_path: Path, command: Command
) -> None:
    run: Path = request.getfixturevalue(name)
    rows = [row for row in text_of(table) if row["id"] in own(run)]
    code, out, err = command(run, write(tmp_path / "x.csv", rows))
    true = [float(row["price"]) for row in rows]
    found = [float(row["prediction"]) for row in read(out)]
    rmse, r2 = root_mean_squared_error(true, found), r2_score(true, found)
    assert code == 0
    assert f"rmse {rmse:.4g}, r2 {r2:.4f} on {len(rows)} rows with a price" in err
    metrics = records.load(run)["metrics"]
    assert (rmse, r2) == pytest.approx((metrics["test/rmse"], metrics["test/r2"]), rel=1e-3)
    rows[0], rows[1] = rows[0] | {"price": ""}, rows[1] | {"area": "wide"}
    result = predict(run, [write(tmp_path / "y.csv", rows)])
    (note,) = (note for note in result.notes if "rmse" in note)
    assert f"on {len(rows) - 2} rows with a price" in note
    untold = predict(run, [write(tmp_path / "z.csv", rows, leave_out=("price",))])
    assert not any("rmse" in note for note in untold.notes)
    assert untold.text == result.text, "targets change no prediction"


def test_the_accuracy_is_noted_where_classes_come_with_the_rows(
    sizes: Path, table: Path, tmp_path: Path, command: Command
) -> None:
    rows = [row for row in text_of(table) if row["id"] in own(sizes)]
    rows[0] = rows[0] | {"size": "palace"}
    _, out, err = command(sizes, write(tmp_path / "x.csv", rows))
    right = [row["label"] == true["size"] for row, true in list(zip(read(out), rows, strict=True))[1:]]
    assert f"accuracy {np.mean(right):.4f} on {len(right)} rows with a label" in err
    assert "1 rows have labels that training had not (palace); it knew large, small" in err


def compare_numbers(found: np.ndarray, expected: list[str], usable: list[bool], name: str) -> list[str]:
    """Return what is said of predicted numbers beside those that the inputs came with."""
    objective = objectives.Regression(DataSpec(target=Target(kind="regression", name=name)))
    return objective.agreement({"prediction": found}, None, expected, usable)


def test_two_rows_at_least_make_a_score() -> None:
    found = np.array([1.0, 2.0, 4.0], np.float32)
    assert compare_numbers(found, ["1", "x", ""], [True] * 3, "y") == ["1 row has a y that is no number: x"]
    assert compare_numbers(found, [], [True] * 3, "y") == []
    assert compare_numbers(found, ["1", "2", "4"], [False, False, True], "y") == []
    note, strange = compare_numbers(found, ["2", "nan", "7"], [True] * 3, "y")
    assert note == f"rmse {np.sqrt((1 + 9) / 2):.4g}, r2 {r2_score([2, 7], [1, 4]):.4f} on 2 rows with a y"
    assert strange == "1 row has a y that is no number: nan"


def test_classes_that_are_numbers_are_compared_as_such(table: Path, tmp_path: Path) -> None:
    rows = [row | {"size": "10" if row["size"] == "large" else "2"} for row in text_of(table)]
    data = write(tmp_path / "numbers.csv", rows)
    experiment = TableLogistic(target="size", data_dir=data, columns=Columns(ignored=("price",)), max_epochs=1)
    run = train(experiment, tmp_path)
    assert records.load(run)["spec"]["classes"] == ["2", "10"]
    result = predict(run, [data])
    found = read(result.text)
    assert list(found[0])[1:4] == ["label", "prob_2", "prob_10"]
    right = np.mean([row["label"] == true["size"] for row, true in zip(found, rows, strict=True)])
    assert right > 0.8
    assert f"accuracy {right:.4f} on 120 rows with a label" in result.notes


# --------------------------------------------------------------------------------------------------------------- y = 2x
@pytest.mark.parametrize("kind", [LinearRegression, LinearRegressionSolved])
def test_ten_is_predicted_for_five(
    kind: type[LinearRegression], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quieten()
    run = runner.run(kind())
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("line "))
    assert float(line.rpartition("for x = 5 it predicts ")[2]) == pytest.approx(10, abs=0.01)
    (tmp_path / "x.csv").write_text("x\n5\n-3\n0.5\n")
    found = [float(row["prediction"]) for row in predicted(run, tmp_path / "x.csv")]
    assert found == pytest.approx([10, -6, 1], abs=0.02)
    assert (run / "loss_surface.png").read_bytes().startswith(b"\x89PNG")
