"""Half precision throughout: what is predicted, the loss and the metrics keep their digits."""

from __future__ import annotations

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.cats_dogs_finetune import CatsDogsScratch
from experiments.tables import TableRegression
from src.callbacks import Interrupted
from src.configs.spec import DataSpec
from src.experiment import Augment, Optim
from src.runs import records
from src.tasks.objectives import SingleLabel
from src.training import runner
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")


class StopAt(Callback):
    """Asks for a graceful end at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


class Prices(TableRegression):
    """Prices of about 2e6, learnt in seconds."""

    target = "price"
    max_epochs = 15
    accelerator = "cpu"
    logger = ("csv",)
    batch_size = 32
    stops_at: int | None = None

    def callbacks(self) -> list[Callback]:
        return [] if self.stops_at is None else [StopAt(self.stops_at)]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["area", "rooms", "price"])
        for _ in range(400):
            area, rooms = rng.uniform(30, 200), int(rng.integers(1, 7))
            price = 1e6 + 8000 * area + 30_000 * rooms + rng.normal(0, 20_000)
            writer.writerow([f"{area:.1f}", rooms, f"{price:.0f}"])
    return path


def column(path: Path, name: str) -> np.ndarray:
    with open(path, encoding="utf-8", newline="") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


# Adam divides by the root of squared gradients, which float16 rounds to 0; the run says so and ends.
@pytest.mark.parametrize(
    ("precision", "optim"),
    [("bf16-true", Optim(lr=3e-3)), ("16-true", Optim(name="sgd", lr=0.02, weight_decay=0.0))],
)
def test_numbers_keep_their_digits(precision: Any, optim: Optim, prices: Path) -> None:
    runs = [
        runner.run(Prices(data_dir=prices, optim=optim, precision=kind), RunOptions(test=True))
        for kind in ("32-true", precision)
    ]
    exact, half = (records.load(run)["metrics"] for run in runs)
    for split in ("val", "test"):
        targets = [column(run / f"predictions_{split}.csv", "target") for run in runs]
        assert np.array_equal(targets[0], targets[1]), "as they are written"
        assert half[f"{split}/rmse"] == pytest.approx(exact[f"{split}/rmse"], rel=0.2)
        assert half[f"{split}/rmse"] < targets[0].std() / 4, "the premise: it has learnt"
        error = column(runs[1] / f"predictions_{split}.csv", "prediction") - targets[1]
        assert half[f"{split}/rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-9)
    rows = [value for *_, name, value in records.metrics(runs[1]) if name == "val/rmse"]
    assert np.isfinite(rows).all()
    weights = torch.load(runs[1] / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    kinds = {value.dtype for name, value in weights.items() if name.startswith("model.") and value.is_floating_point()}
    assert kinds == {torch.bfloat16 if precision == "bf16-true" else torch.float16}, "the premise"


def test_a_run_goes_on_to_the_bit(prices: Path) -> None:
    experiment = Prices(data_dir=prices, precision="bf16-true", max_epochs=3)
    alone = runner.run(experiment)
    with pytest.raises(Interrupted):
        runner.run(replace(experiment, stops_at=12))
    (stopped,) = [run for run in alone.parent.iterdir() if records.load(run)["state"] == "interrupted"]
    runner.run(experiment, RunOptions(resume=stopped))
    weights = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (alone, stopped)]
    assert all(torch.equal(value, weights[1]["state_dict"][name]) for name, value in weights[0]["state_dict"].items())
    assert records.load(alone)["metrics"] == records.load(stopped)["metrics"]


def test_blended_and_weighted_classes_are_trained(images: Path) -> None:
    experiment = CatsDogsScratch(
        data_dir=images,
        image_size=32,
        batch_size=8,
        max_epochs=1,
        accelerator="cpu",
        precision="bf16-true",
        imbalance="weights",
        augment=Augment(mixup=0.4),
        logger=("csv",),
    )
    metrics = records.load(runner.run(experiment))["metrics"]
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("kind", ["weights", "logit_adjust", "focal"])
def test_counts_of_classes_are_not_rounded(kind: Any) -> None:
    spec = DataSpec(classes=("rare", "common"), class_counts=(1001, 100_000))
    exact, half = SingleLabel(spec), SingleLabel(spec).to(torch.float16)
    outputs, target = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    for objective in (exact, half):
        objective.set_imbalance_strategy(kind)
    assert torch.equal(half.training_loss(outputs, target), exact.training_loss(outputs, target))
