"""The run says where its time went, and after its first steps how long it will take. Shares are tested, never times."""

from __future__ import annotations

import dataclasses
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import kills
import pytest
import torch
from kills import Numbers, in_process, only_run
from lightning.pytorch.profilers import SimpleProfiler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import Dataset

from src import callbacks, datamodules, tasks
from src.callbacks import stopwatch
from src.callbacks.stopwatch import PARTS, Stopwatch, shares
from src.experiment import DataSpec
from src.runs import hints, records
from src.training import runner

pytestmark = pytest.mark.usefixtures("quiet")


class Sleepy(Dataset[dict[str, Tensor]]):
    """A data set that takes its time over each batch."""

    def __init__(self, inner: Any, seconds: float) -> None:
        self.inner, self.seconds = inner, seconds

    def __getitem__(self, keys: Any) -> dict[str, Tensor]:
        time.sleep(self.seconds)
        return self.inner[keys]


class SleepyTable(datamodules.Table):
    """A table from a slow disk; its validation split is as fast as ever."""

    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        found = super().dataset(split, train=train)
        return Sleepy(found, 0.03) if train else found


class SlowData(Numbers):
    """Waits for its data."""

    max_epochs = 2

    def datamodule(self) -> datamodules.Table:
        return self.table(SleepyTable)


class Dozing(nn.Module):
    """Sleeps before another module's work."""

    def __init__(self, inner: nn.Module, seconds: float) -> None:
        super().__init__()
        self.inner, self.seconds = inner, seconds

    def forward(self, batch: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.inner(batch)


class SlowForward(Numbers):
    """Spends its time in the forward pass."""

    logger = ("tensorboard",)
    max_epochs = 2
    accumulate = 1
    patience = None

    def task(self, spec: DataSpec) -> tasks.Task:
        task = super().task(spec)
        model: Any = task.model
        model.head = Dozing(model.head, 0.03)
        return task


class Profiled(Numbers):
    """Brings a profiler of its own."""

    max_epochs = 1

    def trainer_kwargs(self) -> dict[str, Any]:
        return {"profiler": SimpleProfiler()}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kills.write_table(tmp_path_factory.mktemp("rows") / "table.csv")


def test_waiting_for_data(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = records.load(runner.run(SlowData(data_dir=rows)))
    spent = record["time"]
    assert tuple(spent) == PARTS
    assert sum(spent.values()) == pytest.approx(1)
    assert spent["data"] == max(spent.values())
    assert spent["data"] > hints.MUCH_WAITING
    said = capsys.readouterr().out
    assert re.search(r"training: waiting for data \d+%, forward \d+%, .* checkpoints \d+%, other \d+%", said)
    assert re.search(r"NOTE +\d+% of the training was waiting for data; try more workers \(--num-workers 2\)\n", said)


def test_a_slow_forward(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(SlowForward(data_dir=rows))
    spent = records.load(run)["time"]
    assert spent["forward"] == max(spent.values())
    assert all(spent[part] > 0 for part in PARTS)
    assert "was waiting for data" not in capsys.readouterr().out
    events = EventAccumulator(str(run))
    events.Reload()
    (shown,) = events.Tensors("time/text_summary")
    assert f"forward | {spent['forward']:.1%}" in shown.tensor_proto.string_val[0].decode()


def test_a_validation_is_no_forward_or_data(rows: Path) -> None:
    class SlowValidation(SlowForward):
        validations = 3

        def task(self, spec: DataSpec) -> tasks.Task:
            task = super().task(spec)
            model: Any = task.model
            model.head.register_forward_pre_hook(lambda *_: None if model.training else time.sleep(0.1))
            model.head.seconds = 0.0
            return task

    spent = records.load(runner.run(SlowValidation(data_dir=rows)))["time"]
    assert spent["validation"] > 0.4
    assert spent["forward"] < 0.2


def test_a_profiler_of_the_users_own_wins(rows: Path) -> None:
    assert "time" not in records.load(runner.run(Profiled(data_dir=rows)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_workers": None, "image_size": 224}, ("--num-workers 2", "--image-size 168", "LEYDEN_CACHE")),
        ({"num_workers": 4, "prep": {"max_length": 256}}, ("--num-workers 8", "--prep.max-length 192")),
    ],
)
def test_advice_names_flags_that_there_are(fields: dict[str, Any], words: tuple[str, ...]) -> None:
    said = hints.faster_data({"fields": fields, "time": {"data": 0.41}, "device": "cpu x 1"})
    assert all(word in said for word in (*words, "41%"))
    assert ("--image-size" in said) == ("image_size" in fields)


# ----------------------------------------------------------------------------------------------- a run that goes on
def test_a_resumed_run_adds_up(rows: Path, tmp_path: Path) -> None:
    """It was killed in the last of its steps, so nearly all of its time was spent before."""
    asked = SlowForward(data_dir=rows, max_epochs=3)
    steps = 17  # an epoch
    assert in_process(kills.train, dataclasses.replace(asked, dies_at=3 * steps - 1)) == -signal.SIGKILL
    run = only_run(tmp_path / "runs")
    assert run is not None
    kept = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["TimeShares"]
    assert tuple(kept) == PARTS
    assert kept["forward"] > 0.03 * 2 * steps, "it slept so long"
    assert in_process(kills.go_on, asked, run) == 0
    record = records.load(run)
    assert record["state"] == "done"
    assert sum(record["time"].values()) == pytest.approx(1)
    assert record["time"]["forward"] == max(record["time"].values())


# ------------------------------------------------------------------------------------------------------ the stopwatch
class Clock:
    """A clock that is moved by hand, in the place of `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stopwatch, "time", made)
    return made


def spend(
    watch: Stopwatch, clock: Clock, action: str, seconds: float, within: Callable[[], None] | None = None
) -> None:
    with watch.profile(f"[Strategy]Any.{action}"):
        clock.now += seconds
        if within:
            within()


def fetch(watch: Stopwatch, clock: Clock, seconds: float) -> None:
    watch.start("[_TrainingEpochLoop].train_dataloader_next")
    clock.now += seconds
    watch.stop("[_TrainingEpochLoop].train_dataloader_next")


def test_what_is_within_counts_once(clock: Clock) -> None:
    watch = Stopwatch()
    clock.now += 1  # other
    fetch(watch, clock, 2)
    spend(watch, clock, "optimizer_step", 4, lambda: spend(watch, clock, "training_step", 8))
    spend(watch, clock, "on_train_batch_end", 16)  # other
    watch.enter("validation")
    spend(watch, clock, "batch_to_device", 32)
    spend(watch, clock, "save_checkpoint", 64)
    watch.leave()
    found = watch.seconds()
    assert found == {
        "data": 2,
        "forward": 8,
        "backward": 0,
        "optimiser": 4,
        "validation": 32,
        "checkpoint": 64,
        "other": 17,
    }
    assert sum(shares(found).values()) == pytest.approx(1)


def test_an_error_leaves_the_part(clock: Clock) -> None:
    watch = Stopwatch()
    with pytest.raises(ValueError, match="bad"), watch.profile("[Strategy]Any.training_step"):
        raise ValueError("bad")
    clock.now += 3
    assert watch.seconds()["other"] == 3


def test_an_accelerator_is_waited_for_in_some_steps_alone(clock: Clock) -> None:
    """Its work is queued by the forward pass in no time, and done when somebody waits."""
    watch = Stopwatch()
    queued, waits = 0.0, 0

    def wait() -> None:
        nonlocal queued, waits
        clock.now += queued
        queued, waits = 0.0, waits + 1

    def queue(seconds: float) -> None:
        nonlocal queued
        queued += seconds

    watch.wait = wait
    clock.now += 5  # before the first step
    for _ in range(2 * stopwatch.EVERY):
        fetch(watch, clock, 1)
        spend(watch, clock, "training_step", 0, lambda: queue(2))
        spend(watch, clock, "backward", 0, lambda: queue(5))
    assert waits < 30, "two steps of a hundred"
    watch.enter("validation")
    clock.now += 100
    watch.leave()
    found = watch.seconds()
    steps = 2 * stopwatch.EVERY
    assert found["validation"] == 100
    assert found["data"] == pytest.approx(steps, rel=0.1)
    assert found["forward"] == pytest.approx(2 * steps, rel=0.1)
    assert found["backward"] == pytest.approx(5 * steps, rel=0.1)
    assert found["other"] == pytest.approx(5)
    assert sum(found.values()) == pytest.approx(clock.now)


# ------------------------------------------------------------------------------------------------------- the forecast
class Ticks(SlowForward):
    """Each forward pass takes half a second by the clock of the test, and no other thing takes any."""

    clock: ClassVar[Clock]

    def task(self, spec: DataSpec) -> tasks.Task:
        task = super().task(spec)
        model: Any = task.model
        model.head.seconds = 0.0
        model.head.register_forward_pre_hook(lambda *_: self.clock.sleep(0.5))
        return task


def test_the_forecast_is_right(
    rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(callbacks.forecast, "time", clock)
    monkeypatch.setattr(Ticks, "clock", clock, raising=False)
    at: list[float] = []
    say = callbacks.forecast.spoken
    monkeypatch.setattr(callbacks.forecast, "spoken", lambda seconds: at.append(clock.now) or say(seconds))
    run = runner.run(Ticks(data_dir=rows, max_epochs=4, precision="32-true"))
    took = clock.now - at[0]
    said = re.findall(r"expected +about (\d+) s more; (\d+\.\d) GB of memory so far", capsys.readouterr().out)
    assert len(said) == 1
    assert float(said[0][0]) == pytest.approx(took, rel=0.1)
    assert 0.05 < float(said[0][1]) < 50
    assert records.load(run)["state"] == "done"


def test_a_short_run_gets_no_forecast(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner.run(SlowForward(data_dir=rows, max_epochs=1))
    assert "expected" not in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "words"), [(42.4, "about 42 s"), (750, "about 12 min"), (9000, "about 2.5 h")])
def test_spoken(seconds: float, words: str) -> None:
    assert callbacks.forecast.spoken(seconds) == words
