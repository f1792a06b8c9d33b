"""Ensembles: members of consecutive seeds, whose average is evaluated, recorded and predicts as one run."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Tiny, own_home
from sklearn.metrics import accuracy_score, log_loss, root_mean_squared_error
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]

from experiments.imdb_bert import ImdbBertFewShot8
from experiments.tables import TableClassification, TableLinear, TableRegression
from src import cli
from src.cli import commands
from src.experiment import Experiment, InputError
from src.inference.batch import predict
from src.runs import records, state
from src.runs.compare.groups import compare
from src.runs.compare.runs import find, read
from src.studies.ensemble import ensemble
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@dataclass(frozen=True)
class Averaged:
    """A finished, tested ensemble of three, and its inputs."""

    run: Path
    data: Path

    @property
    def record(self) -> dict[str, Any]:
        return records.load(self.run)

    @property
    def members(self) -> list[Path]:
        return [self.run / f"member-{number}" for number in (1, 2, 3)]


def kinds(houses: Path) -> dict[str, Experiment]:
    small: dict[str, Any] = {"data_dir": houses, "batch_size": 16, "max_epochs": 2}
    return {
        "numbers": TableRegression(target="price", loss="quantile", **small),
        "classes": TableClassification(target="size", seed=5, **small),
    }


@pytest.fixture(scope="module", params=["numbers", "classes"])
def averaged(request: pytest.FixtureRequest, houses: Path, tmp_path_factory: pytest.TempPathFactory) -> Averaged:
    home = tmp_path_factory.mktemp(request.param)
    with own_home(home):
        return Averaged(ensemble(kinds(houses)[request.param], 3, RunOptions(test=True, baselines=True)), houses)


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"id": str})


def numbers_of(frame: pd.DataFrame) -> np.ndarray:
    names = [n for n in map(str, frame) if n.startswith("prob_") or n in ("prediction", "lower", "upper")]
    assert len(names) >= 2, "the premise"
    return frame[names].to_numpy(np.float64)


@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_are_the_members_mean(averaged: Averaged, split: str) -> None:
    own, *members = (table(run / f"predictions_{split}.csv") for run in (averaged.run, *averaged.members))
    assert all(list(member["id"]) == list(own["id"]) for member in members)
    expected = np.mean([numbers_of(member) for member in members], axis=0)
    assert numbers_of(own) == pytest.approx(expected, rel=1e-5, abs=2e-6)
    assert not np.allclose(numbers_of(members[0]), numbers_of(members[1])), "the premise: seeds differ"


def test_figures_are_those_of_the_average(averaged: Averaged) -> None:
    record, own = averaged.record, table(averaged.run / "predictions_test.csv")
    if "label" in own:
        assert record["metrics"]["test/acc"] == pytest.approx(accuracy_score(own["target"], own["label"]))
        assert record["per_class"]["test"]["confusion"]
    else:
        assert record["metrics"]["test/rmse"] == pytest.approx(
            root_mean_squared_error(own["target"], own["prediction"]), rel=1e-4
        )
        inside = (own["lower"] <= own["target"]) & (own["target"] <= own["upper"])
        assert record["metrics"]["test/coverage"] == pytest.approx(inside.mean())
    found = [records.load(member) for member in averaged.members]
    assert [one["seed"] for one in found] == [record["seed"] + number for number in range(3)]
    assert set(record["metrics"]) == {name for name in found[0]["metrics"] if not name.endswith("/loss")}
    for name, value in record["metrics"].items():
        mean = np.mean([one["metrics"][name] for one in found])
        assert record["members"]["mean"][name] == pytest.approx(mean)
        assert record["gain"][name] == pytest.approx(value - mean, abs=1e-9)
    assert (record["state"], record["ensemble"], record["tests_read"]) == ("done", 3, 1)
    assert record["baselines"] == found[0]["baselines"]
    assert "baselines" not in found[1], "fitted once"
    events = EventAccumulator(str(averaged.run)).Reload()
    assert events.Tags()["scalars"] == [], "a parent has no curves"
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    for name, value in record["metrics"].items():
        assert hparams[f"best/{name}"].number_value == pytest.approx(value)


def test_it_predicts_as_one_run(averaged: Averaged) -> None:
    own = table(averaged.run / "predictions_test.csv").set_index("id")
    found = pd.read_csv(io.StringIO(predict(averaged.run, [averaged.data], calibrate=False).text), dtype={"id": str})
    with open(averaged.data, encoding="utf-8", newline="") as file:
        assert list(found["id"]) == [row["id"] for row in csv.DictReader(file)], "in the order of the inputs"
    same = found.set_index("id").loc[own.index]
    assert numbers_of(same) == pytest.approx(numbers_of(own), rel=1e-4, abs=1e-3)


def test_its_temperature_is_its_own(averaged: Averaged) -> None:
    record = averaged.record
    if "calibration" not in record:
        assert record["experiment"].endswith("TableRegression")
        return
    kept = record["calibration"]
    plain, scaled = (
        pd.read_csv(io.StringIO(predict(averaged.run, [averaged.data], calibrate=on).text)) for on in (False, True)
    )
    odds = [np.log(frame["prob_large"].to_numpy() / frame["prob_small"].to_numpy()) for frame in (plain, scaled)]
    assert odds[1] == pytest.approx(odds[0] / kept["temperature"], abs=0.05)
    val = table(averaged.run / "predictions_val.csv")
    logs = np.log(val[["prob_large", "prob_small"]].to_numpy())
    losses = {}
    for temperature in (0.8, 1.0, 1.25):
        prob = np.exp(logs / (kept["temperature"] * temperature))
        losses[temperature] = log_loss(val["target"], prob / prob.sum(1, keepdims=True), labels=["large", "small"])
    assert losses[1.0] == min(losses.values())
    decided = pd.read_csv(io.StringIO(predict(averaged.run, [averaged.data], threshold=True).text))
    assert list(decided["label"] == "small") == list(decided["prob_small"] >= kept["threshold"])


def test_it_is_compared_as_a_row_of_its_own(averaged: Averaged) -> None:
    runs, _ = find([averaged.run.parent])
    assert [run.path for run in runs] == [averaged.run], "its members belong to it"
    (block,) = compare([*runs, *map(read, averaged.members)])
    assert sorted(len(group.runs) for group in block.groups) == [1, 3]
    assert "ensemble" in block.columns


def test_an_interrupted_one_goes_on_and_a_finished_one_can_be_tested(houses: Path) -> None:
    experiment = TableLinear(data_dir=houses, target="price", max_epochs=1)
    run = ensemble(experiment, 2)
    with pytest.raises(InputError, match="the ensemble is done"):
        ensemble(experiment, 2, RunOptions(resume=run))
    before = (run / "member-1" / "metrics.csv").read_bytes()
    (run / "member-2" / "run.json").unlink()
    records.Record.read(run).update(state="interrupted")
    with pytest.raises(InputError, match=r"is interrupted.*--resume"):
        predict(run, [houses])
    command = cli.parse(["--resume", str(run), "--test"])
    assert commands.run_all(command.experiments, command.flags) == 0
    record = records.load(run)
    assert (record["state"], record["tests_read"]) == ("done", 1)
    assert "test/rmse" in record["metrics"]
    assert (run / "member-1" / "metrics.csv").read_bytes() == before, "what was trained stays"


def test_a_cross_validation_predicts_the_mean_of_its_folds(houses: Path) -> None:
    flags = ["--target", "price", "--max-epochs", "1", "--folds", "3", "--data-dir", str(houses)]
    command = cli.parse([str(EXPERIMENTS / "tables.py:TableLinear"), *flags])
    assert commands.run_all(command.experiments, command.flags) == 0
    (run,) = (path.parent for path in records.runs_dir().glob("*/*/run.json"))
    found = [pd.read_csv(io.StringIO(predict(part, [houses]).text)) for part in (run, *state.children(run))]
    assert len(found) == 4
    expected = np.mean([frame["prediction"] for frame in found[1:]], axis=0)
    assert found[0]["prediction"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert list(found[0]["id"]) == list(found[1]["id"])


def test_members_that_would_be_validated_on_other_examples_are_not_trained(tiny: Tiny) -> None:
    fields: Any = tiny(ImdbBertFewShot8) | {"max_epochs": 1}
    with pytest.raises(InputError, match=r"has no val example .*--labelled"):
        ensemble(ImdbBertFewShot8(**fields), 3)
    (run,) = records.runs_dir().glob("*/*")
    assert [records.load(child)["state"] for child in state.children(run)] == ["done", "failed"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [(["--ensemble", "1"], "at least 2"), (["--ensemble", "3", "--folds", "3"], "give one of the two")],
)
def test_what_makes_no_ensemble_is_refused(flags: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        cli.parse([str(EXPERIMENTS / "tables.py"), *flags])


def test_a_members_inputs_are_read_more_than_once(averaged: Averaged) -> None:
    with pytest.raises(InputError, match="one of its children"):
        predict(averaged.run, [Path("-")])
