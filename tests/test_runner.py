"""The runner end to end: what a run leaves behind, what reaches the Trainer, why it stops, and what a failure keeps."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from conftest import own_home
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from lightning.pytorch.strategies import DDPStrategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from experiments.cats_dogs_finetune import CatsDogsProbe, CatsDogsScratch
from experiments.images import Images
from src import cli, tasks
from src.callbacks import Every, FiniteLoss
from src.cli import commands
from src.experiment import DataSpec, Experiment, InputError, Optim, from_json, replace
from src.runs import records
from src.tasks.task import Batch, Stage
from src.training import build, runner
from src.training.options import RunOptions
from src.training.trainer import MALLOC_VARIABLES, build_trainer

pytestmark = pytest.mark.usefixtures("quiet")

ROOT = Path(__file__).resolve().parents[1]
SCORES = {"loss", "acc", "balanced_acc", "precision", "recall", "f1", "auroc", "ece"}


class Tiny(CatsDogsScratch):
    """The small CNN at a size for tests: 6 steps an epoch on `images`."""

    image_size = 32
    batch_size = 4
    max_epochs = 1


class TinyImages(Images):
    """Fine-tuning at a size for tests."""

    backbone = "test_resnet"
    weights = "none"
    image_size = 32
    batch_size = 4
    max_epochs = 1


class TinyProbe(CatsDogsProbe):
    """A head on cached features at a size for tests."""

    backbone = "test_resnet"
    weights = "none"
    image_size = 32
    batch_size = 4
    max_epochs = 2
    optim = Optim(lr=0.1, warmup=0.0)


class OneSeedBreaks(Tiny):
    """A bug of the user's that only one seed meets."""

    def task(self, spec: DataSpec) -> tasks.Task:
        if self.seed == 1:
            raise RuntimeError("seed one breaks")
        return super().task(spec)


class NanAtStepEight(tasks.ImageClassification):
    """Loses its loss in the second epoch."""

    def _step(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        out = super()._step(batch, stage)
        if stage == "train" and self.global_step == 8:
            out["loss"] = out["loss"] * math.nan
        return out


class BecomesNan(Tiny):
    """The experiment of `NanAtStepEight`."""

    max_epochs = 3

    def task(self, spec: DataSpec) -> tasks.Task:
        return NanAtStepEight(super().task(spec).model, spec, self.optim)


class NotLookedAt(Callback):
    """Makes the loss of the epoch's second step one that is bad and was not looked at, as happens on an accelerator."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            next(one for one in trainer.callbacks if isinstance(one, FiniteLoss)).bad = torch.tensor(True)


class BadWithinAnEpoch(Tiny):
    """The experiment of `NotLookedAt`."""

    max_epochs = 3

    def callbacks(self) -> list[Any]:
        return [NotLookedAt()]


class Ruined(TinyImages):
    """A solved head that training at an absurd rate makes worse and worse."""

    monitor = "val/loss"
    mode = "min"
    max_epochs = 2
    patience = None
    frozen = 1.0
    optim = Optim(name="sgd", lr=20.0, momentum=0.0, weight_decay=0.0, schedule="constant")


class ThreeSteps(Tiny):
    """Arguments of the Trainer's that no field has."""

    max_epochs = 50

    def trainer_kwargs(self) -> dict[str, Any]:
        return {"max_steps": 3, "accumulate_grad_batches": 2}


@pytest.fixture(scope="module")
def asked(images: Path) -> CatsDogsScratch:
    return CatsDogsScratch(data_dir=images, image_size=32, batch_size=4, max_epochs=3, seed=3)


@pytest.fixture(scope="module")
def done(asked: CatsDogsScratch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that was tested; not to be changed."""
    with own_home(tmp_path_factory.mktemp("done")):
        return runner.run(asked, RunOptions(test=True))


@pytest.fixture(scope="module")
def untested(asked: CatsDogsScratch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but without --test; not to be changed."""
    with own_home(tmp_path_factory.mktemp("untested")):
        return runner.run(asked)


def only_run() -> Path:
    (record,) = records.runs_dir().glob("*/*/run.json")
    return record.parent


def read_json(path: Path) -> Any:
    """As strict readers do: NaN and Infinity are no JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{path}: {constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def weights(run: Path, name: str = "best") -> dict[str, Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def points(run: Path, name: str) -> list[tuple[int, int, float]]:
    return [(epoch, step, value) for epoch, step, found, value in records.metrics(run) if found == name]


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------- what a run leaves behind
def test_run_directory(done: Path, asked: CatsDogsScratch) -> None:
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{4}", done.name)
    assert done.parent.name == "CatsDogsScratch"
    assert [path.name for path in done.parent.parent.iterdir()] == ["CatsDogsScratch"]
    names = {str(path.relative_to(done)) for path in done.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert events
    assert names - events - {"uncommitted.diff"} == {
        "run.json",
        "heartbeat",
        "lock",
        "split.json",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "predictions_val.csv",
        "predictions_test.csv",
        "cats_dogs_finetune.py",
    }
    assert (done / "cats_dogs_finetune.py").read_text() == (ROOT / "experiments/cats_dogs_finetune.py").read_text()


def test_record(done: Path, asked: CatsDogsScratch, images: Path) -> None:
    record = read_json(done / "run.json")
    assert record["experiment"] == "experiments.cats_dogs_finetune.CatsDogsScratch"
    assert CatsDogsScratch.from_json(record["fields"]) == asked
    assert record["seed"] == 3
    assert record["state"] == "done"
    assert record["reason"] == "max_epochs 3 reached"
    assert record["tests_read"] == 1
    assert record["data"]["source"] == f"folder {images}"
    assert record["data"]["sizes"] == {"train": 24, "val": 8, "test": 8}
    assert record["data"]["class_counts"]["val"] == {"cat": 4, "dog": 4}
    assert record["data"]["split"]
    assert len(record["data"]["fingerprint"]) == 16
    assert record["weights"] == {"source": "none (random)"}
    expected = DataSpec(classes=("cat", "dog"), class_counts=(12, 12), input_shape=(3, 32, 32))
    assert from_json(DataSpec, record["spec"]) == expected
    assert record["steps"] == 18
    assert record["device"].startswith(("cpu", "cuda", "mps"))
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["wall_s"] > 0
    assert record["samples_per_s"] > 0
    assert record["host"]
    assert record["pid"] > 0
    assert set(record["metrics"]) == {f"{split}/{name}" for split in ("val", "test") for name in SCORES}


def test_record_has_git(done: Path) -> None:
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    git = read_json(done / "run.json")["git"]
    assert git["commit"] == (head.stdout.strip() if head.returncode == 0 else "")
    assert (done / "uncommitted.diff").exists() == git["dirty"]


def test_split_is_saved_as_ids(done: Path, images: Path) -> None:
    split = read_json(done / "split.json")
    assert {name: len(ids) for name, ids in split.items()} == {"train": 24, "val": 8, "test": 8}
    assert all((images / name).is_file() for ids in split.values() for name in ids)


def test_metrics_csv(done: Path) -> None:
    rows = table(done / "metrics.csv")
    assert list(rows[0]) == ["time", "epoch", "step", "name", "value"]
    names = {row["name"] for row in rows}
    assert {"train/loss", "train/acc", "train/lr", "train/samples_per_s"} <= names
    assert {f"val/{name}" for name in SCORES} <= names
    assert {name.partition("/")[0] for name in names} == {"train", "val"}, "evaluations are no points of the curves"
    assert all(math.isfinite(float(row["value"])) and float(row["time"]) > 1e9 for row in rows)
    assert [epoch for epoch, _, _ in points(done, "val/acc")] == [1, 2, 3]
    assert [epoch for epoch, _, _ in points(done, "train/loss")] == [1, 2, 3]
    assert [step for _, step, _ in points(done, "val/acc")] == [5, 11, 17]


def test_best_is_the_best_of_the_curve(done: Path) -> None:
    record = read_json(done / "run.json")
    curve = points(done, "val/acc")
    epoch, step, value = max(curve, key=lambda point: point[2])
    assert record["best"] == {"name": "val/acc", "mode": "max", "value": value, "epoch": epoch, "step": step}
    assert record["metrics"]["val/acc"] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_csv(done: Path, images: Path, split: str) -> None:
    rows = table(done / f"predictions_{split}.csv")
    assert list(rows[0]) == ["id", "target", "label", "prob_cat", "prob_dog"]
    files = sorted(str(path.relative_to(images)) for path in (images / split).rglob("*.jpg"))
    assert [row["id"] for row in rows] == files
    assert [row["target"] for row in rows] == [Path(name).parent.name for name in files]
    for row in rows:
        prob = {name: float(row[f"prob_{name}"]) for name in ("cat", "dog")}
        assert sum(prob.values()) == pytest.approx(1, abs=1e-5)
        assert prob[row["label"]] == max(prob.values())
    accuracy = sum(row["label"] == row["target"] for row in rows) / len(rows)
    record = read_json(done / "run.json")
    assert record["metrics"][f"{split}/acc"] == pytest.approx(accuracy, abs=1e-6)
    loss = sum(-math.log(float(row[f"prob_{row['target']}"])) for row in rows) / len(rows)
    assert record["metrics"][f"{split}/loss"] == pytest.approx(loss, abs=1e-3)
    found = record["per_class"][split]
    right = [row["label"] for row in rows if row["label"] == row["target"]]
    assert [found["confusion"][i][i] for i in range(2)] == [right.count("cat"), right.count("dog")]
    assert found["classes"]["cat"]["support"] == 4


def test_checkpoints_hold_tensors_and_plain_values(done: Path, asked: CatsDogsScratch) -> None:
    for name in ("best", "last"):
        checkpoint = torch.load(done / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert not checkpoint.get("hyper_parameters")
        task = asked.task(DataSpec(classes=("cat", "dog"), input_shape=(3, 32, 32)))
        task.load_state_dict(checkpoint["state_dict"])
    assert torch.load(done / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 18


def test_what_a_run_says(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run_all([Tiny(data_dir=images)], cli.RunFlags()) == 0
    shown = capsys.readouterr()
    run = only_run()
    for said in (
        f"folder {images}",
        "train     24  (cat 12, dog 12)",
        "CNN",
        "none (random)",
        "adamw, lr 0.003",
        "6 steps",
        "precision",
        "val/acc",
        "max_epochs 1 reached",
        "samples/s",
        f"tensorboard --logdir {run.parent.parent}",
        f"scripts/predict.py {run}",
        f"--resume {run} --test",
    ):
        assert said in shown.out, said
    assert "STAND-IN" not in shown.out
    assert shown.err == ""


def test_stand_in_data_are_loud(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from src.datamodules.synthetic import images

    draw = images.draw_folder
    monkeypatch.setattr(images, "draw_folder", lambda root: draw(root, train=8, val=4, test=4))
    commands.run_all([Tiny(source="drawn")], cli.RunFlags())
    record = records.load(only_run())
    assert record["state"] == "done"
    assert record["data"]["stand_in"] is True
    assert "drawn" in record["data"]["source"]
    shown = capsys.readouterr().out
    assert shown.count("STAND-IN") >= 2, "before and after"


# ------------------------------------------------------------------------------------------------------- the test set
def test_test_set_is_read_only_when_asked(untested: Path) -> None:
    record = read_json(untested / "run.json")
    assert record["tests_read"] == 0
    assert not any(name.startswith("test/") for name in record["metrics"])
    assert set(record["per_class"]) == {"val"}
    assert not (untested / "predictions_test.csv").exists()


def test_resume_with_test_evaluates_and_counts(untested: Path, done: Path, tmp_path: Path) -> None:
    run = shutil.copytree(untested, tmp_path / "CatsDogsScratch" / untested.name)
    kept = {
        name: (run / name).read_bytes() for name in ("metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
    }
    before = read_json(run / "run.json")
    for times in (1, 2):
        command = cli.parse(["--resume", str(run), "--test"])
        assert commands.run_all(command.experiments, command.flags) == 0
        record = read_json(run / "run.json")
        assert record["tests_read"] == times
        assert record["state"] == "done"
        assert {name: (run / name).read_bytes() for name in kept} == kept, "nothing was trained"
    assert len(table(run / "predictions_test.csv")) == 8
    for name in ("best", "reason", "wall_s", "samples_per_s", "fields", "started"):
        assert record[name] == before[name]
    assert record["metrics"] == pytest.approx(read_json(done / "run.json")["metrics"], abs=1e-6)


def test_test_without_test_split_is_refused_before_training(images: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split in ("train", "val"):
        shutil.copytree(images / split, data / split)
    with pytest.raises(InputError, match="no test split"):
        runner.run(Tiny(data_dir=data), RunOptions(test=True))
    run = only_run()
    assert records.load(run)["state"] == "failed"
    assert not (run / "metrics.csv").exists(), "hours of training should not come before this error"


# ------------------------------------------------------------------------------------------- the best checkpoint wins
def test_solved_head_is_validated_and_may_be_best(images: Path) -> None:
    run = runner.run(TinyImages(data_dir=images, optim=Optim(lr=0.0), max_epochs=2, patience=None))
    record = read_json(run / "run.json")
    curve = points(run, "val/acc")
    assert [epoch for epoch, _, _ in curve] == [0, 1, 2]
    assert record["best"]["epoch"] == 0, "a rate of zero makes nothing better"
    assert record["best"]["value"] == curve[0][2]
    _, task = build.build_parts(TinyImages(data_dir=images))
    start = task.state_dict()
    best = weights(run)
    assert not torch.equal(best["model.head.linear.weight"], start["model.head.linear.weight"]), "solved"
    assert all(torch.equal(best[name], value) for name, value in start.items() if ".backbone." in name)


def test_best_checkpoint_is_the_one_evaluated(images: Path) -> None:
    run = runner.run(Ruined(data_dir=images))
    record = read_json(run / "run.json")
    curve = [value for _, _, value in points(run, "val/loss")]
    assert curve[-1] > 1.1 * curve[0], "the premise: training makes this one worse"
    assert record["best"]["value"] == min(curve)
    assert record["metrics"]["val/loss"] == pytest.approx(min(curve), abs=1e-3)
    assert not same(weights(run), weights(run, "last"))
    rows = table(run / "predictions_val.csv")
    loss = sum(-math.log(float(row[f"prob_{row['target']}"])) for row in rows) / len(rows)
    assert loss == pytest.approx(min(curve), abs=1e-3)


def test_probe_trains_the_head_alone_on_features_computed_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    features = tasks.Task.features

    def counted(self: tasks.Task, batch: Batch) -> Tensor:
        batches.append(len(batch["target"]))
        return features(self, batch)

    monkeypatch.setattr(tasks.Task, "features", counted)
    probe = TinyProbe(data_dir=images)
    first = runner.run(probe)
    assert sum(batches) == 24 + 8, "each image of train and val once, in spite of two epochs"
    _, task = build.build_parts(probe)
    start, end = task.state_dict(), weights(first, "last")
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed == {"model.head.linear.weight", "model.head.linear.bias"}
    record = read_json(first / "run.json")
    assert record["model"]["trained"] == sum(value.numel() for name, value in start.items() if ".head." in name)
    assert record["best"]["value"] == pytest.approx(record["metrics"]["val/acc"], abs=1e-6)

    batches.clear()
    second = runner.run(probe)
    assert batches == [4, 4], "from the cache, after a look at the first batch of each split"
    batches.clear()
    assert same(weights(first, "last"), weights(second, "last"))
    runner.run(TinyProbe(data_dir=images, seed=1, max_epochs=1))
    assert sum(batches) == 24 + 8, "another seed has another random backbone"


# ------------------------------------------------------------------------------------------------------ why it stopped
@pytest.mark.parametrize("patience", [1, 2])
def test_patience(images: Path, patience: int) -> None:
    run = runner.run(TinyImages(data_dir=images, optim=Optim(lr=0.0), max_epochs=9, patience=patience))
    assert [epoch for epoch, _, _ in points(run, "val/acc")] == list(range(patience + 1))
    assert records.load(run)["reason"] == f"no better val/acc for {patience} validations"


class Enough(Tiny):
    """Has a mark to reach, and more time than it needs."""

    max_time = "00:01:00:00"

    def callbacks(self) -> list[Any]:
        return [EarlyStopping("val/acc", mode="max", stopping_threshold=0.0)]


def test_a_mark_that_is_reached(images: Path) -> None:
    assert "threshold" in records.load(runner.run(Enough(data_dir=images, max_epochs=9)))["reason"]


def test_max_time(images: Path) -> None:
    run = runner.run(Tiny(data_dir=images, max_epochs=100_000, max_time="00:00:00:01"))
    record = records.load(run)
    assert record["state"] == "done"
    assert record["reason"] == "max_time 00:00:00:01 is over"
    assert record["metrics"]["val/acc"] == pytest.approx(record["best"]["value"], abs=1e-6)


def test_reason_is_true_where_trainer_kwargs_end_the_run(images: Path) -> None:
    run = runner.run(ThreeSteps(data_dir=images))
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert "max_epochs" not in records.load(run)["reason"], "it ran three steps of fifty epochs"


def test_trainer_kwargs_win_over_fields() -> None:
    trainer = build_trainer(ThreeSteps(accumulate=7), [], logger=False)
    assert (trainer.max_steps, trainer.accumulate_grad_batches) == (3, 2)


# -------------------------------------------------------------------------------------------------- fields and Trainer
def test_fields_reach_the_trainer() -> None:
    asked = Tiny(
        accelerator="cpu",
        devices="2",
        num_nodes=3,
        strategy="ddp",
        precision="bf16-true",
        grad_clip=0.5,
        accumulate=4,
        limit_train_batches=5,
        limit_val_batches=6,
        limit_test_batches=7,
        max_time="01:02:03:04",
        max_epochs=8,
        benchmark=False,
    )
    trainer = build_trainer(asked, [], logger=False)
    assert type(trainer.accelerator).__name__ == "CPUAccelerator"
    assert trainer.num_devices == 2
    assert trainer.num_nodes == 3
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.precision == "bf16-true"
    assert trainer.gradient_clip_val == 0.5
    assert trainer.accumulate_grad_batches == 4
    limits = (trainer.limit_train_batches, trainer.limit_val_batches, trainer.limit_test_batches)
    assert limits == (5, 6, 7)
    assert trainer.max_epochs == 8
    (timer,) = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # pyright: ignore[reportAttributeAccessIssue]
    remaining = timer.time_remaining()
    assert remaining is not None
    assert 93_700 < remaining <= 93_784


TOUCHED = """
import resource
import torch
from experiments.breast_cancer import DEFAULT
from src.training.trainer import build_trainer

def faults(mebibytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(mebibytes * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = [faults(48), faults(512)]
build_trainer(DEFAULT(accelerator="cpu"), [], logger=False)
for _ in range(16):  # until malloc has all the sizes that alignment asks of it
    torch.ones(48 * 2**18)
print(*before, faults(48), faults(512))
"""
"""Prints how often the system had to hand out a page for tensors of 48 and of 512 MiB, before there is a Trainer and
after.
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or platform.libc_ver() < ("glibc", "2.35"), reason="of glibc")
@pytest.mark.slow
@pytest.mark.parametrize("variable", [None, "MALLOC_TRIM_THRESHOLD_"])
def test_tensors_of_a_step_get_the_memory_of_the_step_before(variable: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {"LD_PRELOAD", *MALLOC_VARIABLES}}
    environment |= {variable: "131072"} if variable else {}
    done = subprocess.run(
        [sys.executable, "-c", TOUCHED], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    small, large, small_kept, large_kept = map(int, done.stdout.split())
    assert (small_kept < small / 4) == (variable is None), "unless the user has set how much is kept"
    assert large_kept > large / 2, "what is freed in so large a piece goes back to the system"


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [({"amx_bf16": True}, "bf16-mixed"), ({"avx512_bf16": True}, "bf16-mixed"), ({"avx2": True}, "32-true")],
)
def test_precision_auto_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    trainer = build_trainer(Tiny(accelerator="cpu"), [], logger=False)
    assert trainer.precision == chosen
    assert build_trainer(Tiny(accelerator="cpu", precision="64-true"), [], logger=False).precision == "64-true"


def test_limits_accumulation_and_precision_act_in_a_run(images: Path) -> None:
    asked = Tiny(data_dir=images, limit_train_batches=4, limit_val_batches=1, accumulate=2, precision="64-true")
    run = runner.run(asked)
    record = records.load(run)
    assert (record["steps"], record["precision"]) == (2, "64-true")
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert checkpoint["state_dict"]["model.head.linear.weight"].dtype == torch.float64
    assert len(table(run / "predictions_val.csv")) == 4


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_grad_clip_acts_in_mixed_precision(images: Path, name: Literal["adamw", "adam", "sgd"]) -> None:
    optim = Optim(name=name, lr=0.1, weight_decay=0.0, momentum=0.0)
    asked = Tiny(data_dir=images, precision="bf16-mixed", optim=optim, accelerator="cpu")
    clipped = weights(runner.run(replace(asked, grad_clip=1e-12)), "last")
    free = weights(runner.run(asked), "last")
    _, task = build.build_parts(asked)
    start, kernel = task.state_dict(), "model.head.linear.weight"
    if name == "sgd":  # the others divide the gradient's size out
        assert torch.allclose(clipped[kernel], start[kernel], atol=1e-9)
    assert not torch.allclose(free[kernel], clipped[kernel], atol=1e-3)


def test_dry_run_plans_and_writes_nothing(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run_all([Tiny(data_dir=images), TinyImages(data_dir=images)], cli.RunFlags(dry_run=True)) == 0
    shown = capsys.readouterr().out
    for said in ("Tiny, seed 0", "TinyImages, seed 0", "test_resnet", "6 steps", "none (dry run)"):
        assert said in shown
    assert not records.runs_dir().exists()


# -------------------------------------------------------------------------------------------------- same seed, same run
def test_same_seed_same_run(untested: Path, done: Path, asked: CatsDogsScratch) -> None:
    def curves(run: Path) -> list[tuple[int, int, str, float]]:
        return [row for row in records.metrics(run) if row[2] != "train/samples_per_s"]

    assert curves(untested) == curves(done)
    assert same(weights(untested, "last"), weights(done, "last"))
    other = runner.run(replace(asked, seed=4, max_epochs=1))
    assert not same(weights(other, "last"), weights(done, "last"))
    assert points(other, "train/loss")[0] != points(done, "train/loss")[0]
    first, second = (records.load(run)["data"] for run in (other, done))
    assert first == second, "the data and their split do not depend on the seed"


def test_runs_of_the_same_moment_never_share_a_directory() -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: records.create("Tiny"), range(800)))
    assert len(set(folders)) == 800
    assert all(folder.is_dir() for folder in folders)


# --------------------------------------------------------------------------------------------------------- TensorBoard
@pytest.fixture(scope="module")
def events(done: Path) -> EventAccumulator:
    return EventAccumulator(str(done), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def test_tensorboard_scalars(done: Path, events: EventAccumulator) -> None:
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "train/acc", "train/lr", "val/loss", "val/acc"} <= tags
    assert "hp_metric" not in tags
    assert {tag.partition("/")[0] for tag in tags} == {"train", "val"}, "curves, which come first"
    by_epoch = tags - {"train/lr", "train/loss_step"}  # in steps of ten
    assert all(len(events.Scalars(tag)) == 3 for tag in by_epoch), "no single dots"
    shown = [event.value for event in events.Scalars("val/acc")]
    assert shown == pytest.approx([value for _, _, value in points(done, "val/acc")])


def test_tensorboard_pictures(done: Path, events: EventAccumulator) -> None:
    tags = set(events.Tags()["images"])
    assert {"visuals/train/images", "visuals/val/confusion", "visuals/test/confusion"} <= tags
    assert {tag.partition("/")[0] for tag in tags} == {"visuals"}, "which comes after the curves"
    for split in ("val", "test"):
        wrong = any(row["label"] != row["target"] for row in table(done / f"predictions_{split}.csv"))
        assert (f"visuals/{split}/worst" in tags) == wrong
    assert {"visuals/val/worst", "visuals/test/worst"} & tags, "the premise: three tiny epochs leave a mistake"
    assert len(events.Images("visuals/train/images")) == 2, "the first two epochs"
    grid = events.Images("visuals/train/images")[0]
    assert (grid.width, grid.height) == (4 * 34 + 2, 34 + 2), "four images of 32 pixels in a row"


def test_tensorboard_hparams(done: Path, events: EventAccumulator) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]

    found = {
        tag: HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)
        for tag in events.PluginTagToContent("hparams")
    }
    hparams = found["_hparams_/session_start_info"].session_start_info.hparams
    assert hparams["optim.lr"].number_value == pytest.approx(3e-3)
    assert hparams["seed"].number_value == 3
    assert hparams["weights_source"].string_value == "none (random)"
    assert "folder" in hparams["data"].string_value
    assert not any(value.HasField("struct_value") or value.HasField("list_value") for value in hparams.values())
    assert "_hparams_/experiment" not in found, "TensorBoard would show this run's fields and metrics alone"
    metrics = records.load(done)["metrics"]
    assert {"val/acc", "test/acc"} < metrics.keys()
    for name, value in metrics.items():
        assert hparams[f"best/{name}"].number_value == pytest.approx(value)


# ------------------------------------------------------------------------------------------- failures lose nothing else
def test_one_failing_run_is_recorded_and_the_rest_go_on(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiments = [OneSeedBreaks(data_dir=images, seed=seed) for seed in (0, 1, 2)]
    assert commands.run_all(experiments, cli.RunFlags()) == 1
    found = {record["seed"]: record for record in map(read_json, records.runs_dir().glob("*/*/run.json"))}
    assert {seed: record["state"] for seed, record in found.items()} == {0: "done", 1: "failed", 2: "done"}
    assert found[1]["reason"] == "RuntimeError: seed one breaks"
    shown = capsys.readouterr()
    assert "seed one breaks" in shown.err
    assert "1 of 3 runs failed" in shown.err


def test_nan_loss_stops_and_keeps_the_good_checkpoint(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run_all([BecomesNan(data_dir=images)], cli.RunFlags()) == 1
    run = only_run()
    record = read_json(run / "run.json")
    assert record["state"] == "failed"
    error = capsys.readouterr().err
    for said in ("nan", "step 8", "epoch 2", "learning rate 0.00", "--optim.lr"):
        assert said in error
        assert said in record["reason"]
    assert "Traceback" not in error
    for name in ("best", "last"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 6
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_no_checkpoint_is_saved_after_a_bad_loss_that_was_not_looked_at(images: Path) -> None:
    with pytest.raises(InputError, match=r"loss is no finite number at step 5 .*last good checkpoint"):
        runner.run(BadWithinAnEpoch(data_dir=images), RunOptions(checkpoint_every=Every(steps=1)))
    assert torch.load(only_run() / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_absurd_rate_stops(images: Path) -> None:
    asked = Tiny(data_dir=images, optim=Optim(lr=1e30, schedule="constant"))
    with pytest.raises(InputError, match=r"loss is no finite number at step \d+ .*learning rate 1e\+30"):
        runner.run(asked)


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond so many bytes: like a full disk, as root's chmod is not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_keeps_the_checkpoint_before(images: Path, full_disk: Callable[[int], None]) -> None:
    run = runner.run(Tiny(data_dir=images))
    records.Record.read(run).update(state="interrupted")
    checkpoints = run / "checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    full_disk(1_000_000)
    with pytest.raises(InputError, match=r"checkpoints/\w+\.ckpt: the checkpoint cannot be saved"):
        runner.run(Tiny(data_dir=images, max_epochs=2), RunOptions(resume=run))
    full_disk(resource.RLIM_INFINITY)
    assert records.load(run)["state"] == "failed"
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before
    weights(run, "last")


def test_a_moved_run_goes_on_and_keeps_its_best(images: Path, tmp_path: Path) -> None:
    asked = Ruined(data_dir=images, max_epochs=1)
    run = runner.run(asked)
    records.Record.read(run).update(state="interrupted")
    before = records.load(run)["best"]
    moved = run.rename(tmp_path / "elsewhere")
    runner.run(replace(asked, max_epochs=2), RunOptions(resume=moved))
    record = records.load(moved)
    assert (record["state"], record["best"]) == ("done", before)
    assert record["metrics"]["val/loss"] == pytest.approx(before["value"], abs=1e-3)
    assert not run.exists()


@pytest.mark.parametrize("there", [True, False])
def test_resume_of_no_run_writes_nothing_there(tmp_path: Path, images: Path, there: bool) -> None:
    folder = tmp_path / "holiday"
    if there:
        folder.mkdir()
    with pytest.raises(InputError, match="no run"):
        runner.run(Tiny(data_dir=images), RunOptions(resume=folder))
    assert not folder.exists() if not there else not list(folder.iterdir())


def test_resume_on_other_data_is_refused(untested: Path, asked: Experiment, images: Path, tmp_path: Path) -> None:
    run = shutil.copytree(untested, tmp_path / untested.name)
    data = shutil.copytree(images, tmp_path / "data")
    (data / "val" / "cat" / "0000.jpg").unlink()
    with pytest.raises(InputError, match="data has changed"):
        runner.run(replace(asked, data_dir=data), RunOptions(test=True, resume=run))
    record = records.load(run)
    assert (record["state"], record["tests_read"]) == ("done", 0)
