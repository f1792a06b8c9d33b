"""Tables with one class, several labels or a number: trained, killed and resumed, tested, folded, averaged."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import kills
import pytest
from conftest import Script, own_home

from experiments.tables import TableClassification, TableMultiLabel, TableRegression
from src.cli import commands
from src.cli.parser import RunFlags
from src.experiment import Perceptron, replace
from src.runs import records

SMALL = Perceptron(width=16, depth=1, dropout=0.3, bins=4)


class OneClass(kills.Mortal, TableClassification):
    """Small or large."""

    target = "size"
    max_epochs = 3
    batch_size = 8
    mlp = SMALL
    accelerator = "cpu"


class Labels(kills.Mortal, TableMultiLabel):
    """Any of three extras."""

    target = ("extras",)
    max_epochs = 3
    batch_size = 8
    mlp = SMALL
    accelerator = "cpu"


class Number(kills.Mortal, TableRegression):
    """A price with an interval."""

    target = "price"
    loss = "gaussian"
    max_epochs = 3
    batch_size = 8
    mlp = SMALL
    accelerator = "cpu"


CELLS: dict[str, tuple[type[kills.Mortal], tuple[str, ...], str]] = {
    "one class": (OneClass, ("label", "prob_large", "prob_small"), "acc"),
    "labels": (Labels, ("labels", "prob_garden", "prob_lift", "prob_quay"), "f1_micro"),
    "number": (Number, ("prediction", "lower", "upper"), "rmse"),
}
"""Experiment, columns of predictions, and a metric."""


@pytest.fixture(scope="module", params=CELLS)
def cell(request: pytest.FixtureRequest, houses: Path, tagged: Path) -> tuple[Any, tuple[str, ...], str]:
    kind, columns, metric = CELLS[request.param]
    return kind(data_dir=tagged if kind is Labels else houses), columns, metric


@pytest.fixture(scope="module")
def alone(cell: tuple[Any, tuple[str, ...], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run that nobody killed, with its test and baselines; not to be changed."""
    home = tmp_path_factory.mktemp("alone")
    with own_home(home):
        assert kills.in_process(run_with, cell[0], {"test": True, "baselines": True}) == 0
        run = kills.only_run(home / "runs")
    assert run is not None
    return run


def run_with(experiment: Any, flags: dict[str, Any]) -> int:
    return commands.run_all([experiment], RunFlags(checkpoint_every="2", **flags))


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


Cell = tuple[Any, tuple[str, ...], str]


def test_a_killed_run_ends_as_if_left_alone(cell: Cell, alone: Path, tmp_path: Path) -> None:
    experiment = cell[0]
    assert kills.in_process(kills.train, replace(experiment, dies_at=14)) == -signal.SIGKILL
    run = kills.only_run(tmp_path / "runs")
    assert run is not None
    assert kills.in_process(run_with, experiment, {"resume": run, "test": True, "baselines": True}) == 0
    assert kills.differences(run, alone) == []
    assert (run / "predictions_test.csv").read_bytes() == (alone / "predictions_test.csv").read_bytes()


def test_the_run_has_its_figures_and_the_baselines(cell: Cell, alone: Path) -> None:
    experiment, columns, metric = cell
    record = records.load(alone)
    assert record["tests_read"] == 1
    assert {f"val/{metric}", f"test/{metric}"} <= record["metrics"].keys()
    for scores in record["baselines"].values():
        assert {f"val/{metric}", f"test/{metric}"} <= scores.keys()
    for split in ("val", "test"):
        found = rows_of(alone / f"predictions_{split}.csv")
        assert tuple(found[0]) == ("id", "target", *columns)
        assert len(found) == record["data"]["sizes"][split]
    labels = [name.removeprefix("prob_") for name in columns if name.startswith("prob_")]
    figures: dict[str, Any] = record.get("per_class", {}).get("test", {}).get("classes", {})
    assert sorted(figures) == labels, "the figures of each class or label"
    assert all({"precision", "recall", "f1", "support"} <= of.keys() for of in figures.values())
    if isinstance(experiment, Labels):
        assert sorted(record["calibration"]["thresholds"]) == labels


def test_files_are_predicted_as_the_run_did(cell: Cell, alone: Path, script: Script, tmp_path: Path) -> None:
    experiment, columns, _ = cell
    out = tmp_path / "out.csv"
    done = script("predict.py", alone, experiment.data_dir, "--out", out, "--no-calibrate", PYTHONPATH=str(kills.HERE))
    assert done.returncode == 0, done.stderr
    expected = {row["id"]: row for row in rows_of(alone / "predictions_test.csv")}
    found = {row["id"]: row for row in rows_of(out)}
    assert len(found) == 120
    assert len(expected) > 10
    for name, row in expected.items():
        assert tuple(found[name]) == ("id", *columns, "error")
        for column in columns:
            if column not in ("label", "labels"):
                assert float(found[name][column]) == pytest.approx(float(row[column]), rel=1e-4, abs=1e-6)
    agreement = {OneClass: "accuracy", Labels: "exact_match", Number: "rmse"}[type(experiment)]
    assert agreement in done.stderr, "they came with their targets"


def test_it_is_cross_validated(cell: Cell, tmp_path: Path) -> None:
    experiment, columns, metric = cell
    assert kills.in_process(run_with, replace(experiment, max_epochs=1), {"folds": 2, "baselines": True}) == 0
    run = kills.only_run(tmp_path / "runs")
    assert run is not None
    found = rows_of(run / "predictions_folds.csv")
    assert len({row["id"] for row in found}) == len(found) == 120
    assert set(columns) <= found[0].keys()
    record = records.load(run)
    assert f"test/{metric}" in json.dumps(record)
    assert record["baselines"]


def test_it_is_averaged(cell: Cell, tmp_path: Path) -> None:
    experiment, columns, metric = cell
    assert kills.in_process(run_with, replace(experiment, max_epochs=1), {"ensemble": 2}) == 0
    run = kills.only_run(tmp_path / "runs")
    assert run is not None
    mean = rows_of(run / "predictions_val.csv")
    members = [rows_of(run / f"member-{number}" / "predictions_val.csv") for number in (1, 2)]
    number = columns[-1] if columns[-1].startswith("prob_") else columns[0]
    for row, one, other in zip(mean, *members, strict=True):
        assert float(row[number]) == pytest.approx((float(one[number]) + float(other[number])) / 2, rel=1e-4, abs=1e-6)
    assert f"val/{metric}" in records.load(run)["metrics"]
