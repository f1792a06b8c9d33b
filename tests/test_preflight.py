"""`--precision auto` where the processor's flags do not tell: what is measured, kept and taken again."""

from __future__ import annotations

import random
from dataclasses import fields
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from experiments.cats_dogs_finetune import CatsDogsScratch
from src import models, tasks
from src.cli.commands import plan
from src.experiment import DataSpec, replace
from src.inference.batch import predict
from src.resources.cache import cache_dir
from src.runs import records
from src.studies.reproduce import reproduce
from src.training import build, precision, runner
from src.training.options import RunOptions
from src.training.trainer import build_trainer, quieten

UNDECIDED = {"avx512_bf16": True}


@pytest.fixture
def asked(images: Path, monkeypatch: pytest.MonkeyPatch) -> CatsDogsScratch:
    quieten()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: UNDECIDED)
    return CatsDogsScratch(
        data_dir=images, image_size=32, max_epochs=1, batch_size=4, limit_train_batches=2, accelerator="cpu"
    )


def speeds(monkeypatch: pytest.MonkeyPatch, bf16: float) -> None:
    """Let bfloat16 be so many times as fast as single precision."""
    found = {"32-true": 100.0, "bf16-mixed": 100.0 * bf16}
    monkeypatch.setattr(precision.Trial, "speeds", lambda trial: found)
    monkeypatch.setattr(precision, "WORTH", 0.0)


def test_a_short_training_is_sized_once(asked: CatsDogsScratch, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.run(asked)
    monkeypatch.setattr(precision, "Trial", lambda *_: pytest.fail("its time is known"))
    assert "precision_speeds" not in records.load(runner.run(asked))


def trainer_of(asked: CatsDogsScratch) -> Trainer:
    return build_trainer(asked, [], logger=False)


@pytest.mark.parametrize(("bf16", "chosen"), [(0.8, "32-true"), (1.05, "32-true"), (1.5, "bf16-mixed")])
def test_the_clearly_faster_arithmetic_is_taken_and_said(
    asked: CatsDogsScratch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bf16: float,
    chosen: str,
) -> None:
    speeds(monkeypatch, bf16)
    record = records.load(runner.run(asked))
    assert record["precision"] == chosen
    assert record["precision_speeds"] == {"32-true": 100.0, "bf16-mixed": 100.0 * bf16}
    line = f"precision {chosen} (measured in examples/s: 32-true 100, bf16-mixed {100 * bf16:.3g})"
    assert line in capsys.readouterr().out
    plan(asked)
    assert line in capsys.readouterr().out


def test_one_measurement_decides_for_the_machine(asked: CatsDogsScratch, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds(monkeypatch, 1.5)
    runner.run(asked)
    speeds(monkeypatch, 0.5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as in each process of a distributed run
    assert records.load(runner.run(replace(asked, seed=1)))["precision"] == "bf16-mixed"
    assert records.load(runner.run(replace(asked, batch_size=5)))["precision"] == "32-true", "another network or batch"


def test_a_run_that_goes_on_or_is_reproduced_keeps_its_precision(
    asked: CatsDogsScratch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    speeds(monkeypatch, 1.5)
    run = runner.run(asked)
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})  # another machine
    assert reproduce(run, asked)
    assert records.load(runner.run(asked, RunOptions(resume=run, test=True)))["precision"] == "bf16-mixed"
    assert (
        records.load(runner.run(replace(asked, precision="32-true"), RunOptions(resume=run, test=True)))["precision"]
        == "32-true"
    )


def test_predictions_are_computed_as_the_run_was(
    asked: CatsDogsScratch, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, 0.5)  # against what the flags say
    run = runner.run(asked)
    expected = pd.read_csv(run / "predictions_val.csv").set_index("id")["prob_dog"]
    found = pd.read_csv(StringIO(predict(run, [images / "val"], calibrate=False).text))
    names = [str(Path(name).relative_to(images)) for name in found["id"].astype(str)]
    assert np.allclose(found["prob_dog"], expected[names], atol=3e-6, rtol=0), "bfloat16 is not so near"


def test_a_cache_that_cannot_be_written_leaves_the_choice_to_the_flags(
    asked: CatsDogsScratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, 0.5)
    datamodule, task = build.build_parts(asked)
    (cache_dir() / "precision").write_text("no folder")
    assert precision.measured_speeds(asked, task, datamodule, trainer_of(asked)) == {}
    assert records.load(runner.run(asked))["precision"] == "bf16-mixed"


class Logging(tasks.ImageClassification):
    """Logs in its step, as Lightning's tasks do."""

    def _step(self, batch: Any, stage: Any) -> dict[str, torch.Tensor]:
        found = super()._step(batch, stage)
        self.log(f"{stage}/size", float(len(batch["target"])), on_step=False, on_epoch=True, batch_size=1)
        self.log_dict({f"{stage}/double": 2.0 * len(batch["target"])}, on_step=False, on_epoch=True, batch_size=1)
        return found


class WithLogging(CatsDogsScratch):
    """A task of the user's."""

    def task(self, spec: DataSpec) -> tasks.ImageClassification:
        return Logging(models.CNN(spec.num_classes, widths=(4, 8)), spec, self.optim)


def test_a_task_that_logs_in_its_step_is_measured(asked: CatsDogsScratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "WORTH", 0.0)
    record = records.load(runner.run(WithLogging(**{f.name: getattr(asked, f.name) for f in fields(asked)})))
    assert set(record["precision_speeds"]) == {"32-true", "bf16-mixed"}
    assert record["metrics"]["val/size"] == record["metrics"]["val/double"] / 2 > 0


@pytest.mark.parametrize(("kind", "epochs"), [("probe", 1), ("start", 20)])
def test_a_frozen_backbone_takes_each_example_once(asked: CatsDogsScratch, kind: str, epochs: int) -> None:
    asked = replace(asked, max_epochs=20, limit_train_batches=1.0)
    datamodule, task = build.build_parts(asked)
    task.cached_features = cast("Any", kind)
    assert precision.examples(task, datamodule, trainer_of(asked)) == epochs * len(datamodule.ids("train"))


@pytest.mark.parametrize("start_size", [1.0, 0.5])
def test_measuring_leaves_everything_as_it_was(
    asked: CatsDogsScratch, monkeypatch: pytest.MonkeyPatch, start_size: float
) -> None:
    asked = replace(asked, start_size=start_size, augment=replace(asked.augment, mixup=0.2))
    datamodule, task = build.build_parts(asked)
    state = {name: value.clone() for name, value in task.state_dict().items()}
    drawn: list[Any] = [random.getstate(), np.random.get_state(), torch.get_rng_state()]
    monkeypatch.setattr(precision, "WORTH", 0.0)
    found = precision.measured_speeds(asked, task, datamodule, trainer_of(asked))
    assert set(found) == {"32-true", "bf16-mixed"}
    assert min(found.values()) > 0
    assert all(torch.equal(value, state[name]) for name, value in task.state_dict().items())
    assert all(parameter.grad is None for parameter in task.parameters())
    assert random.getstate() == drawn[0]
    now: Any = np.random.get_state()
    assert np.array_equal(now[1], drawn[1][1])
    assert torch.equal(torch.get_rng_state(), drawn[2])
    assert not task.train_metrics["acc"].update_called
    assert datamodule.position == (0, 0)
    assert datamodule.train_dataloader().sampler.done == 0  # pyright: ignore[reportAttributeAccessIssue]


def test_a_measured_run_is_the_run_that_names_its_precision(
    asked: CatsDogsScratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "precision_speeds" not in records.load(runner.run(asked)), "a training of a second is not worth measuring"
    monkeypatch.setattr(precision, "WORTH", 0.0)
    measured = runner.run(asked)
    record = records.load(measured)
    assert record["precision_speeds"]
    named = runner.run(replace(asked, precision=record["precision"]))
    weights = [torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (measured, named)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
