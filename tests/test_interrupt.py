"""Ctrl-C and SIGTERM: the run ends as interrupted with a checkpoint, says how to go on, and goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.cats_dogs_finetune import CatsDogsScratch
from src import cli, datamodules, tasks
from src.callbacks.graceful_stop import handling, interrupt
from src.cli import commands
from src.experiment import DataSpec, InputError
from src.runs import records
from src.tasks.task import Batch

ROOT = Path(__file__).resolve().parents[1]


class SignalsItself(tasks.ImageClassification):
    """Sends its process a signal in step `at`, `signals` times."""

    at = 8
    number = signal.SIGINT
    signals = 1

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == self.at:
            for _ in range(self.signals):
                os.kill(os.getpid(), self.number)
        return super().training_step(batch, batch_idx)


class SignalsTwice(SignalsItself):
    """An impatient user."""

    signals = 2


class Interrupts(CatsDogsScratch):
    """Stops in the midst of its second epoch, of six steps."""

    image_size = 32
    batch_size = 4
    max_epochs = 3

    at: int = 8
    """Step in which it gets the signal."""
    number: int = signal.SIGINT
    """Which signal."""

    def task(self, spec: DataSpec) -> tasks.ImageClassification:
        task = SignalsItself(super().task(spec).model, spec, self.optim)
        task.at, task.number = self.at, signal.Signals(self.number)
        return task


class InterruptsAtOnce(Interrupts):
    """Does not wait for the step's end."""

    def task(self, spec: DataSpec) -> tasks.ImageClassification:
        return SignalsTwice(super().task(spec).model, spec, self.optim)


class InterruptedSetup(Interrupts):
    """Stops before there is anything to save."""

    def datamodule(self) -> datamodules.CatsDogs:
        os.kill(os.getpid(), self.number)
        return super().datamodule()


def only_run() -> Path:
    (record,) = records.runs_dir().glob("*/*/run.json")
    return record.parent


def last_step(run: Path) -> int:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("number", "exit_code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_signal_from_outside_then_resume(
    images: Path, tmp_path: Path, number: signal.Signals, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--image-size", "32", "--batch-size", "4", "--max-epochs", "100000", "--data-dir", str(images))
    process = warm.start(["scripts/run.py", "experiments/cats_dogs_finetune.py:CatsDogsScratch", *flags])
    try:
        deadline = time.monotonic() + 120
        while not any("val/acc" in path.read_text() for path in tmp_path.glob("runs/*/*/metrics.csv")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no row in metrics.csv"
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == exit_code, err
    assert "Traceback" not in err
    run = only_run()
    assert f"python scripts/run.py --resume {run}" in out
    record = records.load(run)
    assert record["state"] == "interrupted"
    assert signal.Signals(number).name in record["reason"]
    step, rows = last_step(run), records.metrics(run)
    assert step >= 6

    epochs = step // 6 + 2
    command = cli.parse(["--resume", str(run), "--max-epochs", str(epochs)])
    assert commands.run_all(command.experiments, command.flags) == 0
    assert only_run() == run, "in the same directory"
    after = records.load(run)
    assert after["state"] == "done"
    assert after["wall_s"] > record["wall_s"], "the time of both parts"
    assert after["fields"]["max_epochs"] == epochs, "as it was run"
    more = records.metrics(run)
    assert more[: len(rows)] == rows
    curve = [epoch for epoch, _, name, _ in more if name == "val/acc"]
    assert curve == list(range(1, epochs + 1)), "each epoch once"
    assert last_step(run) == 6 * epochs
    capsys.readouterr()

    command = cli.parse(["--resume", str(run)])
    assert commands.run_all(command.experiments, command.flags) != 0
    assert "the run is done" in capsys.readouterr().err
    assert records.load(run)["state"] == "done"


@pytest.mark.parametrize("at", [0, 5, 8, 17], ids=["first step", "end of an epoch", "midst of an epoch", "last step"])
def test_resume_does_each_step_and_epoch_once(images: Path, at: int) -> None:
    assert commands.run_all([Interrupts(data_dir=images, at=at)], cli.RunFlags()) == 130
    run = only_run()
    assert last_step(run) == at + 1
    command = cli.parse(["--resume", str(run)])
    assert commands.run_all(command.experiments, command.flags) == 0
    assert last_step(run) == 18
    rows = records.metrics(run)
    for name in ("train/loss", "val/acc", "val/loss"):
        assert [epoch for epoch, _, found, _ in rows if found == name] == [1, 2, 3], name
    speeds = [value for _, _, name, value in rows if name == "train/samples_per_s"]
    assert len(speeds) == 3
    assert min(speeds) > 1, "the time before the process began is no training"


def test_the_step_ends_and_is_saved(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run_all([Interrupts(data_dir=images), Interrupts(data_dir=images)], cli.RunFlags()) == 130
    run = only_run()  # the second experiment has not begun
    assert records.load(run)["state"] == "interrupted"
    assert last_step(run) == 9
    assert "stopping after this step" in capsys.readouterr().out


def test_a_second_signal_does_not_wait(images: Path) -> None:
    assert commands.run_all([InterruptsAtOnce(data_dir=images)], cli.RunFlags()) == 130
    run = only_run()
    assert records.load(run)["state"] == "interrupted"
    assert last_step(run) == 6, "the epoch before"


def test_slurms_warning_ends_a_run_as_the_others_do(images: Path) -> None:
    """`sbatch --signal USR1@120`; Lightning would requeue the job from its own checkpoint."""
    asked = Interrupts(data_dir=images, number=signal.SIGUSR1)
    assert commands.run_all([asked], cli.RunFlags()) == 128 + signal.SIGUSR1
    run = only_run()
    assert records.load(run)["state"] == "interrupted"
    assert records.load(run)["reason"] == "Interrupted: SIGUSR1"
    assert last_step(run) == 9


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_interrupted_before_training(
    number: signal.Signals, exit_code: int, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run_all([InterruptedSetup(data_dir=images, number=number)], cli.RunFlags()) == exit_code
    run = only_run()
    assert records.load(run)["state"] == "interrupted"
    assert not list(run.glob("checkpoints/*"))
    assert f"nothing to go on with in {run}" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_leaves_the_workers_at_work(images: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches them too, and Slurm's signals do. A dead worker would end the run as failed, its step unsaved."""
    data = CatsDogsScratch(data_dir=images, image_size=32, batch_size=4, num_workers=1).datamodule()
    data.setup("fit")
    with handling(interrupt):
        batches: Any = iter(data.loader("train", train=True))
        next(batches)
        (worker,) = multiprocessing.active_children()
        assert worker.pid
        os.kill(worker.pid, number)
        assert len(list(batches)) == 5, "24 images, of which 4 had been taken"
        del batches
        worker.join(10)
    assert worker.exitcode == 0


def test_a_worker_that_torch_has_not_shut_down_can_be_ended(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its end a process terminates what is left and waits for it."""
    monkeypatch.setattr("src.datamodules.base.GRACE", 1)
    data = CatsDogsScratch(data_dir=images, image_size=32, num_workers=1).datamodule()
    data.setup("fit")
    begin = data.loader("train").worker_init_fn
    assert begin
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()

    def work() -> None:
        begin(0)
        ready.set()
        while True:
            time.sleep(0.01)

    worker = fork.Process(target=work, daemon=True)
    worker.start()
    assert ready.wait(10)
    worker.terminate()
    worker.join(0.5)
    assert worker.is_alive()
    worker.join(10)
    assert worker.exitcode == 0, "else torch would say that it had failed"


def test_workers_of_a_loader_of_ones_own_do_not_stop_the_run() -> None:
    with handling(interrupt):
        batches = iter(DataLoader(range(4), num_workers=1, multiprocessing_context="fork"))  # pyright: ignore[reportArgumentType]
        next(batches)
        (worker,) = multiprocessing.active_children()
        assert worker.pid
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGUSR1)
        assert [int(number) for number in batches] == [1, 2, 3]


def test_signals_are_as_before_afterwards(images: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    commands.run_all([Interrupts(data_dir=images, max_epochs=1)], cli.RunFlags())
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_failed_run_goes_on_too(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: object, *args: object) -> None:
        raise RuntimeError("power cut")

    asked = CatsDogsScratch(data_dir=images, image_size=32, batch_size=4, max_epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr("src.callbacks.EpochLines.on_train_epoch_end", crash)
        assert commands.run_all([asked], cli.RunFlags()) == 1
    run = only_run()
    assert records.load(run)["reason"] == "RuntimeError: power cut"
    command = cli.parse([f"--resume={run}"])
    assert commands.run_all(command.experiments, command.flags) == 0
    record = records.load(run)
    assert (record["state"], record["reason"]) == ("done", "max_epochs 2 reached")


def test_a_run_that_failed_before_training_goes_on_too(images: Path, tmp_path: Path) -> None:
    data = tmp_path / "later"
    asked = CatsDogsScratch(data_dir=data, image_size=32, batch_size=4, max_epochs=1)
    assert commands.run_all([asked], cli.RunFlags()) == 1
    run = only_run()
    data.symlink_to(images)
    command = cli.parse(["--resume", str(run)])
    assert commands.run_all(command.experiments, command.flags) == 0
    assert only_run() == run
    assert records.load(run)["state"] == "done"


@pytest.mark.parametrize("name", ["", "nowhere", "file"])
def test_resume_of_no_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a run")
    with pytest.raises(InputError, match=r"no run \(it has no run.json\)"):
        cli.parse(["--resume", str(tmp_path / name)])
    assert not (tmp_path / "run.json").exists()


def test_resume_of_a_damaged_record(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"experiment": "experiments.images.Im')
    with pytest.raises(InputError, match="damaged record"):
        cli.parse(["--resume", str(tmp_path)])


def test_resume_with_a_damaged_checkpoint(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.run_all([Interrupts(data_dir=images)], cli.RunFlags())
    run = only_run()
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    capsys.readouterr()
    command = cli.parse(["--resume", str(run)])
    assert commands.run_all(command.experiments, command.flags) == 1
    error = capsys.readouterr().err
    assert "last.ckpt" in error
    assert "Traceback" not in error
