"""Two processes on the CPU: one run directory a seed, the metrics of one process, no example twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Script

from experiments.cats_dogs_finetune import CatsDogsScratch
from src.runs import records
from src.training import runner
from src.training.options import RunOptions
from src.training.trainer import quieten

TARGET = "experiments/cats_dogs_finetune.py:CatsDogsScratch"
FLAGS = ("--image-size", "32", "--batch-size", "4", "--max-epochs", "1", "--accelerator", "cpu")


def recorded(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    return [(path.parent, json.loads(path.read_text())) for path in sorted(folder.glob("*/*/run.json"))]


def ids(path: Path) -> list[str]:
    with open(path, encoding="utf-8", newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("strategy", "seeds", "splits"),
    [
        ("ddp", (0, 1), ("val", "test")),
        pytest.param("ddp_spawn", (0,), ("val",), marks=pytest.mark.slow),  # each evaluation spawns anew: half a minute
    ],
)
def test_two_processes(
    script: Script, images: Path, tmp_path: Path, strategy: str, seeds: tuple[int, ...], splits: tuple[str, ...]
) -> None:
    test = "test" in splits
    data = ("--data-dir", images, "--devices", "2", "--strategy", strategy)
    done = script("run.py", TARGET, *FLAGS, *data, *(["--test"] if test else []), "--seeds", *map(str, seeds))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    runs = recorded(tmp_path / "runs")
    assert sorted(record["seed"] for _, record in runs) == list(seeds), "one directory a run"
    folders = {path for path in tmp_path.glob("runs/*/*") if path.is_dir()}
    assert folders == {run for run, _ in runs}
    assert done.stdout.count("CNN") == len(seeds), "one summary a run"

    quieten()
    alone = runner.run(
        CatsDogsScratch(data_dir=images, image_size=32, batch_size=4, max_epochs=1, accelerator="cpu"),
        RunOptions(test=test),
    )
    expected = records.load(alone)
    for run, record in runs:
        assert record["state"] == "done"
        assert record["device"] == "cpu x 2"
        assert record["steps"] == 3, "24 images, 2 processes of batches of 4"
        assert set(record) == set(expected)
        assert set(record["metrics"]) == set(expected["metrics"])
        assert {name for *_, name, _ in records.metrics(run)} | {"train/lr", "train/loss_step"} == {
            name for *_, name, _ in records.metrics(alone)
        } | {"train/lr", "train/loss_step"}
        for split in splits:
            assert ids(run / f"predictions_{split}.csv") == ids(alone / f"predictions_{split}.csv")
            assert set(record["per_class"][split]) == {"classes", "confusion"}
            right = sum(record["per_class"][split]["confusion"][i][i] for i in range(2))
            assert record["metrics"][f"{split}/acc"] == pytest.approx(right / 8, abs=1e-6)
        names = [(epoch, name) for epoch, _, name, _ in records.metrics(run) if name.startswith("val/")]
        assert len(names) == len(set(names)), "one process writes"
        assert (run / "checkpoints" / "best.ckpt").is_file()
        assert (run / "checkpoints" / "last.ckpt").is_file()
        assert list(run.glob("events.*"))


@pytest.mark.slow
def test_averaged_norms_are_validated_as_they_are_saved(script: Script, images: Path, tmp_path: Path) -> None:
    """Each process averages the running statistics of its own batches; those of rank 0 are validated and saved."""
    done = script(
        "run.py", TARGET, *FLAGS, "--data-dir", images, "--devices", "2", "--strategy", "ddp", "--averaging", "ema"
    )
    assert done.returncode == 0, done.stderr
    ((run, record),) = recorded(tmp_path / "runs")
    weights = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert any(name.endswith("running_var") for name in weights), "the premise: it has batch norms"
    (seen,) = [value for _, _, name, value in records.metrics(run) if name == "val/loss"]
    assert record["metrics"]["val/loss"] == pytest.approx(seen, rel=1e-5), "of the checkpoint, by all processes"
