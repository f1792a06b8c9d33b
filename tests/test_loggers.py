"""Where metrics go: the loggers of `--logger`, and what `trainer_kwargs()` adds to Leyden's own."""

from __future__ import annotations

import csv
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from kills import Numbers, Signals
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from experiments.images import Images
from experiments.linear_regression import LinearRegression
from experiments.tables import TableClassification, TableLinear
from src import cli
from src.callbacks import Checkpoints, GracefulStop, Interrupted, WholeCheckpointIO
from src.cli import commands
from src.experiment import InputError, Logger, replace
from src.runs import records
from src.runs.metrics_csv import MetricsCsv
from src.runs.records import Record
from src.studies.ensemble import ensemble
from src.training import runner
from src.training.options import RunOptions
from src.training.trainer import build_callbacks, build_trainer

pytestmark = pytest.mark.usefixtures("quiet")


class Epochs(Callback):
    """Counts epochs; a run that goes on counts on."""

    ended: int = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        type(self).ended = self.count = getattr(self, "count", 0) + 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": getattr(self, "count", 0)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


class Watched(Numbers):
    """Brings loggers, callbacks and plugins of the user's own."""

    extra: Path = Path()
    """Where the user's logger writes."""

    def trainer_kwargs(self) -> dict[str, Any]:
        dies = [] if self.dies_at is None else [Signals(signal.SIGINT, self.dies_at)]
        saves = ModelCheckpoint(monitor="val/loss", filename="mine", enable_version_counter=False)
        return {
            "logger": CSVLogger(self.extra, name="extra"),
            "callbacks": [Epochs(), saves, *dies],
            "plugins": LightningEnvironment(),
            "detect_anomaly": True,
        }

    def callbacks(self) -> list[Callback]:
        return []


def names_in(path: Path) -> set[str]:
    with open(path, encoding="utf-8", newline="") as file:
        return set(next(csv.reader(file)))


def test_what_trainer_kwargs_give_comes_on_top(houses: Path, tmp_path: Path) -> None:
    asked = Watched(data_dir=houses, extra=tmp_path / "logs", max_epochs=4, patience=None, logger=("tensorboard",))
    with pytest.raises(Interrupted):
        runner.run(replace(asked, dies_at=12))  # of five steps an epoch
    (run,) = (path.parent for path in records.runs_dir().glob("*/*/run.json"))
    assert records.load(run)["state"] == "interrupted"
    runner.run(asked, RunOptions(resume=run))
    record = records.load(run)
    assert (record["state"], record["reason"]) == ("done", "max_epochs 4 reached")
    assert {path.name for path in run.glob("checkpoints/*")} == {"best.ckpt", "last.ckpt", "mine.ckpt"}
    assert [epoch for epoch, _, name, _ in records.metrics(run) if name == "val/loss"] == [1, 2, 3, 4]
    assert list(run.glob("events.out.tfevents.*"))
    for number in range(2):
        assert "val/loss" in names_in(tmp_path / f"logs/extra/version_{number}/metrics.csv")
    assert Epochs.ended == 4, "its state is in last.ckpt"


def test_what_trainer_kwargs_give_reaches_the_trainer(tmp_path: Path) -> None:
    asked = Watched(extra=tmp_path)
    callbacks = build_callbacks(asked, Record(tmp_path))
    trainer = build_trainer(asked, callbacks, logger=[MetricsCsv(tmp_path)])
    kinds = [type(callback) for callback in trainer.callbacks]  # pyright: ignore[reportAttributeAccessIssue]
    assert kinds.index(Epochs) < kinds.index(GracefulStop) < kinds.index(Checkpoints)
    assert [type(logger) for logger in trainer.loggers] == [MetricsCsv, CSVLogger]
    assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpointIO)
    assert trainer._accelerator_connector.cluster_environment.__class__ is LightningEnvironment
    assert trainer._detect_anomaly


def test_a_dry_run_and_a_prediction_log_nothing(tmp_path: Path) -> None:
    trainer = build_trainer(Watched(extra=tmp_path), [], logger=False)
    assert trainer.loggers == []
    assert not any(isinstance(one, Epochs) for one in trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]


class OwnParts(Images):
    """A progress bar and a writer of checkpoints of the user's own; Lightning allows one of each."""

    def trainer_kwargs(self) -> dict[str, Any]:
        return {"callbacks": RichProgressBar(), "plugins": [OwnWriter()], "logger": True}


class OwnWriter(WholeCheckpointIO):
    """Another writer."""


def test_of_progress_bars_and_writers_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    callbacks = build_callbacks(OwnParts(), Record(tmp_path))
    trainer = build_trainer(OwnParts(), callbacks, logger=[MetricsCsv(tmp_path)])
    assert isinstance(trainer.progress_bar_callback, RichProgressBar)
    assert type(trainer.strategy.checkpoint_io) is OwnWriter
    assert [type(logger) for logger in trainer.loggers] == [MetricsCsv]


# ------------------------------------------------------------------------------------------------------------ --logger
def test_csv_alone(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = cli.parse(["experiments/tables.py:TableClassification", "--logger", "csv", "--test", "--baselines"])
    (asked,) = command.experiments
    assert isinstance(asked, TableClassification)
    assert commands.run_all([replace(asked, data_dir=houses, target="size", max_epochs=1)], command.flags) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "tensorboard" not in shown.out
    assert "scripts/predict.py" in shown.out
    (run,) = (path.parent for path in records.runs_dir().glob("*/*/run.json"))
    assert not list(run.rglob("events.out.tfevents.*"))
    assert {name for _, _, name, _ in records.metrics(run)} >= {"train/loss", "val/loss"}
    assert {path.name for path in run.glob("predictions_*")} == {"predictions_val.csv", "predictions_test.csv"}
    assert records.load(run).keys() >= {"calibration", "time", "baselines", "per_class"}


def test_csv_alone_for_an_ensemble_and_a_callback_that_draws(houses: Path) -> None:
    run = ensemble(TableLinear(data_dir=houses, target="price", max_epochs=1, logger=("csv",)), 2)
    assert not list(run.rglob("events.out.tfevents.*"))
    run = runner.run(LinearRegression(source="drawn", batch_size=2, max_epochs=1, logger=("csv",)))
    assert (run / "loss_surface.png").is_file()
    assert not list(run.rglob("events.out.tfevents.*"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed(houses: Path, name: Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"lightning.pytorch.loggers.{name}._{name.upper()}_AVAILABLE", False)
    with pytest.raises(InputError, match=rf"--logger {name}: not installed.*\[loggers\]"):
        runner.run(TableLinear(data_dir=houses, target="price", logger=(name,)))
    (path,) = records.runs_dir().glob("*/*/run.json")
    assert records.load(path.parent)["state"] == "failed"


def test_wandb_offline(houses: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    summaries: list[dict[str, Any]] = []
    finish = wandb.sdk.wandb_run.Run.finish

    def seen(self: Any, *args: Any, **kwargs: Any) -> None:
        summaries.append({"id": self.id, "epochs": self.config["max_epochs"], **dict(self.summary)})
        finish(self, *args, **kwargs)

    monkeypatch.setattr(wandb.sdk.wandb_run.Run, "finish", seen)
    asked = TableLinear(data_dir=houses, target="price", max_epochs=1, logger=("wandb",))
    runs = [runner.run(replace(asked, seed=seed)) for seed in (0, 1)]
    assert wandb.run is None
    for run, found in zip(runs, summaries, strict=True):
        assert (found["id"], found["epochs"]) == (f"TableLinear-{run.name}", 1)
        record = records.load(run)
        assert found["best/val/rmse"] == pytest.approx(record["metrics"]["val/rmse"])
        assert found["val/rmse"] == [value for _, _, name, value in records.metrics(run) if name == "val/rmse"][-1]
        assert list(run.glob("wandb/offline-run-*/*.wandb"))
        assert not list(run.rglob("events.out.tfevents.*"))


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow 3.17 with SQLAlchemy 2.1
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the connections that MLflow's pool leaves to the collector
def test_mlflow_in_the_run_directory(houses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    asked = Numbers(data_dir=houses, max_epochs=3, patience=None, logger=("mlflow", "tensorboard"))
    with pytest.raises(Interrupted):
        runner.run(replace(asked, dies_at=8, by=signal.SIGINT))
    (run,) = (path.parent for path in records.runs_dir().glob("*/*/run.json"))
    runner.run(asked, RunOptions(resume=run))
    record = records.load(run)
    with sqlite3.connect(run / "mlflow.db") as store:
        assert store.execute("select run_uuid, name, status from runs").fetchall() == [
            (record["mlflow_run_id"], f"Numbers-{run.name}", "FINISHED")
        ]
        found = dict(store.execute("select key, value from params").fetchall())
        values = dict(store.execute("select key, value from latest_metrics").fetchall())
        curve = [value for (value,) in store.execute("select value from metrics where key = 'val/rmse' order by step")]
    store.close()
    assert found["max_epochs"] == "3"
    assert values["best/val/rmse"] == pytest.approx(record["metrics"]["val/rmse"])
    assert curve == [value for _, _, name, value in records.metrics(run) if name == "val/rmse"]
    assert list(run.glob("events.out.tfevents.*"))
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "runs"}, "nothing in the working directory"


def test_a_tracker_that_cannot_be_reached(houses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://nowhere")
    with pytest.raises(InputError, match=r"--logger mlflow: .*no-such-scheme.* MLFLOW_TRACKING_URI names"):
        runner.run(TableLinear(data_dir=houses, target="price", logger=("mlflow",)))
