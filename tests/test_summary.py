"""What a run says at its end: only commands that work, and over seeds the mean and the deviation."""

from __future__ import annotations

import contextlib
import io
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import own_home
from sklearn.datasets import load_digits
from torch import nn

from src import cli
from src.cli.commands import run_all
from src.datamodules import Plain
from src.experiment import ClassificationExperiment, DataSpec, Optim
from src.runs import records, summary
from src.tasks import Task
from src.tasks.inputs import PlainInput


class OwnData(ClassificationExperiment):
    """Softmax regression on tensors, which cannot be predicted from files."""

    optim: Optim = Optim(lr=3e-2)
    """Optimiser and schedule."""

    def datamodule(self) -> Plain:
        pixels, digits = map(torch.from_numpy, load_digits(return_X_y=True))
        pixels = pixels.float() / 16
        splits = [(pixels[part], digits[part]) for part in (slice(1200), slice(1200, 1500), slice(1500, None))]
        return Plain(*splits, batch_size=self.batch_size, seed=self.seed)

    def task(self, spec: DataSpec) -> Task:
        return Task(nn.Linear(64, 10), self.objective(spec), PlainInput(), self.optim)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], str]:
    """Records of a command with two seeds, and its output."""
    home = tmp_path_factory.mktemp("seeds")
    experiments = [OwnData(seed=seed, max_epochs=1) for seed in (3, 4)]
    with own_home(home), contextlib.redirect_stdout(io.StringIO()) as out:
        assert run_all(experiments, cli.RunFlags(seeds=(3, 4))) == 0
    found = [records.load(path.parent) for path in home.glob("runs/*/*/run.json")]
    return sorted(found, key=lambda record: record["seed"]), out.getvalue()


def test_seeds_end_with_mean_and_deviation(seeds: tuple[list[dict[str, Any]], str]) -> None:
    found, shown = seeds
    end = shown.partition("OwnData, seeds 3, 4: mean and deviation")[2]
    values = [record["metrics"]["val/acc"] for record in found]
    assert len(set(values)) == 2, "the premise"
    lines = {line.split()[0]: line.split()[1:] for line in end.splitlines() if line.strip()}
    assert lines["val/acc"] == [f"{statistics.mean(values):.4f}", "±", f"{statistics.stdev(values):.4f}"]
    assert lines.keys() == found[0]["metrics"].keys()


def test_a_step_that_cannot_work_is_not_offered(
    seeds: tuple[list[dict[str, Any]], str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    record = seeds[0][0]

    def offered(**data: Any) -> str:
        summary.after(record | {"data": record["data"] | data}, tmp_path / "run")
        return capsys.readouterr().out.partition("\nnext ")[2]

    assert "predict.py" not in offered()
    assert "predict.py" in offered(predicts_files=True)
    sizes = record["data"]["sizes"]
    assert "--test" in offered()
    assert "--test" not in offered(sizes={name: size for name, size in sizes.items() if name != "test"})
    assert "tensorboard" in offered()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    shown = offered()
    assert "tensorboard" not in shown
    assert "--test" in shown
