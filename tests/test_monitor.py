"""Any validation metric may choose the checkpoint: as a flag, checked before training, and shown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import leyden
from experiments.images import Images
from experiments.tables import TableClassification, TableMultiLabel
from experiments.texts import TextsLstm
from src import cli, tasks
from src.cli.commands import run_all
from src.datamodules import Fold
from src.experiment import DataSpec, InputError
from src.runs import records
from src.training import runner
from src.training.build import build_data
from src.training.evaluate import absent_classes, all_notes


def flags(houses: Path, *more: str) -> list[str]:
    place = ["experiments/tables.py:TableClassification", "--data-dir", str(houses), "--target", "size"]
    return [*place, "--max-epochs", "2", *more]


def test_a_flag_chooses_and_is_shown(houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = cli.parse(flags(houses, "--monitor", "val/f1", "--mode", "max", "--patience", "5"))
    assert run_all(command.experiments, command.flags) == 0
    (path,) = tmp_path.glob("runs/*/*/run.json")
    record = records.load(path.parent)
    scores = [value for _, _, name, value in records.metrics(path.parent) if name == "val/f1"]
    assert (record["best"]["name"], record["best"]["value"]) == ("val/f1", max(scores))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    assert all(f"val/f1 {score:.4f}" in line for line, score in zip(lines, scores, strict=True))


@pytest.mark.parametrize("more", [(), ("--patience", "1")])
def test_an_unknown_one_is_refused_before_training(
    houses: Path, tmp_path: Path, more: tuple[str, ...], quiet: None
) -> None:
    command = cli.parse(flags(houses, "--monitor", "val/f2", *more))
    with pytest.raises(InputError, match=r"--monitor val/f2: no such metric\. Did you mean val/f1\? There: .*val/loss"):
        runner.run(command.experiments[0])
    (path,) = tmp_path.glob("runs/*/*/run.json")
    assert records.load(path.parent)["state"] == "failed"
    assert records.metrics(path.parent) == []


class Mistaken(TableClassification):
    """Has a monitor of its own, which is not there."""

    monitor = "val/accuracy"


def test_a_classs_own_mistake_is_refused_after_the_first_validation(houses: Path, tmp_path: Path, quiet: None) -> None:
    with pytest.raises(InputError, match=r"--monitor val/accuracy: no such metric"):
        runner.run(Mistaken(data_dir=houses, target="size", max_epochs=2))
    (path,) = tmp_path.glob("runs/*/*/run.json")
    assert {epoch for epoch, *_ in records.metrics(path.parent)} <= {1}


@pytest.mark.parametrize("more", [(), ("--patience", "2")])
def test_a_monitored_nan_chooses_the_last_epoch_and_says_so(
    houses: Path, tmp_path: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a val split with one class there is no AUROC."""
    folder = tmp_path / "split"
    folder.mkdir()
    rows = pd.read_csv(houses)
    large = rows[rows["size"] == "large"]
    rows.drop(large.index[:20]).to_csv(folder / "train.csv", index=False)
    large[:20].to_csv(folder / "val.csv", index=False)
    command = cli.parse(flags(folder, "--monitor", "val/auroc", "--mode", "max", "--max-epochs", "3", *more))
    assert run_all(command.experiments, command.flags) == 0
    (path,) = tmp_path.glob("runs/*/*/run.json")
    record, out = records.load(path.parent), capsys.readouterr().out
    (note,) = [line for line in record["data"]["notes"] if "no example" in line]
    assert note == (
        "val has no example of class small: left out of balanced_acc, recall and auroc, and of precision and f1 unless "
        "predicted; auroc is NaN, which needs two"
    )
    assert f"NOTE       {note}" in out
    assert "val/auroc was NaN in every validation, so best.ckpt is the last epoch" in out
    assert math.isnan(record["best"]["value"])
    assert record["best"]["epoch"] == (2 if more else 3)
    best = torch.load(path.parent / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] + 1 == record["best"]["epoch"]
    assert math.isnan(record["metrics"]["val/auroc"])
    assert record["metrics"]["val/balanced_acc"] == record["metrics"]["val/acc"]
    assert leyden.compare(path.parent)["done"].tolist() == [1]


class NotYet(TableClassification):
    """Has no score at first."""

    monitor = "val/score"
    mode = "max"

    def task(self, spec: DataSpec) -> Any:
        return Scored(super().task(spec).model, self.objective(spec), tasks.inputs.TableInput(), self.optim)


class Scored(tasks.Task):
    """NaN, then 3, 2 and 1."""

    def on_validation_epoch_end(self) -> None:
        self.log("val/score", [math.nan, 3.0, 2.0, 1.0, math.nan, math.nan][self.current_epoch])


def test_the_first_number_after_nan_is_the_best(houses: Path, tmp_path: Path, quiet: None) -> None:
    runner.run(NotYet(data_dir=houses, target="size", max_epochs=5, patience=5))
    (path,) = tmp_path.glob("runs/*/*/run.json")
    best = records.load(path.parent)["best"]
    assert (best["epoch"], best["value"]) == (2, 3.0)
    assert torch.load(path.parent / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("kind", ["texts", "images", "labels"])
def test_a_split_without_a_class_says_so_for_every_input(
    kind: str, tmp_path: Path, texts: Path, photos: Path, tagged: Path
) -> None:
    folder, fold = tmp_path / "split", None
    folder.mkdir()
    if kind == "images":
        (folder / "pictures").symlink_to(photos.parent)
        rows = pd.read_csv(photos)
        label = ["fox" if row < 3 else name for row, name in enumerate(rows["label"])]
        rows.assign(path="pictures/" + rows["path"], label=label).to_csv(folder / "photos.csv", index=False)
        backbone = {"backbone": "test_resnet", "weights": "none", "image_size": 32}
        experiment, fold = Images(data_dir=folder / "photos.csv", **backbone), Fold(4, 5)  # of five, three have a fox
    else:
        rows, column = pd.read_csv(texts if kind == "texts" else tagged, keep_default_na=False), "label"
        without = rows["label"] == "good" if kind == "texts" else ~rows["extras"].str.contains("lift")
        rows[~without.to_numpy() | (rows.index < 60)].to_csv(folder / "train.csv", index=False)
        rows[without.to_numpy() & (rows.index >= 60)].to_csv(folder / "val.csv", index=False)
        table = TableMultiLabel(data_dir=folder, target=("extras",))
        experiment = TextsLstm(data_dir=folder, label_column=column) if kind == "texts" else table
    data = build_data(experiment, fold)
    says = {"texts": "class bad", "images": "class fox", "labels": "label lift"}[kind]
    left_out = "map, and of f1_macro" if kind == "labels" else "balanced_acc, recall and auroc, and of precision and f1"
    note = absent_classes(data)[-1]
    split = "test" if kind == "images" else "val"
    assert note.startswith(f"{split} has no example of {says}: left out of {left_out} unless predicted")
    assert all_notes(data)[-1] == note
