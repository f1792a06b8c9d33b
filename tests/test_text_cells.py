"""Texts with one label, several, or a number: each trains, resumes to the bit, is tested, predicts, and is studied."""

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

from experiments.texts import TextsLstm, TextsMultiLabel, TextsRegression
from src.cli import commands
from src.cli.parser import RunFlags
from src.data_checks import check
from src.experiment import Recurrent, TextPrep, Vocabulary
from src.inference.batch import predict
from src.runs import records
from src.training.build import build_parts
from src.training.trainer import quieten

pytestmark = pytest.mark.usefixtures("quiet")

SMALL: dict[str, Any] = {
    "vocabulary": Vocabulary(size=100, width=8),
    "lstm": Recurrent(hidden=4, word_dropout=0.1, dropout=0.2),
    "prep": TextPrep(max_length=16),
    "batch_size": 8,
    "max_epochs": 2,
    "precision": "32-true",
    "accelerator": "cpu",
}


class Labels(Mortal, TextsLstm):
    """One label."""


class Tags(Mortal, TextsMultiLabel):
    """Several labels, or none."""

    target = "tags"


class Stars(Mortal, TextsRegression):
    """A number."""

    target = "stars"


CELLS: dict[type[Mortal], tuple[str, str]] = {
    Labels: ("label", "accuracy"),
    Tags: ("tags", "f1_micro"),
    Stars: ("stars", "rmse"),
}
"""Experiment -> its column in the table, and the score that a prediction of rows with targets is noted with."""


def run_all(experiment: Mortal, **flags: Any) -> tuple[int, Path]:
    """Do what run.py does; return its exit code and the newest run."""
    code = commands.run_all([experiment], RunFlags(**flags))
    found = records.runs_dir().glob(f"{type(experiment).__name__}/*/run.json")
    return code, max(found, key=lambda path: path.stat().st_mtime_ns).parent


@pytest.fixture(scope="module", params=CELLS, ids=lambda kind: kind.__name__)
def cell(request: pytest.FixtureRequest, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Mortal, Path]:
    """An experiment on the small table and its run, left alone, with baselines; not to be changed."""
    quieten()
    experiment = request.param(data_dir=texts, **SMALL)
    with own_home(tmp_path_factory.mktemp("cell")):
        code, run = run_all(experiment, baselines=True)
    assert code == 0
    return experiment, run


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_record_says_what_is_predicted(cell: tuple[Mortal, Path]) -> None:
    experiment, run = cell
    record = records.load(run)
    kind, column = type(experiment).predicts, CELLS[type(experiment)][0]  # pyright: ignore[reportAttributeAccessIssue]
    assert (record["spec"]["target"]["kind"], record["spec"]["target"]["name"]) == (kind, column)
    names = {"single_label": ["bad", "good"], "multi_label": ["film", "plot"], "regression": []}[kind]
    assert list(record["spec"]["classes"]) == names
    assert list(record.get("per_class", {}).get("val", {}).get("classes", {})) == names
    assert list(record["data"]["class_counts"].get("train", {})) == names
    assert len(record["baselines"]) == 2
    for scores in record["baselines"].values():
        assert set(scores) <= set(record["metrics"])
        assert experiment.monitor in scores
    if kind == "multi_label":
        assert list(record["calibration"]["thresholds"]) == names
        rows = rows_of(Path(record["fields"]["data_dir"]).read_text())
        there = sum("film" in row["tags"].split(";") for row in rows)
        assert sum(counts["film"] for counts in record["data"]["class_counts"].values()) == there
    if kind == "regression":
        train = pd.read_csv(Path(record["fields"]["data_dir"]))["stars"]
        assert record["spec"]["target"]["std"] == pytest.approx(train.std(), rel=0.2)


def test_goes_on_to_the_bit_and_is_then_tested(cell: tuple[Mortal, Path]) -> None:
    experiment, alone = cell
    dying = dataclasses.replace(experiment, dies_at=10, by=signal.SIGTERM)
    code, run = run_all(dying, baselines=True, checkpoint_every="2")
    assert code == 143
    assert records.load(run)["state"] == "interrupted"
    assert run_all(experiment, resume=run) == (0, run)
    assert differences(run, alone) == []
    assert run_all(experiment, resume=run, test=True) == (0, run)
    record = records.load(run)
    assert record["tests_read"] == 1
    assert {name.replace("val/", "test/") for name in record["metrics"]} <= set(record["metrics"])
    assert len(rows_of((run / "predictions_test.csv").read_text())) == record["data"]["sizes"]["test"]


def test_predicts_files_and_compares_what_they_say(cell: tuple[Mortal, Path], texts: Path, tmp_path: Path) -> None:
    experiment, run = cell
    score = CELLS[type(experiment)][1]
    own = {row["id"]: row for row in rows_of((run / "predictions_val.csv").read_text())}
    found = predict(run, [texts], calibrate=False)
    names = [name for name in rows_of(found.text)[0] if name not in ("id", "error")]
    assert names == [name for name in next(iter(own.values())) if name not in ("id", "target")]
    for row in (row for row in rows_of(found.text) if row["id"] in own):
        for name in names:
            value = own[row["id"]][name]
            same = name in ("label", "labels")
            assert row[name] == value if same else float(row[name]) == pytest.approx(float(value), abs=1e-4)
    (note,) = found.notes
    assert note.startswith(score)
    assert " on 80 rows with " in note
    rows = [{"text": row["text"]} for row in rows_of(texts.read_text())]
    pd.DataFrame([*rows, {"text": ""}]).to_csv(tmp_path / "new.csv", index=False)
    new = predict(run, [tmp_path / "new.csv"], calibrate=False)
    assert new.notes == []
    assert rows_of(new.text)[:-1] == rows_of(found.text)
    assert rows_of(new.text)[-1] == {"id": "80", **dict.fromkeys(names, ""), "error": "empty text"}


def test_folds_test_each_text_once(cell: tuple[Mortal, Path], texts: Path) -> None:
    code, run = run_all(dataclasses.replace(cell[0], max_epochs=1), folds=2, baselines=True)
    assert code == 0
    rows = rows_of((run / "predictions_folds.csv").read_text())
    column = CELLS[type(cell[0])][0]
    given = {str(i): row[column] for i, row in enumerate(rows_of(texts.read_text()))}
    assert sorted(row["id"] for row in rows) == sorted(given)
    for row in rows:
        true = given[row["id"]]
        assert float(row["target"]) == pytest.approx(float(true)) if column == "stars" else row["target"] == true
    assert len(records.load(run)["baselines"]) == 2


def test_an_ensemble_predicts_its_members_mean(cell: tuple[Mortal, Path], texts: Path) -> None:
    code, run = run_all(dataclasses.replace(cell[0], max_epochs=1), ensemble=2)
    assert code == 0
    tables = [predict(one, [texts], calibrate=False).text for one in (run, run / "member-1", run / "member-2")]
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
    last = {Labels: "labels: ", Tags: "labels: not checked, an example may have several", Stars: "targets: compared"}
    assert report.checked[-1].startswith(last[type(cell[0])])
