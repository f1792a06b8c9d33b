"""Images with one class, several labels, or a number: each trains, resumes to the bit, is tested, predicts."""

from __future__ import annotations

import csv
import dataclasses
import io
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import own_home
from kills import Mortal, differences

from experiments.images import Images, ImagesMultiLabel, ImagesRegression
from scripts.predict import main
from src.cli import commands
from src.cli.parser import PredictFlags, RunFlags
from src.data_checks import check
from src.inference.batch import predict
from src.runs import records
from src.training.build import build_parts
from src.training.trainer import quieten

pytestmark = pytest.mark.usefixtures("quiet")

SMALL: dict[str, Any] = {
    "backbone": "test_resnet",
    "offline_backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 4,
    "max_epochs": 2,
    "precision": "32-true",
    "accelerator": "cpu",
}


class Kinds(Mortal, Images):
    """One class."""


class Tags(Mortal, ImagesMultiLabel):
    """Several labels, or none."""


class Ages(Mortal, ImagesRegression):
    """A number."""

    target = "age"


CELLS: dict[type[Mortal], tuple[str, str, list[str]]] = {
    Kinds: ("label", "accuracy", ["cat", "dog"]),
    Tags: ("labels", "f1_micro", ["cat", "furry"]),
    Ages: ("age", "rmse", []),
}
"""Experiment -> its column in the table, the score that a prediction of rows with targets notes, the classes."""


def run_all(experiment: Mortal, **flags: Any) -> tuple[int, Path]:
    """Do what run.py does; return its exit code and the newest run."""
    code = commands.run_all([experiment], RunFlags(**flags))
    found = records.runs_dir().glob(f"{type(experiment).__name__}/*/run.json")
    return code, max(found, key=lambda path: path.stat().st_mtime_ns).parent


@pytest.fixture(scope="module", params=CELLS, ids=lambda kind: kind.__name__)
def cell(request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Mortal, Path]:
    """An experiment on the small table and its run, left alone, with baselines; not to be changed."""
    quieten()
    experiment = request.param(data_dir=photos, **SMALL)
    with own_home(tmp_path_factory.mktemp("cell")):
        code, run = run_all(experiment, baselines=True)
    assert code == 0
    return experiment, run


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_record_says_what_is_predicted(cell: tuple[Mortal, Path]) -> None:
    experiment, run = cell
    record = records.load(run)
    column, _, names = CELLS[type(experiment)]
    kind = type(experiment).predicts  # pyright: ignore[reportAttributeAccessIssue]
    assert (record["spec"]["target"]["kind"], record["spec"]["target"]["name"]) == (kind, column)
    assert list(record["spec"]["classes"]) == names
    assert list(record.get("per_class", {}).get("val", {}).get("classes", {})) == names
    assert list(record["data"]["class_counts"].get("train", {})) == names
    assert len(record["baselines"]) == 2
    for scores in record["baselines"].values():
        assert set(scores) <= set(record["metrics"])
        assert experiment.monitor in scores
    if kind == "multi_label":
        assert list(record["calibration"]["thresholds"]) == names


def test_goes_on_to_the_bit_and_is_then_tested(cell: tuple[Mortal, Path]) -> None:
    experiment, alone = cell
    code, run = run_all(
        dataclasses.replace(experiment, dies_at=10, by=signal.SIGTERM), baselines=True, checkpoint_every="2"
    )
    assert code == 143
    assert records.load(run)["state"] == "interrupted"
    assert run_all(experiment, resume=run) == (0, run)
    assert differences(run, alone) == []
    assert run_all(experiment, resume=run, test=True) == (0, run)
    record = records.load(run)
    assert record["tests_read"] == 1
    assert {name.replace("val/", "test/") for name in record["metrics"]} <= set(record["metrics"])
    assert len(rows_of((run / "predictions_test.csv").read_text())) == record["data"]["sizes"]["test"]


def test_predicts_a_table_and_compares_what_it_says(cell: tuple[Mortal, Path], photos: Path) -> None:
    experiment, run = cell
    column, score, _ = CELLS[type(experiment)]
    own = {row["id"]: row for row in rows_of((run / "predictions_val.csv").read_text())}
    given = rows_of(photos.read_text())
    found = predict(run, [photos], calibrate=False)
    rows = rows_of(found.text)
    assert [row["path"] for row in rows] == [row["path"] for row in given], "the table's own column, in its order"
    names = [name for name in rows[0] if name not in ("path", "error")]
    assert names == [name for name in next(iter(own.values())) if name not in ("id", "target")]
    same = [row for row in rows if row["path"] in own]
    assert len(same) == len(own) == 6
    for row in same:
        for name in names:
            value = own[row["path"]][name]
            exact = name in ("label", "labels")
            assert row[name] == value if exact else float(row[name]) == pytest.approx(float(value), abs=1e-3)
    (note,) = found.notes
    assert note.startswith(score)
    assert " on 40 rows with " in note
    if column == "labels":  # the labels' own columns say the same: furry is 0 or 1, cat too
        other = photos.with_name("columns.csv")
        pd.DataFrame(given).drop(columns="labels").to_csv(other, index=False)
        assert predict(run, [other], calibrate=False) == found
        other.unlink()


def test_predict_py_takes_files_folders_and_tables(
    cell: tuple[Mortal, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = cell
    (tmp_path / "val").symlink_to(images / "val")
    (tmp_path / "broken.jpg").write_text("no image")
    names = ["val/cat/0000.jpg", "gone.jpg", "broken.jpg", "val/dog/0001.jpg"]
    pd.DataFrame({"path": names}).to_csv(tmp_path / "new.csv", index=False)
    assert main(PredictFlags(run=run, inputs=(tmp_path / "new.csv",), out=tmp_path / "out.csv")) == 0
    assert "4 rows, 2 with an error" in capsys.readouterr().err
    rows = rows_of((tmp_path / "out.csv").read_text())
    assert [row["path"] for row in rows] == names
    assert [row["error"] for row in rows] == ["", "No such file or directory", "not an image", ""]
    files = [images / "val/cat/0000.jpg", images / "val/dog/0001.jpg"]
    found = rows_of(predict(run, files).text)
    assert [row["id"] for row in found] == [str(file) for file in files]
    for row, same in zip(found, (rows[0], rows[3]), strict=True):
        assert {name: value for name, value in same.items() if name != "path"} == {
            name: value for name, value in row.items() if name != "id"
        }
    assert [row["id"] for row in rows_of(predict(run, [images / "val/dog"]).text)] == [
        str(file) for file in sorted((images / "val/dog").iterdir())
    ]


def test_folds_test_each_image_once(cell: tuple[Mortal, Path], photos: Path) -> None:
    code, run = run_all(dataclasses.replace(cell[0], max_epochs=1), folds=2, baselines=True)
    assert code == 0
    rows = rows_of((run / "predictions_folds.csv").read_text())
    column = CELLS[type(cell[0])][0]
    given = {row["path"]: row[column] for row in rows_of(photos.read_text())}
    assert sorted(row["id"] for row in rows) == sorted(given)
    for row in rows:
        true = given[row["id"]]
        assert float(row["target"]) == pytest.approx(float(true)) if column == "age" else row["target"] == true
    assert len(records.load(run)["baselines"]) == 2


def test_an_ensemble_predicts_its_members_mean(cell: tuple[Mortal, Path], photos: Path) -> None:
    code, run = run_all(dataclasses.replace(cell[0], max_epochs=1), ensemble=2)
    assert code == 0
    tables = [predict(one, [photos], calibrate=False).text for one in (run, run / "member-1", run / "member-2")]
    own, *members = (pd.read_csv(io.StringIO(text)) for text in tables)
    names = [name for name in own if str(name).startswith("prob_") or name == "prediction"]
    assert names
    mean = (members[0][names] + members[1][names]) / 2
    assert own[names].to_numpy() == pytest.approx(mean.to_numpy(), abs=1e-5)
    assert not members[0][names].equals(members[1][names])


def test_the_data_are_checked(cell: tuple[Mortal, Path]) -> None:
    datamodule, task = build_parts(cell[0])
    report = check(cell[0], datamodule, task)
    assert report.checked[0] == "examples of each class"
    assert any(line.startswith("images in two splits") for line in report.checked)
    last = {Kinds: "labels: ", Tags: "label ", Ages: "targets: "}
    assert report.checked[-1].startswith(last[type(cell[0])])
