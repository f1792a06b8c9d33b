"""Every experiment on a GPU, in each of the ways that differ there: `make test-gpu`.

Without a GPU all are skipped; `LEYDEN_TEST_ACCELERATOR=cpu python -m pytest -m gpu tests/test_gpu.py` runs the same on
the CPU, to try the tests themselves.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
import torch
from conftest import Script, Tiny
from test_experiments import COMPARED, OTHERS

from src.experiment import ClassificationExperiment, Experiment
from src.runs import records
from src.training import runner
from src.training.options import RunOptions
from src.training.trainer import quieten

pytestmark = pytest.mark.gpu

KINDS = [*COMPARED, *OTHERS]
CLASSIFIERS = [kind for kind in KINDS if issubclass(kind, ClassificationExperiment)]
by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="session")
def accelerator() -> Literal["gpu", "cpu"]:
    """The device that is tested; skips where it is not there."""
    asked = os.environ.get("LEYDEN_TEST_ACCELERATOR", "gpu")
    assert asked in ("gpu", "cpu")
    if asked == "gpu" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    return asked


Train = Callable[..., Path]


@pytest.fixture
def train(tiny: Tiny, accelerator: Literal["gpu", "cpu"]) -> Train:
    """Train an experiment for an epoch of two steps, evaluate it, and return the run, which is complete."""

    def call(kind: type[Experiment], options: RunOptions = RunOptions(), **fields: Any) -> Path:
        quieten()
        small = tiny(kind) | {"max_epochs": 1, "limit_train_batches": 2, "accelerator": accelerator, "devices": "1"}
        run = runner.run(kind(**small | fields), options)
        complete(run, "cuda" if accelerator == "gpu" else "cpu")
        return run

    return call


def complete(run: Path, device: str, devices: int = 1) -> None:
    """Assert that a run was trained there, and left finite scores and predictions."""
    record = records.load(run)
    assert record["state"] == "done"
    assert record["device"] == f"{device} x {devices}"
    assert math.isfinite(record["metrics"]["val/loss"])
    predictions = pd.read_csv(run / "predictions_val.csv").select_dtypes("number")
    assert len(predictions) == record["data"]["sizes"]["val"]
    assert predictions.notna().all(axis=None)
    saved = torch.load(run / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in saved.values())


@by_kind
def test_trains(kind: type[Experiment], train: Train, accelerator: str) -> None:
    record = records.load(train(kind))
    if accelerator == "gpu":
        assert record["matmul_precision"] == "high"
        assert record["precision"] == (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )


@pytest.mark.parametrize("imbalance", ["weights", "sampler"])
@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_against_rare_classes(kind: type[Experiment], imbalance: str, train: Train) -> None:
    train(kind, imbalance=imbalance)


@by_kind
def test_with_averaged_weights(kind: type[Experiment], train: Train) -> None:
    train(kind, averaging="ema")


@by_kind
def test_compiled(kind: type[Experiment], train: Train) -> None:
    torch._dynamo.reset()
    train(kind, compile=True)


@by_kind
def test_in_bfloat16(kind: type[Experiment], train: Train) -> None:
    assert records.load(train(kind, precision="bf16-mixed"))["precision"] == "bf16-mixed"


@by_kind
def test_with_workers(kind: type[Experiment], train: Train) -> None:
    train(kind, num_workers=2)


@by_kind
def test_goes_on(kind: type[Experiment], train: Train, accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its first epoch of two; each epoch is trained once, and ends as if it had never stopped."""

    def crash(self: object, *args: object) -> None:
        raise RuntimeError("power cut")

    fields: dict[str, Any] = {"max_epochs": 2, "precision": "32-true", "matmul_precision": "highest"}
    alone = train(kind, **fields)
    with monkeypatch.context() as patch:
        patch.setattr("src.callbacks.EpochLines.on_train_epoch_end", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            train(kind, **fields)
    (run,) = (path.parent for path in records.runs_dir().glob("*/*/run.json") if path.parent != alone)
    train(kind, RunOptions(resume=run), **fields)
    rows, expected = records.metrics(run), records.metrics(alone)
    measured = [row for row in expected if row[2].startswith("val/")]
    assert [row[:3] for row in rows if row[2].startswith("val/")] == [row[:3] for row in measured]
    weights = [torch.load(each / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for each in (run, alone)]
    exact = accelerator == "cpu"  # a GPU adds in any order
    for name, value in weights[1].items():
        torch.testing.assert_close(weights[0][name], value, rtol=0 if exact else 1e-2, atol=0 if exact else 1e-4)


@by_kind
def test_two_processes(
    kind: type[Experiment], tiny: Tiny, script: Script, accelerator: Literal["gpu", "cpu"], tmp_path: Path
) -> None:
    if accelerator == "gpu" and torch.cuda.device_count() < 2:
        pytest.skip(f"two GPUs are needed, and {torch.cuda.device_count()} is here")
    small = {"max_epochs": 1, "limit_train_batches": 2, "accelerator": accelerator, "devices": 2, "strategy": "ddp"}
    default = {field.name: field.default for field in dataclasses.fields(kind)}
    flags: list[str] = []
    for name, value in (tiny(kind) | small).items():
        if value != default[name]:
            words = value if isinstance(value, tuple) else (value,)
            flags += [f"--{name.replace('_', '-')}", *map(str, words)]
    file = f"{kind.__module__.replace('.', '/')}.py:{kind.__name__}"
    done = script("run.py", file, *flags, fresh=True)
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in (tmp_path / "runs").glob("*/*/run.json"))
    complete(run, "cuda" if accelerator == "gpu" else "cpu", devices=2)
